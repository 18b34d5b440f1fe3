"""Heads for segmentation and detection: their layers, and costs that are those of the built networks."""

from __future__ import annotations

import itertools
import pickle
import random
from array import array
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import mnas
from mnas.errors import BadInput
from mnas.nn.dense import dense_network, network_for
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.cost import cost
from mnas.space.dense import DenseHead
from mnas.space.layer import layer_of

HEADS: list[Any] = ["lraspp", "deeplabv3", "ssdlite"]
SPACE = """
name: dense
reference: mobilenet_v3_small
resolution: [64, 96]
width: [0.5, 1.0]
stem: {channels: 16, kernel: 3, stride: 2, activation: relu}
stages:
  - {channels: 16, stride: 2, depth: 1, kernel: 3, activation: relu}
  - {channels: [24, 32], stride: 2, depth: [1, 2], kernel: [3, 5], expansion: 3, activation: relu}
  - {channels: [40, 56], stride: 2, depth: 1, kernel: 3, expansion: 3, activation: relu}
  - {channels: 96, stride: 2, depth: 1, operator: [mbconv, sepconv], kernel: 3, expansion: [3, 4], activation: relu}
  - {channels: [64, 88], stride: 1, depth: 1, kernel: 3, expansion: 2, activation: relu}
head: {channels: 96}
"""
"""With a choice of each thing that a head's layer depends on."""


@pytest.fixture
def space(tmp_path: Any) -> mnas.SearchSpace:
    path = tmp_path / "dense.yaml"
    path.write_text(SPACE)
    return mnas.load_space(path)


def v3_large(head: str, resolution: Any = 224) -> Architecture:
    arch = zoo.get("mobilenet_v3_large", resolution=resolution)
    return zoo.reduced_tail(arch) if head == "ssdlite" else arch


GOLDEN = [  # parameters are torchvision's; MAdds and bytes are counted below
    ("lraspp", 224, 3_221_538, 379_281_312, 4_280_640), ("deeplabv3", 224, 11_025_477, 1_882_169_120, 4_231_248),
    ("ssdlite", 320, 3_440_060, 583_171_904, 8_192_000),
]  # fmt: skip


@pytest.mark.parametrize(("head", "resolution", "params", "madds", "activation_bytes"), GOLDEN)
def test_torchvisions_networks(head: Any, resolution: int, params: int, madds: int, activation_bytes: int) -> None:
    counted = mnas.cost(v3_large(head, resolution), DenseHead(head))
    assert (counted.params, counted.madds, counted.activation_bytes) == (params, madds, activation_bytes)
    assert counted == mnas.cost(v3_large(head, resolution), DenseHead(head, 91 if head == "ssdlite" else 21))


ODD = Architecture(
    (70, 101), Block("conv", 3, 2, 6, "relu"),
    ((
        Block("sepconv", 3, 2, 8, "relu"),
        Block("mbconv", 5, 2, 12, "relu", hidden=20, se=4),
        Block("mbconv", 3, 1, 12, "relu", hidden=30, skip="identity"),
        Block("sepconv", 5, 2, 14, "relu", skip="pool"),
        Block("mbconv", 1, 2, 18, "hard_swish", hidden=40, skip="pool"),
        Block("conv", 3, 1, 18, "relu", skip="identity"),
    ),),
    Head(0, 0, "none"), channels=1,
)  # fmt: skip
CASES = [
    *itertools.product(HEADS, ["mobilenet_v3_small", "odd"], [0]), ("ssdlite", "mobilenet_v1", 0),
    ("lraspp", "odd", 8), ("deeplabv3", "mobilenet_v2", 32),
]  # fmt: skip


def arch_of(name: str) -> Architecture:
    return ODD if name == "odd" else zoo.get(name, width=0.5, resolution=(64, 96))


@pytest.mark.parametrize(("head", "name", "stride"), CASES)
def test_costs_are_those_of_the_built_network(head: Any, name: str, stride: int) -> None:
    arch, outputs = arch_of(name), DenseHead(head, 7, stride)
    with torch.device("meta"):
        network, whole = network_for(arch, outputs), dense_network(arch, outputs)
        images = torch.empty(arch.input_shape(1))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images)
    found = cost(arch, outputs)
    assert found.madds == counter.get_total_flops() // 2
    for one in (network, whole):
        assert found.params == sum(parameter.numel() for parameter in one.parameters())
    assert found.activation_bytes == 4 * peak(network, images)


