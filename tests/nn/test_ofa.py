"""Once-for-all's supernets: every subnet computes what OFA's own code computes with the same file."""

from __future__ import annotations

import functools
import itertools
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from ofa_names import ofa_named
from random_networks import begin
from references import once_for_all
from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.nn.network import build
from mnas.nn.ofa import is_ofa, load_ofa
from mnas.nn.pretrained import bn_eps_of
from mnas.nn.supernet import Supernet, has_kernel_transforms
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace, load_space

CLASSES = 6
SPACES = {1.0: "ofa_mbv3_w1.0", 1.2: "ofa_mbv3"}
DEPTHS, KERNELS, EXPANSIONS = (2, 3, 4), (3, 5, 7), (3, 4, 6)


def images() -> Tensor:
    return torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(2))


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Random weights and kernel transforms, so that each of them matters; small ones, so that eps is seen."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("_matrix"):
            tensor.copy_(torch.eye(len(tensor)) + 0.1 * noise)
        elif name.endswith("bn.weight"):
            tensor.copy_(1 + 0.2 * noise)
        elif tensor.ndim == 1:
            tensor.copy_(0.3 * noise)
        elif tensor.ndim > 1:
            tensor.copy_(noise * (1 if "classifier" in name else 0.1) / tensor[0].numel() ** 0.5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0


@functools.cache
def theirs(width: float) -> Any:
    """OFA's network, with the statistics of the subnet that ran last in `calibrate`."""
    torch.manual_seed(0)
    network = once_for_all().OFAMobileNetV3(
        n_classes=CLASSES, dropout_rate=0, width_mult=width, ks_list=[*KERNELS], expand_ratio_list=[*EXPANSIONS],
        depth_list=[*DEPTHS],
    )  # fmt: skip
    randomise(network)
    return network


def loaded(width: float) -> Supernet:
    return load_ofa(theirs(width).state_dict()).eval()


def older(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the names of the published files."""
    return {
        name.replace(".conv.", ".mobile_inverted_conv.", 1) if name.startswith("blocks.") else name: tensor
        for name, tensor in state.items()
    }


Settings = tuple[list[int], list[int], list[int]]


def drawn(seed: int) -> Settings:
    """Depths of five stages, kernels and expansions of twenty layers."""
    rng = random.Random(seed)
    return (
        rng.choices(DEPTHS, k=5), rng.choices(KERNELS, k=20), rng.choices(EXPANSIONS, k=20)
    )  # fmt: skip


SETTINGS = [
    ([4] * 5, [7] * 20, [6] * 20), ([2] * 5, [3] * 20, [3] * 20), ([3] * 5, [5] * 20, [4] * 20),
    *map(drawn, range(9)),
]  # fmt: skip
"""In the random ones every layer has every kernel and expansion, and every stage every depth."""


def in_space(space: SearchSpace, settings: Settings) -> Architecture:
    depths, kernels, expansions = settings
    choices: dict[str, Any] = {"resolution": 224}
    for stage in range(5):
        choices[f"stage{stage + 2}.depth"] = depths[stage]
        for layer in range(4):
            name = f"stage{stage + 2}.layer{layer + 1}"
            choices[f"{name}.kernel"] = kernels[4 * stage + layer]
            choices[f"{name}.expansion"] = expansions[4 * stage + layer]
    return space.decode(choices)


@torch.no_grad()
def their_output(width: float, settings: Settings) -> Tensor:
    depths, kernels, expansions = settings
    network = theirs(width).eval()
    network.set_active_subnet(ks=kernels, e=expansions, d=depths)
    logits: Tensor = network(images())
    return logits


def calibrate(width: float, settings: Settings) -> None:
    """Give OFA's network the statistics of a subnet."""
    their_output(width, settings)
    with torch.no_grad():
        theirs(width).train()(images())
    theirs(width).eval()


@torch.no_grad()
def logits(supernet: Supernet, arch: Architecture) -> Tensor:
    out: Tensor = supernet(images(), arch)
    return out


def test_the_settings_cover_every_choice() -> None:
    depths, kernels, expansions = (list(zip(*rows, strict=True)) for rows in zip(*SETTINGS, strict=True))
    for options, columns in ((DEPTHS, depths), (KERNELS, kernels), (EXPANSIONS, expansions)):
        assert all(set(column) == set(options) for column in columns)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("width", SPACES)
def test_every_subnet_computes_what_ofa_computes(width: float, settings: Settings) -> None:
    calibrate(width, settings)
    supernet = loaded(width)
    arch, expected = in_space(supernet.space, settings), their_output(width, settings)
    assert (expected[0] - expected[1]).abs().max() > 0.01  # it is no constant
    assert (logits(supernet, arch) - expected).abs().max() < 1e-4
    with torch.no_grad():
        assert (supernet.extract(arch)(images()) - expected).abs().max() < 1e-4


def test_the_kernel_transforms_matter() -> None:
    for settings, differs in zip(SETTINGS[:3], (False, True, True), strict=True):
        calibrate(1.0, settings)
        plain, state = Supernet(loaded(1.0).space, CLASSES).eval(), loaded(1.0).state_dict()
        plain.load_state_dict({name: tensor for name, tensor in state.items() if not has_kernel_transforms([name])})
        arch = in_space(plain.space, settings)
        assert ((logits(plain, arch) - their_output(1.0, settings)).abs().max() > 1e-2) == differs


@pytest.mark.parametrize("wrap", [
    older,
    lambda state: {"state_dict": older(state)},
    lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 1},
    lambda state: dict(reversed(older(state).items())),
    lambda state: {name.replace(".conv.conv.weight", ".conv.weight").replace(".bn.bn.", ".bn."): tensor
                   for name, tensor in older(state).items()},
])  # fmt: skip
def test_names_of_every_version(wrap: Callable[[Mapping[str, Tensor]], Mapping[str, Any]]) -> None:
    state = wrap(theirs(1.0).state_dict())
    assert is_ofa(state) and bn_eps_of(state) == 1e-5
    supernet = load_ofa(state)
    expected = loaded(1.0).state_dict()
    assert supernet.num_classes == CLASSES
    assert all(torch.equal(tensor, expected[name]) for name, tensor in supernet.state_dict().items())


# --- files


@pytest.fixture(params=SPACES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[float, Path]:
    """A width, and a file as published: without a suffix."""
    calibrate(request.param, SETTINGS[5])
    path = tmp_path / f"ofa_mbv3_d234_e346_k357_w{request.param}"
    torch.save({"state_dict": older(theirs(request.param).state_dict())}, path)
    return request.param, path


def test_a_file_fills_its_space(file: tuple[float, Path], caplog: pytest.LogCaptureFixture) -> None:
    width, path = file
    assert bn_eps_of(path) == 1e-5
    space = load_space(SPACES[width])
    assert space.file.bn_eps == 1e-5
    supernet = Supernet(space, CLASSES, kernel_transforms=True).eval()
    with caplog.at_level(logging.INFO, "mnas"):
        begin(supernet, path)
    assert [record.args for record in caplog.records] == [(space.name, 100.0, "")]
    for settings in SETTINGS[5:7]:
        assert (logits(supernet, in_space(space, settings)) - their_output(width, settings)).abs().max() < 1e-4


def test_other_classes_keep_their_classifier(file: tuple[float, Path], caplog: pytest.LogCaptureFixture) -> None:
    width, path = file
    supernet = Supernet(load_space(SPACES[width]), 3, kernel_transforms=True).eval()
    before = {name: tensor.clone() for name, tensor in supernet.head[-1].state_dict().items()}
    with caplog.at_level(logging.INFO, "mnas"):
        begin(supernet, path)
    assert "classifier" in caplog.text
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.head[-1].state_dict().items())
    expected = loaded(width).state_dict()
    body = {name: tensor for name, tensor in supernet.state_dict().items() if not name.startswith("head.3")}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in body.items())


