"""timm_model.py: timm builds the same network from it, eps, rounding and gate included; what timm lacks is named."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from handmade import HAND_MADE, tiny
from references import reference
from torch import Tensor, nn

from mnas.errors import BadInput, MissingDependency
from mnas.export.timm import export_timm, load_timm, need_timm, timm_source, timm_weights
from mnas.io.presets import preset_names
from mnas.nn.network import Network, build
from mnas.nn.pretrained import load_reference
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.space import load_space

SIZE = 33  # odd at nearly every stride, so that padding is seen
CLASSES = 7


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small convolutions wait for threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(arch: Architecture, seed: int = 0) -> Network:
    """A network of random weights and statistics of its own, with variances of 0.01, so that an eps of 1e-3 is seen."""
    torch.manual_seed(seed)
    network = Network(arch, CLASSES)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.normal_(0, 0.1 / module.weight[0].numel() ** 0.5)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.5)
            module.momentum = 1.0
        elif isinstance(module, nn.Linear):
            module.weight.data.normal_(0, module.in_features**-0.5)
            module.bias.data.normal_(0, 0.5)
    with torch.no_grad():
        network.train()(images(arch, 8, seed=1))
    return network.eval()


def images(arch: Architecture, count: int = 2, seed: int = 2) -> Tensor:
    return torch.randn(arch.input_shape(count), generator=torch.Generator().manual_seed(seed))


def in_timm(network: Network, arch: Architecture) -> nn.Module:
    """The network that timm builds, without files."""
    module: dict[str, Any] = {"__name__": "timm_model"}
    exec(timm_source(arch, CLASSES), module)
    built: nn.Module = module["build_model"](pretrained=False)
    built.load_state_dict(timm_weights(network.state_dict(), arch))
    return built.eval()


@torch.no_grad()
def difference(network: nn.Module, theirs: nn.Module, arch: Architecture) -> float:
    """The largest difference of two networks' logits."""
    logits = network(images(arch))
    assert (logits[0] - logits[1]).abs().max() > 0.01  # it is no constant
    return float((logits - theirs(images(arch))).abs().max())


@pytest.mark.parametrize("name", zoo.names())
def test_the_zoo_computes_the_same_in_timm(name: str, tmp_path: Path) -> None:
    reference("timm")
    for width in (0.35, 1.0):
        arch = zoo.get(name, width, SIZE)
        network = trained(arch)
        files = export_timm(network, arch, tmp_path, title="a network")
        assert [path.name for path in files] == ["timm_model.py", "timm.safetensors", "timm.safetensors.sha256"]
        theirs = load_timm(files[0])
        assert not theirs.training
        assert difference(network, theirs, arch) < 1e-4


@pytest.mark.parametrize("name", preset_names("search_spaces"))
def test_random_networks_compute_the_same_in_timm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference("timm")
    for module in ("mobilenetv3", "efficientnet"):  # its first weights take most of the time, and are replaced
        monkeypatch.setattr(f"timm.models.{module}.efficientnet_init_weights", lambda network: None)
    space, rng = load_space(name).with_resolutions((SIZE,)), random.Random(3)
    if name == "mnasnet":
        space = space.without("pool")
    for seed in range(12):
        arch = space.sample(rng)
        network = trained(arch, seed)
        assert difference(network, in_timm(network, arch), arch) < 1e-4, arch.to_yaml()


def test_shortcuts_across_pooling_are_refused_where_they_are() -> None:
    space, rng = load_space("mnasnet"), random.Random(0)
    for _ in range(30):
        arch = space.sample(rng)
        pooled = [
            f"stage{i}.layer{j}" for i, row in enumerate(arch.stages, 1) for j, block in enumerate(row, 1)
            if block.skip == "pool"
        ]  # fmt: skip
        if pooled:
            with pytest.raises(BadInput, match=rf"{pooled[0]}: .*pool"):
                timm_source(arch, CLASSES)
        else:
            timm_source(arch, CLASSES)


