"""The networks that experts designed, row by row as in their papers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mnas.errors import BadInput, nearest
from mnas.io.strict_yaml import read_text
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.layer import Activation, Skip, round_channels

log = logging.getLogger("mnas")



class Row(NamedTuple):
    """Equal-shaped inverted residuals in a row; the stride is the first one's. exp and out in channels at width 1."""

    kernel: int
    exp: int
    out: int
    se: bool
    activation: Activation
    stride: int
    repeat: int = 1


def mobilenet_v1(width: float = 1.0, resolution: int = 224) -> Architecture:
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


def mobilenet_v2(width: float = 1.0, resolution: int = 224) -> Architecture:
    """MobileNetV2 (arXiv 1801.04381)."""
    rows = [
        [Row(3, 32, 16, False, "relu6", 1)],  # 112x112
        _repeat(3, 6, 16, 24, "relu6", 2, 2),  # 56x56
        _repeat(3, 6, 24, 32, "relu6", 2, 3),  # 28x28
        _repeat(3, 6, 32, 64, "relu6", 2, 4),  # 14x14
        _repeat(3, 6, 64, 96, "relu6", 1, 3),
        _repeat(3, 6, 96, 160, "relu6", 2, 3),  # 7x7
        _repeat(3, 6, 160, 320, "relu6", 1, 1),
    ]
    head = Head(max(1280, round_channels(1280 * width)), 0, "relu6")
    return _inverted_residuals(rows, width, resolution, _stem(32, width, "relu6"), head)


def mobilenet_v3_large(width: float = 1.0, resolution: int = 224) -> Architecture:
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


def mobilenet_v3_small(width: float = 1.0, resolution: int = 224) -> Architecture:
    """MobileNetV3-Small (arXiv 1905.02244, table 2)."""
    rows = [
        [Row(3, 16, 16, True, "relu", 2)],  # 56x56
        [Row(3, 72, 24, False, "relu", 2), Row(3, 88, 24, False, "relu", 1)],  # 28x28
        [Row(5, 96, 40, True, "hard_swish", 2), Row(5, 240, 40, True, "hard_swish", 1, 2)],  # 14x14
        [Row(5, 120, 48, True, "hard_swish", 1), Row(5, 144, 48, True, "hard_swish", 1)],
        [Row(5, 288, 96, True, "hard_swish", 2), Row(5, 576, 96, True, "hard_swish", 1, 2)],  # 7x7
    ]
    return _v3(rows, width, resolution, Head(round_channels(576 * width), 1024, "hard_swish"))


def mnasnet_a1(width: float = 1.0, resolution: int = 224) -> Architecture:
    """MnasNet-A1, with squeeze-and-excitation (arXiv 1807.11626, figure 7)."""
    rows = [
        [Row(3, 32, 16, False, "relu", 1)],  # 112x112
        _repeat(3, 6, 16, 24, "relu", 2, 2),  # 56x56
        _repeat(5, 3, 24, 40, "relu", 2, 3, se=True),  # 28x28
        _repeat(3, 6, 40, 80, "relu", 2, 4),  # 14x14
        _repeat(3, 6, 80, 112, "relu", 1, 2, se=True),
        _repeat(5, 6, 112, 160, "relu", 2, 3, se=True),  # 7x7
        _repeat(3, 6, 160, 320, "relu", 1, 1),
    ]
    return _inverted_residuals(rows, width, resolution, _stem(32, width, "relu"), Head(1280, 0, "relu"))


def mnasnet_b1(width: float = 1.0, resolution: int = 224) -> Architecture:
    """MnasNet-B1, without squeeze-and-excitation (arXiv 1807.11626; the network of torchvision's mnasnet1_0)."""
    rows = [
        [Row(3, 32, 16, False, "relu", 1)],  # 112x112
        _repeat(3, 3, 16, 24, "relu", 2, 3),  # 56x56
        _repeat(5, 3, 24, 40, "relu", 2, 3),  # 28x28
        _repeat(5, 6, 40, 80, "relu", 2, 3),  # 14x14
        _repeat(3, 6, 80, 96, "relu", 1, 2),
        _repeat(5, 6, 96, 192, "relu", 2, 4),  # 7x7
        _repeat(3, 6, 192, 320, "relu", 1, 1),
    ]
    return _inverted_residuals(rows, width, resolution, _stem(32, width, "relu"), Head(1280, 0, "relu"))