def test_grey_images_and_half_precision(tmp_path: Path) -> None:
    settings = SETTINGS[4]
    calibrate(1.0, settings)
    torch.save({name: tensor.half() for name, tensor in theirs(1.0).state_dict().items()}, tmp_path / "half.pth")
    space = load_space("ofa_mbv3_w1.0").with_channels(1)
    supernet = Supernet(space, CLASSES, kernel_transforms=True).eval()
    begin(supernet, tmp_path / "half.pth")
    grey = images()[:, :1]
    with torch.no_grad():
        own = supernet(grey, replace(in_space(loaded(1.0).space, settings), channels=1))
        expected = loaded(1.0)(grey.expand(-1, 3, -1, -1), in_space(loaded(1.0).space, settings))
    assert own.dtype == torch.float32 and (own - expected).abs().max() < 0.05


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_v3_large_begins_as_what_it_shares(tmp_path: Path, eps: float, caplog: pytest.LogCaptureFixture) -> None:
    calibrate(1.0, ([3, 4, 4, 3, 4], [7] * 20, [6] * 20))
    torch.save({"state_dict": theirs(1.0).state_dict()}, tmp_path / "ofa.pth")
    supernet = Supernet(load_space("v3_large").with_bn_eps(eps), CLASSES, kernel_transforms=True).eval()
    with caplog.at_level(logging.INFO, "mnas"):
        arch = begin(supernet, tmp_path / "ofa.pth")
    name, share, fresh = caplog.records[-1].args or ()
    assert name == "ofa_mbv3_w1.0" and 90 < share < 97 and "stage2.layer1.se" in fresh and "stage3" not in fresh
    assert [len(stage) for stage in arch.stages] == [1, 3, 4, 4, 3, 4] and arch in supernet.space
    settings: Settings = ([3, 4, 4, 3, 4], [7] * 20, [6] * 20)
    assert ((logits(supernet, arch) - their_output(1.0, settings)).abs().max() < 1e-4) == (eps == 1e-5)
    kernels = [7, 5, 3, 3] * 5
    settings = ([3, 4, 4, 3, 4], kernels, [6] * 20)
    rows = tuple(
        tuple(replace(block, kernel=kernel) for block, kernel in zip(row, kernels, strict=False))
        for row in arch.stages[1:]
    )  # fmt: skip
    smaller = replace(arch, stages=(arch.stages[0], *rows))
    assert ((logits(supernet, smaller) - their_output(1.0, settings)).abs().max() < 1e-4) == (eps == 1e-5)