ALLOCATE = {"convolution", "upsample_bilinear2d", "mean", "cat", "clone", "avg_pool2d"}
"""Operations whose output is memory of its own; the others work in place, or give a view."""


def peak(network: torch.nn.Module, images: torch.Tensor) -> int:
    """The most values that live at once while a network runs: each from where it is made to its last reader."""
    with torch.no_grad():
        nodes = [*make_fx(network)(images).graph.nodes]
    roots: dict[Any, Any] = {}
    first, last, sizes = dict[Any, int](), dict[Any, int](), dict[Any, int]()
    for number, node in enumerate(nodes):
        for read in node.all_input_nodes:
            last[roots[read]] = number
        own = node.op == "placeholder" or f"{node.target}.".split(".")[1] in ALLOCATE
        roots[node] = node if own or not node.all_input_nodes else roots[node.all_input_nodes[0]]
        if own:
            first[node], sizes[node] = number, node.meta["val"].numel()
    return max(
        sum(size for root, size in sizes.items() if first[root] <= number <= last.get(root, number))
        for number in first.values()
    )  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_layers_are_the_dilated_body_and_one_head(head: Any) -> None:
    arch, outputs = v3_large(head), DenseHead(head, 5)
    *body, last = arch.layers(outputs)
    assert (last.operator, last.out_channels, last.size) == (head, 5, 224)
    plain = arch.layers()[: len(body)]
    deep = [layer for layer in body if layer.dilation > 1]
    assert len(deep) == (0 if head == "ssdlite" else 3)
    assert [layer for layer in body if layer in plain] == [layer for layer in plain if layer in body]
    assert {layer.size for layer in deep} <= {14}
    for layer, following in itertools.pairwise(body):
        assert (layer.out_size, layer.out_channels) == (following.size, following.in_channels)
    numbers = array("I", arch.layer_numbers(outputs))
    assert tuple(map(layer_of, numbers)) == arch.layers(outputs) == pickle.loads(pickle.dumps(arch)).layers(outputs)


@pytest.mark.parametrize("head", HEADS)
def test_a_space_has_the_layers_of_its_networks(space: mnas.SearchSpace, head: Any) -> None:
    wanted = {layer for arch in space.enumerate() for layer in arch.layers(DenseHead(head, 5))}
    assert space.layers(DenseHead(head, 5)) == wanted
    assert len({layer for layer in wanted if layer.operator == head}) > 4


@pytest.mark.parametrize("name", ["v1", "v3_small", "ofa_mbv3_w1.0"])
def test_shipped_spaces_have_the_layers_of_sampled_networks(name: str) -> None:
    space, rng = mnas.load_space(name), random.Random(0)
    space = space.with_resolutions(space.resolutions[:1])
    for head in ("lraspp", "ssdlite"):
        layers = space.layers(DenseHead(head))
        assert all(layers.issuperset(space.sample(rng).layers(DenseHead(head))) for _ in range(50))


def test_classes_and_output_strides() -> None:
    assert DenseHead("lraspp") == DenseHead("lraspp", 21, 16)
    assert DenseHead("ssdlite") == DenseHead("ssdlite", 91, 32)
    arch = zoo.get("mobilenet_v3_small")
    few, many = (cost(arch, DenseHead("lraspp", classes)) for classes in (5, 25))
    assert many.params - few.params == 20 * (128 + 1 + 24 + 1)
    fine, usual, coarse = (cost(arch, DenseHead("deeplabv3", 5, stride)).madds for stride in (8, 16, 32))
    assert coarse < usual < fine
    assert len({cost(arch, DenseHead("deeplabv3", 5, stride)).params for stride in (8, 16, 32)}) == 1


@pytest.mark.parametrize(("values", "message"), [
    (("unet",), "unet"), (("lraspp", 5, 4), "8, 16, 32"), (("ssdlite", 5, 16), "expected 32"),
    (("lraspp", -1), "classes"),
])  # fmt: skip
def test_wrong_heads(values: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        DenseHead(*values)


def test_a_network_without_the_feature_maps_is_refused() -> None:
    stages = ((Block("sepconv", 3, 2, 8, "relu"),),)
    shallow = Architecture(64, Block("conv", 3, 2, 8, "relu"), stages, Head(0, 0, "none"))
    with pytest.raises(BadInput, match="stride 32"):
        cost(shallow, DenseHead("lraspp"))