def mnasnet_small(width: float = 1.0, resolution: int = 224) -> Architecture:
    """MnasNet-small (arXiv 1807.11626, table 4)."""
    rows = [
        [Row(3, 8, 8, False, "relu", 1)],  # 112x112
        _repeat(3, 3, 8, 16, "relu", 2, 1),  # 56x56
        _repeat(3, 6, 16, 16, "relu", 2, 2),  # 28x28
        _repeat(5, 6, 16, 32, "relu", 2, 4, se=True),  # 14x14
        _repeat(3, 6, 32, 32, "relu", 1, 3, se=True),
        _repeat(5, 6, 32, 88, "relu", 2, 3, se=True),  # 7x7
        _repeat(3, 6, 88, 144, "relu", 1, 1),
    ]
    return _inverted_residuals(rows, width, resolution, _stem(8, width, "relu"), Head(1280, 0, "relu"))


ZOO: dict[str, Callable[[float, int], Architecture]] = {
    make.__name__: make
    for make in (
        mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small, mnasnet_a1, mnasnet_b1, mnasnet_small,
    )
}


def names() -> list[str]:
    """The reference networks' names."""
    return list(ZOO)


def get(name: str, width: float = 1.0, resolution: int = 224) -> Architecture:
    """The reference network `name` with its channels times `width`, for inputs of `resolution` pixels."""
    if name not in ZOO:
        raise BadInput(f"unknown reference network '{name}'{nearest(name, ZOO)}")
    if not 0 < width <= 10:
        raise BadInput(f"width {width}: expected a multiplier above 0 and at most 10, such as 0.75")
    return ZOO[name](width, resolution)


def parse(text: str, resolution: int = 224) -> Architecture:
    """A reference network as a command line states it: NAME or NAME@WIDTH, as in mobilenet_v3_large@0.75."""
    name, at, width = text.partition("@")
    try:
        return get(name, float(width) if at else 1.0, resolution)
    except ValueError:
        raise BadInput(f"'{text}': expected NAME or NAME@WIDTH, as in mobilenet_v3_large@0.75") from None


def _repeat(
    kernel: int, ratio: int, channels: int, out: int, activation: Activation, stride: int, repeat: int, se: bool = False
) -> list[Row]:
    """`repeat` rows from `channels` to `out`, each expanding its own input by `ratio`."""
    rows = [Row(kernel, ratio * channels, out, se, activation, stride)]
    return rows + ([Row(kernel, ratio * out, out, se, activation, 1, repeat - 1)] if repeat > 1 else [])


def _stem(channels: int, width: float, activation: Activation) -> Block:
    return Block("conv", 3, 2, round_channels(channels * width), activation)


def _v3(rows: list[list[Row]], width: float, resolution: int, head: Head) -> Architecture:
    stem = _stem(16, width, "hard_swish")
    arch = _inverted_residuals(rows, width, resolution, stem, head, se_of_hidden=True)
    return Architecture(arch.resolution, arch.stem, arch.stages, arch.head, "hard_sigmoid", bn_eps=1.0e-3)


def _inverted_residuals(
    rows: list[list[Row]], width: float, resolution: int, stem: Block, head: Head, se_of_hidden: bool = False
) -> Architecture:
    """Stages of inverted residuals. Squeeze-and-excitation keeps a quarter of its own channels (V3) or the input's."""
    base = rows[0][0].exp  # the first row does not expand: its exp is the stem's channels
    channels = stem.channels
    stages = []
    for stage in rows:
        blocks = []
        for row in stage:
            for i in range(row.repeat):
                out = round_channels(row.out * width)
                hidden = round_channels(channels * row.exp / base)
                squeezed = round_channels(hidden / 4) if se_of_hidden else round(channels / 4)
                skip: Skip = "identity"
                blocks.append(Block(
                    "mbconv", row.kernel, row.stride if i == 0 else 1, out, row.activation,
                    hidden=hidden, se=squeezed if row.se else 0, skip=skip,
                ))
                channels, base = out, row.out
        stages.append(tuple(blocks))
    return Architecture(resolution, stem, tuple(stages), head, "sigmoid")


def baseline_architecture(name: str, resolution: int) -> Architecture:
    """A baseline by zoo name (NAME or NAME@WIDTH) or by the path of an architecture's YAML file."""
    if name.endswith((".yaml", ".yml")):
        return Architecture.from_yaml(read_text(Path(name)), name)
    return parse(name, resolution)
