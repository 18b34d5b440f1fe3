"""The networks that a table keeps."""

from __future__ import annotations

import random
from pathlib import Path

from mnas.latency.table.anchors import KEPT, Anchor, anchors_of
from mnas.latency.timing.rounds import Measurement
from mnas.space.architecture import Architecture
from mnas.space.space import load_space


def several(tiny: Path, count: int) -> list[Architecture]:
    space, rng = load_space(str(tiny)), random.Random(0)
    archs: dict[Architecture, None] = {}
    while len(archs) < count:
        archs[space.sample(rng)] = None
    return list(archs)


def kept(archs: list[Architecture], ms: list[float]) -> list[Anchor]:
    return anchors_of(archs, [Measurement(one, 0.1, 30) for one in ms], 10)


def test_eight_from_the_fastest_to_the_slowest(tiny: Path) -> None:
    archs = several(tiny, 15)
    ms = [float(one) for one in random.Random(1).sample(range(1, 16), 15)]
    found = kept(archs, ms)
    assert [anchor.ms for anchor in found] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert all(anchor == Anchor(archs[ms.index(anchor.ms)], 10, anchor.ms) for anchor in found)


def test_few_networks_are_kept_once_each(tiny: Path) -> None:
    first, second = several(tiny, 2)
    assert [anchor.architecture for anchor in kept([second, first], [2.0, 1.0])] == [first, second]
    assert kept([first, first], [1.0, 1.0]) == [Anchor(first, 10, 1.0)]
    assert kept([], []) == []
    assert len(kept(several(tiny, 40), [1.0] * 40)) == KEPT
