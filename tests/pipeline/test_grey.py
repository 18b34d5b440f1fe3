"""Networks for grey images: one channel from the space to the exported file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import mnas
from mnas.data.images import decode
from mnas.data.reading import Reading
from mnas.data.splits import ArraySplit
from mnas.errors import BadInput
from mnas.nn.supernet import Supernet


def test_architectures_state_their_channels() -> None:
    grey, colour = (mnas.zoo.get("mobilenet_v3_small", resolution=64, channels=channels) for channels in (1, 3))
    assert grey != colour and grey.id != colour.id
    assert mnas.Architecture.from_yaml(grey.to_yaml()) == grey
    assert "channels" not in colour.to_yaml().partition("stem:")[0]
    assert (grey.layers()[0].in_channels, grey.layers()[0].takes_images) == (1, True)
    stem = 2 * 3 * 3 * grey.stem.channels
    assert mnas.cost(colour).params - mnas.cost(grey).params == stem
    with pytest.raises(BadInput, match="channels 2"):
        mnas.zoo.get("mobilenet_v3_small", channels=2)


def test_a_space_of_grey_images(tiny: Path) -> None:
    import random

    space = mnas.load_space(tiny).with_channels(1)
    arch = space.sample(random.Random(0))
    assert arch.channels == 1 and arch in space and arch not in mnas.load_space(tiny)
    assert space.decode(space.encode(arch)) == arch
    images = torch.rand(2, 1, arch.resolution, arch.resolution)
    supernet = Supernet(space, 5).eval()
    with torch.inference_mode():
        assert torch.equal(supernet(images, arch), supernet(images.repeat(1, 3, 1, 1), arch))


def test_published_weights_are_summed() -> None:
    grey, colour = (
        mnas.build(mnas.zoo.get("mobilenet_v3_small", 0.35, 32, channels=channels), 10).eval() for channels in (1, 3)
    )
    mnas.load_reference(grey, colour.state_dict())
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(grey(images), colour(images.repeat(1, 3, 1, 1)))


def test_files_and_arrays_become_the_same_grey(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    reading = Reading(channels=1)
    of_file = decode(tmp_path / "x.png", 16, reading)
    of_array = ArraySplit(pixels[None], np.zeros(1, int), reading=reading).fetch([0], 0)[0].permute(1, 2, 0).numpy()
    assert (of_file == of_array).all() and (of_file[..., :1] == of_file).all()


def test_a_search(whole_search: Callable[..., mnas.Result]) -> None:
    result = whole_search(channels=1, latency=None, estimator="supernet", latency_ms=50, set={
        "recipe.epochs": 1, "recipe.images": 100, "supernet.epochs": 1, "supernet.images": 128, "references": 1,
        "max_table_error": 5.0,
    }, trials=2, baseline=[])  # fmt: skip
    folder = result.winner.folder
    assert result.winner.architecture.channels == 1
    spec = json.loads((folder / "preprocessing.json").read_text())
    size = result.winner.architecture.resolution
    assert spec["input"]["shape"] == ["batch", 1, size, size] and len(spec["normalise"]["mean"]) == 1
    images = np.random.default_rng(0).normal(size=(2, 1, size, size)).astype(np.float32)
    (logits,) = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"]).run(
        None, {"images": images}
    )
    with torch.inference_mode():
        expected = result.winner.load()(torch.from_numpy(images))
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=0)
    assert "torch.zeros(1, 1, " in (folder / "model.py").read_text()
    assert "grey" in (folder / "README.md").read_text()
