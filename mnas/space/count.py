"""The number of different networks of a space, counted without making them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from mnas.space.architecture import Head
from mnas.space.choices import Choices, LayerGroup, Option, build_head
from mnas.space.layer import round_channels
from mnas.space.walk import Walk, paths


def count_networks(walk: Walk) -> int:
    """The number of different networks that `walk` makes."""
    space, total = walk.space, 0
    widths_of: dict[tuple[int, Head], frozenset[float]] = {}  # widths with an equal stem and head
    for width in space.width:
        ends = (round_channels(space.stem.channels * width), build_head(space, width))
        widths_of[ends] = widths_of.get(ends, frozenset()) | {width}
    for (stem, _), stem_widths in widths_of.items():
        # number of different stages so far, by their output channels and the widths that give all their channels
        counts = {(stem, stem_widths): 1}
        for index, stage in enumerate(space.stages):
            after: dict[tuple[int, frozenset[float]], int] = {}
            for (channels, widths), count in counts.items():
                outputs: dict[int, frozenset[float]] = {}
                for width, stated in itertools.product(widths, stage.channels):
                    out = round_channels(stated * width)
                    outputs[out] = outputs.get(out, frozenset()) | {width}
                for out, out_widths in outputs.items():
                    stages = sum(_count_stages(walk, index, channels, out, depth) for depth in stage.depth)
                    after[out, out_widths] = after.get((out, out_widths), 0) + count * stages
            counts = after
        total += sum(counts.values())
    return total * len(space.resolution)


def _count_stages(walk: Walk, index: int, in_channels: int, out_channels: int, depth: int) -> int:
    """The number of different stages of this depth between these channels."""
    stage = walk.stage_group(index, in_channels, out_channels, depth)

    def every(names: tuple[str, ...], group: LayerGroup, made: Mapping[str, Option]) -> Iterator[Choices]:
        return paths(lambda choose: walk.layer_choices(choose, "", names, group, made))

    return sum(
        math.prod(sum(1 for _ in every(walk.own, stage.layer(number), shared)) for number in range(depth))
        for shared in every(walk.space.shared, stage, {})
    )