@pytest.mark.parametrize(("width", "space", "way_out"), [
    (1.0, "ofa_mbv3", "ofa_mbv3_w1.0"), (1.2, "v3_large", "ofa_mbv3"), (1.0, "v3_small", "ofa_mbv3_w1.0"),
    (1.0, "v2", "ofa_mbv3_w1.0"),
])  # fmt: skip
def test_another_space_is_refused(width: float, space: str, way_out: str, tmp_path: Path) -> None:
    torch.save(theirs(width).state_dict(), tmp_path / "ofa.pth")
    with pytest.raises(BadInput) as caught:
        begin(Supernet(load_space(space), CLASSES), tmp_path / "ofa.pth")
    message = str(caught.value)
    assert message.startswith(str(tmp_path)) and message.endswith(f"--space {way_out}") and "\n" not in message


# --- without OFA's package


@pytest.fixture(scope="module")
def ofa_names() -> dict[str, Tensor]:
    return ofa_named(Supernet(load_space("ofa_mbv3_w1.0"), CLASSES, kernel_transforms=True))


def test_loads_without_the_package(ofa_names: dict[str, Tensor]) -> None:
    assert is_ofa(ofa_names) and ofa_named(load_ofa(ofa_names)).keys() == ofa_names.keys()
    assert not is_ofa(build(zoo.get("mobilenet_v3_large")).state_dict()) and not is_ofa([1, 2])


