"""The reference networks of the MobileNet and MnasNet papers, stage by stage as in their tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mnas.errors import BadInput, nearest
from mnas.io.names import Names
from mnas.io.size import SMALLEST, Size, shown, sides, size_of
from mnas.io.strict_yaml import read_text
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.layer import Activation, round_channels


class Row(NamedTuple):
    """Inverted residuals of one shape, with absolute channels at width 1 (as V3's tables state them)."""

    kernel: int
    hidden: int
    out: int
    se: bool
    activation: Activation
    stride: int
    repeat: int = 1
    """The stride is that of the first."""


class Stage(NamedTuple):
    """Inverted residuals that expand their own inputs by one ratio (as V2's and MnasNet's tables state them)."""

    ratio: int
    out: int
    repeat: int
    stride: int
    kernel: int = 3
    se: bool = False


def mobilenet_v1(width: float = 1.0, resolution: Size = 224) -> Architecture:
    """MobileNetV1 (arXiv 1704.04861)."""
    rows = [  # out, stride, repeat
        (64, 1, 1),  # 112x112
        (128, 2, 2),  # 56x56
        (256, 2, 2),  # 28x28
        (512, 2, 6),  # 14x14
        (1024, 2, 2),  # 7x7
    ]
    stages = tuple(
        tuple(
            Block(
                "sepconv", 3, stride if i == 0 else 1, round_channels(out * width), "relu6", output_activation="relu6"
            )
            for i in range(repeat)
        )
        for out, stride, repeat in rows
    )
    return Architecture(resolution, _stem(32, width, "relu6"), stages, Head(0, 0, "none"))


def mobilenet_v2(width: float = 1.0, resolution: Size = 224) -> Architecture:
    """MobileNetV2 (arXiv 1801.04381)."""
    stages = [  # ratio, out, repeat, stride
        Stage(1, 16, 1, 1),  # 112x112
        Stage(6, 24, 2, 2),  # 56x56
        Stage(6, 32, 3, 2),  # 28x28
        Stage(6, 64, 4, 2),  # 14x14
        Stage(6, 96, 3, 1),
        Stage(6, 160, 3, 2),  # 7x7
        Stage(6, 320, 1, 1),
    ]
    head = Head(max(1280, round_channels(1280 * width)), 0, "relu6")
    return _inverted_residuals(_rows(stages, 32, "relu6"), width, resolution, _stem(32, width, "relu6"), head)


def mobilenet_v3_large(width: float = 1.0, resolution: Size = 224) -> Architecture:
    """MobileNetV3-Large (arXiv 1905.02244, table 1)."""
    rows = [
        [Row(3, 16, 16, False, "relu", 1)],  # 112x112
        [Row(3, 64, 24, False, "relu", 2), Row(3, 72, 24, False, "relu", 1)],  # 56x56
        [Row(5, 72, 40, True, "relu", 2), Row(5, 120, 40, True, "relu", 1, 2)],  # 28x28
        [
            Row(3, 240, 80, False, "hard_swish", 2),  # 14x14
            Row(3, 200, 80, False, "hard_swish", 1),
            Row(3, 184, 80, False, "hard_swish", 1, 2),
        ],
        [Row(3, 480, 112, True, "hard_swish", 1), Row(3, 672, 112, True, "hard_swish", 1)],
        [Row(5, 672, 160, True, "hard_swish", 2), Row(5, 960, 160, True, "hard_swish", 1, 2)],  # 7x7
    ]
    return _v3(rows, width, resolution, Head(round_channels(960 * width), 1280, "hard_swish"))


def mobilenet_v3_small(width: float = 1.0, resolution: Size = 224) -> Architecture:
    """MobileNetV3-Small (arXiv 1905.02244, table 2)."""
    rows = [
        [Row(3, 16, 16, True, "relu", 2)],  # 56x56
        [Row(3, 72, 24, False, "relu", 2), Row(3, 88, 24, False, "relu", 1)],  # 28x28
        [Row(5, 96, 40, True, "hard_swish", 2), Row(5, 240, 40, True, "hard_swish", 1, 2)],  # 14x14
        [Row(5, 120, 48, True, "hard_swish", 1), Row(5, 144, 48, True, "hard_swish", 1)],
        [Row(5, 288, 96, True, "hard_swish", 2), Row(5, 576, 96, True, "hard_swish", 1, 2)],  # 7x7
    ]
    return _v3(rows, width, resolution, Head(round_channels(576 * width), 1024, "hard_swish"))


def mnasnet_a1(width: float = 1.0, resolution: Size = 224) -> Architecture:
    """MnasNet-A1, with squeeze-and-excitation (arXiv 1807.11626, figure 7)."""
    stages = [  # ratio, out, repeat, stride, kernel
        Stage(1, 16, 1, 1),  # 112x112
        Stage(6, 24, 2, 2),  # 56x56
        Stage(3, 40, 3, 2, 5, se=True),  # 28x28
        Stage(6, 80, 4, 2),  # 14x14
        Stage(6, 112, 2, 1, se=True),
        Stage(6, 160, 3, 2, 5, se=True),  # 7x7
        Stage(6, 320, 1, 1),
    ]
    return _mnasnet(stages, width, resolution, 32)


def mnasnet_b1(width: float = 1.0, resolution: Size = 224) -> Architecture:
    """MnasNet-B1, without squeeze-and-excitation (arXiv 1807.11626; the network of torchvision's mnasnet1_0)."""
    stages = [  # ratio, out, repeat, stride, kernel
        Stage(1, 16, 1, 1),  # 112x112
        Stage(3, 24, 3, 2),  # 56x56
        Stage(3, 40, 3, 2, 5),  # 28x28
        Stage(6, 80, 3, 2, 5),  # 14x14
        Stage(6, 96, 2, 1),
        Stage(6, 192, 4, 2, 5),  # 7x7
        Stage(6, 320, 1, 1),
    ]
    return _mnasnet(stages, width, resolution, 32)


def mnasnet_small(width: float = 1.0, resolution: Size = 224) -> Architecture:
    """MnasNet-small (arXiv 1807.11626, table 4)."""
    stages = [  # ratio, out, repeat, stride, kernel
        Stage(1, 8, 1, 1),  # 112x112
        Stage(3, 16, 1, 2),  # 56x56
        Stage(6, 16, 2, 2),  # 28x28
        Stage(6, 32, 4, 2, 5, se=True),  # 14x14
        Stage(6, 32, 3, 1, se=True),
        Stage(6, 88, 3, 2, 5, se=True),  # 7x7
        Stage(6, 144, 1, 1),
    ]
    return _mnasnet(stages, width, resolution, 8)


ZOO: dict[str, Callable[[float, Size], Architecture]] = {
    make.__name__: make
    for make in (
        mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small, mnasnet_a1, mnasnet_b1, mnasnet_small,
    )
}


def names() -> list[str]:
    """The reference networks' names."""
    return list(ZOO)


def get(name: str, width: float = 1.0, resolution: Size = 224, channels: int = 3) -> Architecture:
    """The reference network `name` with its channels times `width`, for inputs of `resolution` pixels.

    `channels` are those of the images: 1 for grey ones.
    """
    if name not in ZOO:
        raise BadInput(f"unknown reference network '{name}'{nearest(name, ZOO)}")
    if not 0 < width <= 10:
        raise BadInput(f"width {width}: expected a multiplier above 0 and at most 10, such as 0.75")
    arch = ZOO[name](width, resolution)
    return arch if channels == arch.channels else replace(arch, channels=channels)


KINDS = (
    ("mobilenet_v3_large", "mobilenet_v3_small"), ("mobilenet_v2",), ("mobilenet_v1",),
    ("mnasnet_a1", "mnasnet_b1", "mnasnet_small"),
)  # fmt: skip
"""Networks of one design in several sizes."""


def kind_of(name: str) -> tuple[str, ...]:
    """The reference networks of the same kind as `name`, itself first."""
    kind = next((kind for kind in KINDS if name in kind), (name,))
    return (name, *(other for other in kind if other != name))


NETWORKS = Names("reference network", lambda text: re.split("[@:]", text)[0] in ZOO)
"""NAME, with @WIDTH and :RESOLUTION; any other word may be the path of an architecture's YAML file."""


def scaled_name(name: str, width: float, resolution: Size) -> str:
    """The name that `load_architecture` reads: mobilenet_v3_large@0.75:160, or :96x160 for a rectangle."""
    return f"{name}@{width:g}:{shown(resolution)}"


def reduced_tail(arch: Architecture) -> Architecture:
    """`arch` with half of the channels behind its last stride, as a backbone that classifies fewer things may have.

    Section 6.3 of arXiv 1905.02244; torchvision's SSDLite does so unless it starts from weights of the classifier.
    """

    def halved(channels: int) -> int:
        return round_channels(channels / 2)

    *before, (first, *others) = arch.stages
    tail = [replace(first, channels=halved(first.channels))]
    for block in others:
        se = round_channels(halved(block.hidden) / 4) if block.se else 0
        tail.append(replace(block, channels=halved(block.channels), hidden=halved(block.hidden), se=se))
    head = replace(arch.head, channels=halved(arch.head.channels), hidden=halved(arch.head.hidden))
    return replace(arch, stages=(*before, tuple(tail)), head=head)


def load_architecture(name: str | Path, resolution: Size = 224, channels: int = 3) -> Architecture:
    """A reference network by NAME[@WIDTH][:RESOLUTION], or an architecture's YAML file by path. Raises BadInput.

    The file states its own resolution; `resolution` is that of a name without one, and `channels` those of its images.
    """
    path, text = NETWORKS.path(name), str(name)
    if path is not None:
        return Architecture.from_yaml(read_text(path), text)
    scaled, colon, pixels = text.partition(":")
    plain, at, width = scaled.partition("@")
    try:
        size, factor = _stated_size(pixels) if colon else resolution, float(width) if at else 1.0
        if min(sides(size)) < SMALLEST:
            raise ValueError
    except (ValueError, BadInput):
        raise BadInput(
            f"'{text}': expected NAME, NAME@WIDTH or NAME@WIDTH:PIXELS, such as mobilenet_v3_large@0.75:160 or :96x160"
        ) from None
    return get(plain, factor, size, channels)


def _stated_size(text: str) -> Size:
    """The size in a network's name. Raises ValueError or BadInput."""
    return size_of(text) if "x" in text.lower() else int(text)


def _stem(channels: int, width: float, activation: Activation) -> Block:
    return Block("conv", 3, 2, round_channels(channels * width), activation)


def _v3(rows: list[list[Row]], width: float, resolution: Size, head: Head) -> Architecture:
    arch = _inverted_residuals(rows, width, resolution, _stem(16, width, "hard_swish"), head, se_of_hidden=True)
    return replace(arch, gate="hard_sigmoid", bn_eps=1.0e-3)


def _mnasnet(stages: list[Stage], width: float, resolution: Size, stem_channels: int) -> Architecture:
    rows, stem = _rows(stages, stem_channels, "relu"), _stem(stem_channels, width, "relu")
    return _inverted_residuals(rows, width, resolution, stem, Head(1280, 0, "relu"))


def _rows(stages: list[Stage], channels: int, activation: Activation) -> list[list[Row]]:
    """Stages with absolute channels, behind a stem of `channels` at width 1."""
    rows = []
    for ratio, out, repeat, stride, kernel, se in stages:
        first = Row(kernel, ratio * channels, out, se, activation, stride)
        rest = Row(kernel, ratio * out, out, se, activation, 1, repeat - 1)
        rows.append([first, rest] if repeat > 1 else [first])
        channels = out
    return rows


def _inverted_residuals(
    stages: list[list[Row]], width: float, resolution: Size, stem: Block, head: Head, se_of_hidden: bool = False
) -> Architecture:
    """Squeeze-and-excitation keeps a quarter of its own channels (V3) or of the block's input channels."""
    base = stages[0][0].hidden  # the first row does not expand: its input, the stem's channels at width 1
    channels = stem.channels
    scaled = []
    for rows in stages:
        blocks = []
        for row in rows:
            for number in range(row.repeat):
                out = round_channels(row.out * width)
                hidden = round_channels(channels * row.hidden / base)
                squeezed = round_channels(hidden / 4) if se_of_hidden else round(channels / 4)
                blocks.append(Block(
                    "mbconv", row.kernel, row.stride if number == 0 else 1, out, row.activation,
                    hidden=hidden, se=squeezed if row.se else 0, skip="identity",
                ))
                channels, base = out, row.out
        scaled.append(tuple(blocks))
    return Architecture(resolution, stem, tuple(scaled), head, "sigmoid")
