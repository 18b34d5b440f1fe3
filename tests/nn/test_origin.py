"""Origins read from files: the reference's layouts, winners' folders, pixels normalised otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from random_networks import SIZE, images, output, randomise

from mnas.data.augment import MEAN, STD
from mnas.errors import BadInput
from mnas.io.files import write_atomic
from mnas.nn.network import build
from mnas.nn.origin import best_origin, read_origin
from mnas.space import zoo

SMALL = zoo.get("mobilenet_v3_small", resolution=SIZE)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"state_dict": randomise(build(SMALL, 5)).state_dict(), "epoch": 3}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_the_file_computes_the_same_with_sorted_channels(file: Path) -> None:
    origin = read_origin(file, SMALL, "mine")
    assert origin.name == "mine" and origin.architecture == SMALL
    assert (output(origin.network) - output(randomise(build(SMALL, 5)))).abs().max() < 1e-4


def test_a_winners_folder_brings_its_own_architecture(tmp_path: Path) -> None:
    import safetensors.torch

    arch = zoo.get("mobilenet_v3_small", 0.5, SIZE)
    write_atomic(tmp_path / "architecture.yaml", arch.to_yaml())
    safetensors.torch.save_file(randomise(build(arch, 3)).state_dict(), tmp_path / "weights.safetensors")
    origin = read_origin(tmp_path, SMALL, "winner")
    assert origin.architecture == arch and origin.fits(SMALL)


def test_weights_of_another_network_are_refused(file: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read_origin(file, zoo.get("mobilenet_v3_large", resolution=SIZE), "mine")
    assert str(caught.value).startswith("mine: ") and "\n" not in str(caught.value)


def test_another_normalisation_is_taken_up_by_the_stem(file: Path) -> None:
    usual, unit = read_origin(file, SMALL, "a"), read_origin(file, SMALL, "b", "unit")
    pixels = images(2).sigmoid()
    normalised = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        expected = usual.network.stem(pixels)  # which was trained with pixels in 0..1
        found = unit.network.stem(normalised)
    inside = (..., slice(1, None), slice(1, None))  # the border's zeros mean other pixels
    order = _order(expected[inside], found[inside])
    assert (expected[inside] - found[inside][:, order]).abs().max() < 1e-4


def _order(expected: torch.Tensor, found: torch.Tensor) -> list[int]:
    """Scaled weights may sort the channels otherwise."""
    distances = (expected[:, :, None] - found[:, None]).abs().flatten(3).amax(3).amax(0)
    return distances.argmin(1).tolist()


def test_the_first_origin_that_fits_is_taken(file: Path) -> None:
    origin = read_origin(file, SMALL, "mine")
    assert best_origin([origin], zoo.get("mobilenet_v3_small", 0.75, 48)) is origin
    assert best_origin([origin], zoo.get("mobilenet_v3_large", resolution=48)) is None
