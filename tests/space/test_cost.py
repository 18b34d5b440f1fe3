"""Counted costs against torch's own counter, the published table, and sums by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from strategies import architectures
from torch.utils.flop_counter import FlopCounterMode

from mnas.nn.network import build
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.cost import Cost, cost


def counted(arch: Architecture, num_classes: int) -> tuple[int, int]:
    """MAdds and parameters of the built network, as torch counts them."""
    with torch.device("meta"):
        network = build(arch, num_classes).eval()
        images = torch.empty(arch.input_shape(1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert network(images).shape == (1, num_classes)
    return counter.get_total_flops() // 2, sum(parameter.numel() for parameter in network.parameters())


GOLDEN = [  # params, MAdds
    ("mobilenet_v1", 1.0, 4_231_976, 568_740_352),
    ("mobilenet_v2", 1.0, 3_504_872, 300_774_272),
    ("mobilenet_v2", 0.5, 1_968_680, 97_131_840),
    ("mobilenet_v2", 1.4, 6_108_776, 582_195_824),
    ("mobilenet_v3_large", 1.0, 5_483_032, 216_589_760),
    ("mobilenet_v3_small", 1.0, 2_542_856, 56_510_400),
    ("mobilenet_v3_small", 0.75, 2_041_872, 43_399_344),
    ("mnasnet_b1", 1.0, 4_383_312, 314_415_872),
    ("mnasnet_a1", 1.0, 3_887_038, 311_579_072),
    ("mnasnet_small", 1.0, 2_030_264, 68_339_184),
]


@pytest.mark.parametrize(("name", "width", "params", "madds"), GOLDEN)
def test_reference_networks(name: str, width: float, params: int, madds: int) -> None:
    arch = zoo.get(name, width)
    assert (cost(arch).params, cost(arch).madds) == (params, madds)
    if width == 1:
        assert counted(arch, 1000) == (madds, params)


HAND_MADE = Architecture(
    33, Block("conv", 3, 2, 3, "relu", skip="pool"),
    ((
        Block("conv", 3, 1, 3, "relu", skip="identity"),
        Block("sepconv", 5, 2, 5, "relu", se=2, skip="pool", output_activation="relu6"),
        Block("mbconv", 7, 2, 4, "hard_swish", hidden=9, se=3, skip="pool"),
        Block("mbconv", 1, 1, 4, "none", hidden=2, skip="identity"),
    ),),
    Head(6, 7, "hard_swish"),
)  # fmt: skip


@settings(deadline=None, max_examples=20)
@given(architectures())
@example(HAND_MADE)
def test_counts_what_torch_counts(arch: Architecture) -> None:
    assert (cost(arch, 10).madds, cost(arch, 10).params) == counted(arch, 10)


def test_a_tiny_network_by_hand() -> None:
    arch = Architecture(
        16, Block("conv", 3, 2, 4, "relu"),
        ((Block("mbconv", 3, 1, 4, "relu", hidden=12, se=2, skip="identity"), Block("sepconv", 5, 2, 8, "relu")),),
        Head(0, 0, "none"),
    )  # fmt: skip
    madds = [
        3 * 4 * 9 * 64,  # stem, 8x8 out
        4 * 12 * 64 + 12 * 9 * 64 + 2 * 12 * 2 + 12 * 4 * 64,  # mbconv, 8x8
        4 * 25 * 16 + 4 * 8 * 16,  # sepconv, 4x4 out
        8 * 10,  # classifier
    ]
    params = [
        3 * 4 * 9 + 2 * 4,
        (4 * 12 + 24) + (12 * 9 + 24) + (12 * 2 + 2 + 2 * 12 + 12) + (12 * 4 + 8),
        (4 * 25 + 8) + (4 * 8 + 16),
        8 * 10 + 10,
    ]
    # the mbconv's depthwise convolution: 12 channels in and out, and the 4 of the shortcut, at 8x8
    activations = (12 + 12 + 4) * 64
    assert cost(arch, 10) == Cost(sum(madds), sum(params), 4 * activations)


def only(block: Block, resolution: int = 16) -> Architecture:
    """A network whose largest layer is `block`, on 8 channels of half the resolution."""
    return Architecture(resolution, Block("conv", 1, 2, 8, "relu"), ((block,),), Head(0, 0, "none"))


@pytest.mark.parametrize(("block", "values"), [
    (Block("conv", 3, 1, 32, "relu"), (8 + 32) * 64),  # input and output
    (Block("mbconv", 3, 1, 8, "relu", hidden=48), (48 + 48) * 64),  # depthwise
    (Block("mbconv", 3, 1, 8, "relu", hidden=48, skip="identity"), (48 + 48 + 8) * 64),  # with the kept input
    (Block("mbconv", 3, 2, 8, "relu", hidden=48), 48 * 64 + 48 * 16),
    (Block("mbconv", 3, 1, 96, "relu", hidden=9, skip="pool"), (9 + 96 + 8) * 64),  # projection
    (Block("mbconv", 3, 2, 8, "relu", hidden=9), (8 + 9) * 64),  # expansion
    (Block("sepconv", 3, 1, 8, "relu"), (8 + 8) * 64),
    (Block("sepconv", 3, 1, 8, "relu", skip="identity"), (8 + 8 + 8) * 64),
    (Block("sepconv", 3, 1, 32, "relu"), (8 + 32) * 64),
])  # fmt: skip
def test_activation_memory_is_of_the_largest_moment(block: Block, values: int) -> None:
    # the stem's 3 x 16 x 16 + 8 x 8 x 8 values are 1,280
    assert cost(only(block)).activation_bytes == 4 * max(values, 1280)


def test_activation_memory_can_be_the_stems() -> None:
    assert cost(only(Block("conv", 1, 2, 1, "relu"))).activation_bytes == 4 * (3 * 256 + 8 * 64)


def test_classes_count() -> None:
    few, many = cost(zoo.get("mobilenet_v2"), 10), cost(zoo.get("mobilenet_v2"), 1000)
    assert many.params - few.params == 990 * 1281
    assert many.madds - few.madds == 990 * 1280


def test_costs_grow_with_width_and_resolution() -> None:
    for name in zoo.names():
        small, wide, large = cost(zoo.get(name, 0.5, 128)), cost(zoo.get(name, 1.0, 128)), cost(zoo.get(name, 1.0, 160))
        assert small.madds < wide.madds < large.madds
        assert small.params < wide.params == large.params
        assert small.activation_bytes <= wide.activation_bytes < large.activation_bytes
