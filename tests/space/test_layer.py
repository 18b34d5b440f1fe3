"""The layers of an architecture: shapes, numbers, rounded channels."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from array import array

import pytest
from handmade import STEM, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import architectures

from mnas.io.presets import preset_names
from mnas.io.size import sides, sized
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.layer import Gate, Layer, layer_of, round_channels
from mnas.space.space import SearchSpace, load_space


@functools.cache
def space(name: str, resolution: int) -> SearchSpace:
    return load_space(name).with_resolutions((resolution,))


@st.composite
def sampled(draw: st.DrawFn) -> Architecture:
    """Networks of the shipped spaces at any resolution, odd ones too."""
    name, resolution = draw(st.sampled_from(preset_names("search_spaces"))), draw(st.integers(8, 300))
    return space(name, resolution).sample(random.Random(draw(st.integers(0, 10**9))))


def test_layers_of_a_tiny_network() -> None:
    arch = tiny(
        Block("mbconv", 5, 2, 12, "hard_swish", hidden=24, se=4),
        Block("sepconv", 3, 1, 12, "relu", skip="identity", output_activation="relu6"),
        head=Head(16, 20, "relu6"), gate="sigmoid",
    )  # fmt: skip
    assert arch.layers(10) == (
        Layer("conv", 32, 3, 8, 3, 2, activation="relu"),
        Layer("mbconv", 16, 8, 12, 5, 2, hidden=24, se=4, activation="hard_swish"),
        Layer("sepconv", 8, 12, 12, 3, activation="relu", output_activation="relu6", skip="identity"),
        Layer("conv", 8, 12, 16, activation="relu6"),
        Layer("pool", 8, 16, 16),
        Layer("linear", 1, 16, 20, activation="relu6"),
        Layer("linear", 1, 20, 10),
    )


def plainly(arch: Architecture, num_classes: int) -> list[Layer]:
    """The layers, followed from block to block with nothing kept."""
    found, size, channels = [], arch.resolution, 3
    for block in (arch.stem, *arch.blocks):
        values = {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}
        out = values.pop("channels")
        gate: Gate = arch.gate if block.se else "sigmoid"
        found.append(Layer(size=size, in_channels=channels, out_channels=out, gate=gate, **values))
        down, across = (side + block.stride - 1 for side in sides(size))
        size, channels = sized(down // block.stride, across // block.stride), out
    if arch.head.channels:
        found.append(Layer("conv", size, channels, arch.head.channels, activation=arch.head.activation))
        channels = arch.head.channels
    found.append(Layer("pool", size, channels, channels))
    if arch.head.hidden:
        found.append(Layer("linear", 1, channels, arch.head.hidden, activation=arch.head.activation))
        channels = arch.head.hidden
    return [*found, Layer("linear", 1, channels, num_classes)]


@settings(deadline=None, max_examples=40)
@given(architectures() | sampled(), st.sampled_from([1, 10, 1000]))
def test_layers_and_their_numbers_are_what_the_blocks_say(arch: Architecture, num_classes: int) -> None:
    layers = arch.layers(num_classes)
    assert list(layers) == plainly(arch, num_classes)
    numbers = array("I", arch.layer_numbers(num_classes))
    assert tuple(map(layer_of, numbers)) == layers


@pytest.mark.parametrize("resolution", [33, 224])
@pytest.mark.parametrize("name", preset_names("search_spaces"))
def test_layers_of_shipped_spaces(name: str, resolution: int) -> None:
    rng = random.Random(resolution)
    for _ in range(10):
        arch = space(name, resolution).sample(rng)
        assert list(arch.layers(10)) == plainly(arch, 10)


def test_equal_layers_are_one_object() -> None:
    one, other = (zoo.get("mobilenet_v3_small", resolution=64) for _ in range(2))
    assert one is not other
    assert all(mine is its for mine, its in zip(one.layers(10), other.layers(10), strict=True))
    assert all(mine is its for mine, its in zip(one.blocks, other.blocks, strict=True))


def test_the_gate_is_of_layers_with_squeeze_and_excitation_alone() -> None:
    arch = tiny(STEM, Block("sepconv", 3, 1, 8, "relu", se=4), gate="hard_sigmoid")
    assert [layer.gate for layer in arch.layers()] == ["sigmoid", "sigmoid", "hard_sigmoid", "sigmoid", "sigmoid"]


@pytest.mark.parametrize(("resolution", "sizes"), [
    (224, [224, 112, 112, 56, 28, 14, 14, 7]),
    (225, [225, 113, 113, 57, 29, 15, 15, 8]),
    (8, [8, 4, 4, 2, 1, 1, 1, 1]),
    (33, [33, 17, 17, 9, 5, 3, 3, 2]),
])  # fmt: skip
def test_sizes_round_up_at_every_stride(resolution: int, sizes: list[int]) -> None:
    layers = zoo.get("mobilenet_v2", resolution=resolution).layers()
    firsts = [0, 1, 2, 3, 5, 8, 12, 15]  # stem and the first layer of each stage
    assert [layers[i].size for i in firsts] == sizes


def test_neighbouring_layers_fit() -> None:
    for name in zoo.names():
        layers = zoo.get(name).layers(7)
        for one, other in itertools.pairwise(layers):
            assert one.out_channels == other.in_channels
            assert one.out_size == other.size
        assert layers[-1].out_channels == 7
        assert layers[-1].activation == "none"


def test_a_layer_reads_well() -> None:
    text = str(tiny(STEM).layers()[0])
    assert text == "operator=conv size=32 in_channels=3 out_channels=8 kernel=3 stride=2 activation=relu"


# --- channels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "rounded"), [
    (1, 8), (8, 8), (11.9, 16), (12, 16), (16 * 0.75, 16), (24 * 0.75, 24), (40 * 0.75, 32), (32 * 0.35, 16),
    (16 * 1.4, 24), (24 * 1.4, 32), (1280 * 1.4, 1792), (19, 24), (20, 24), (44, 48), (43, 40), (960 * 0.35, 336),
])  # fmt: skip
def test_round_channels(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded


def test_round_channels_with_another_divisor() -> None:
    assert [round_channels(x, 4) for x in (1, 5, 6, 9)] == [4, 8, 8, 12]


@given(st.floats(0.5, 5000))
def test_round_channels_keeps_its_promise(channels: float) -> None:
    rounded = round_channels(channels)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * channels
    assert rounded <= max(8, channels + 8)