@pytest.mark.parametrize(("change", "said"), [
    (lambda w: w.pop("blocks.3.conv.depth_conv.conv.7to5_matrix"), "7to5_matrix"),
    (lambda w: w.pop("blocks.20.conv.point_linear.bn.running_var"), "blocks.20.conv.point_linear.bn.running_var"),
    (lambda w: w.pop("classifier.linear.weight"), "classifier.linear.weight"),
    (lambda w: w.update({"first_conv.conv.weight": torch.zeros(32, 3, 3, 3)}), "32 channels"),
    (lambda w: w.update({"first_conv.conv.weight": torch.zeros(24, 3, 3, 3)}), "of shape (24,)"),
    (lambda w: w.update({"blocks.21.conv.point_linear.bn.weight": torch.zeros(1)}), "blocks.21"),
    (lambda w: [w.pop(name) for name in [*w] if name.startswith("final_expand")], "another network"),
])  # fmt: skip
def test_what_is_not_published_is_refused(
    change: Callable[[dict[str, Tensor]], Any], said: str, ofa_names: dict[str, Tensor]
) -> None:
    weights = dict(ofa_names)
    change(weights)
    with pytest.raises(BadInput) as caught:
        load_ofa(weights)
    assert said in str(caught.value) and "ofa_mbv3_d234_e346_k357_w1.0" in str(caught.value)


def test_ofa_resnets_are_refused() -> None:
    weights = {"input_stem.0.conv.weight": torch.zeros(24, 3, 3, 3), "classifier.linear.weight": torch.zeros(9, 9)}
    assert is_ofa(weights)
    with pytest.raises(BadInput, match="another network"):
        load_ofa(weights)


# --- kernel transforms


def with_identities(space: SearchSpace) -> tuple[Supernet, Supernet]:
    torch.manual_seed(3)
    plain = Supernet(space, CLASSES)
    torch.manual_seed(3)
    return plain, Supernet(space, CLASSES, kernel_transforms=True)


@pytest.mark.parametrize("name", ["v3_small", "mnasnet", "ofa_mbv3_w1.0"])
def test_identities_change_nothing(name: str) -> None:
    space = load_space(name).with_resolutions((32,))
    plain, transformed = with_identities(space)
    state = transformed.state_dict()
    assert {key for key in state if not has_kernel_transforms([key])} == plain.state_dict().keys()
    assert has_kernel_transforms(state) and not has_kernel_transforms(plain.state_dict())
    for seed in range(4):
        arch = space.sample(random.Random(seed))
        assert (logits(plain.eval(), arch) - logits(transformed.eval(), arch)).abs().max() < 1e-6
    again = Supernet(space, CLASSES, has_kernel_transforms(state))
    again.load_state_dict(safetensors.torch.load(safetensors.torch.save(state)))


def test_matrices_learn_and_are_extracted() -> None:
    space = load_space("v3_small").with_resolutions((32,))
    supernet = Supernet(space, CLASSES, kernel_transforms=True)
    arch = next(a for a in map(space.sample, map(random.Random, itertools.count())) if a.stages[1][0].kernel == 3)
    supernet(images(), arch).square().sum().backward()
    name = "stages.1.0.mbconv.conv_dw.5to3_matrix"
    grad = supernet.get_parameter(name).grad
    assert grad is not None and grad.any()
    with torch.no_grad():
        supernet.get_parameter(name).add_(0.1)
    supernet.eval()
    with torch.no_grad():
        assert (supernet.extract(arch)(images()) - supernet(images(), arch)).abs().max() < 1e-5
    network = build(arch, CLASSES).eval()
    supernet.inherit(network, arch)
    with torch.no_grad():
        assert (network(images()) - supernet(images(), arch)).abs().max() < 1e-5