@pytest.mark.parametrize("arch", [
    HAND_MADE["inverted_residuals"],
    zoo.get("mobilenet_v3_small", 0.5, (40, 72), channels=1),
    zoo.get("mnasnet_a1", 0.75, SIZE, channels=1),
    tiny(Block("conv", 5, 2, 12, "relu6"), Block("sepconv", 3, 2, 20, "hard_swish", se=3)),
    tiny(Block("sepconv", 7, 1, 8, "relu"), Block("mbconv", 5, 1, 8, "relu6", hidden=40), head=Head(24, 0, "relu6")),
    tiny(*(Block("conv", 3, 2, 8, "relu") for _ in range(5)), head=Head(16, 0, "relu")),
    dataclasses.replace(tiny(Block("sepconv", 1, 2, 8, "relu", output_activation="relu")),
                        stem=Block("conv", 5, 2, 8, "hard_swish")),
], ids=["v3", "grey rectangle", "grey mnasnet", "convolutions", "no shortcuts", "64 times smaller", "wide stem"])
def test_parts_that_the_zoo_has_not(arch: Architecture) -> None:
    reference("timm")
    network = trained(arch)
    assert difference(network, in_timm(network, arch), arch) < 1e-4


def test_the_definition_is_timms_own() -> None:
    source = timm_source(zoo.get("mobilenet_v3_small"), 1000)
    for string in ("ds_r1_k3_s2_e1_c16_se0.25_nre", "ir_r1_k3_s2_e4.5_c24_nre", "ir_r2_k5_s1_e6_c40_se0.25_nhs",
                   "cn_r1_k1_s1_c576_nhs"):
        assert f'"{string}"' in source
    assert "eps=0.001)" in source
    assert "gate_layer=nn.Hardsigmoid, rd_round_fn=round_channels" in source
    assert max(map(len, source.splitlines())) <= 120
    assert "rd_round_fn=round\n" in timm_source(zoo.get("mnasnet_small"), 1000)
    assert '"dsa_r5_k3_s1_e1_c512_nr6"' in timm_source(zoo.get("mobilenet_v1"), 1000)


def test_eps_is_part_of_the_definition(tmp_path: Path) -> None:
    """With timm's default of 1e-5 the weights give other logits."""
    reference("timm")
    arch = zoo.get("mobilenet_v3_small", 0.5, SIZE)
    network = trained(arch)
    path, *_ = export_timm(network, arch, tmp_path, title="a network")
    path.write_text(path.read_text().replace("eps=0.001", "eps=1e-05"))
    assert difference(network, load_timm(path), arch) > 0.01


@pytest.mark.parametrize("name", zoo.names())
def test_names_are_the_inverse_of_reading_timms(name: str) -> None:
    arch = zoo.get(name, 0.5, SIZE)
    network = trained(arch)
    again = load_reference(build(arch, CLASSES), timm_weights(network.state_dict(), arch))
    for (key, value), (_, other) in zip(network.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(value, other) or key.endswith("num_batches_tracked"), key


@pytest.mark.parametrize(("arch", "where"), [
    (HAND_MADE["pool_skips"], "stage1.layer1"),
    (HAND_MADE["linear_hidden"], "stage1.layer1"),
    (HAND_MADE["convolutions"], "stage1.layer2"),
    (tiny(Block("conv", 3, 1, 8, "relu"), Block("mbconv", 3, 1, 8, "relu", hidden=12)), "stage1.layer2"),
    (tiny(Block("conv", 3, 1, 8, "relu"), head=Head(16, 12, "relu6")), "head"),
    (tiny(*(Block("conv", 3, 2, 8, "relu") for _ in range(5)), head=Head(0, 16, "relu")), "stage1.layer5"),
    (dataclasses.replace(tiny(Block("conv", 3, 1, 8, "relu")), stem=Block("conv", 3, 1, 8, "relu")), "stem"),
    (dataclasses.replace(tiny(Block("conv", 3, 1, 8, "relu"), head=Head(0, 16, "relu")),
                         stem=Block("conv", 5, 2, 8, "relu")), "stem"),
    (tiny(Block("sepconv", 3, 1, 8, "relu", skip="identity", output_activation="relu")), "stage1.layer1"),
])  # fmt: skip
def test_what_timm_lacks_is_named(arch: Architecture, where: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        export_timm(build(arch, CLASSES), arch, tmp_path, title="a network")
    assert f" {where}: " in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_a_torchvision_that_fits_no_torch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("mnas.export.timm.importlib.import_module", broken)
    with pytest.raises(MissingDependency, match=r"nms does not exist.*torchvision.*torch \d"):
        need_timm()


def test_without_timm_its_pip_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arch = zoo.get("mobilenet_v2", 0.35, SIZE)
    path, *_ = export_timm(build(arch, CLASSES), arch, tmp_path, title="a network")
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependency, match="pip install timm"):
        load_timm(path)
