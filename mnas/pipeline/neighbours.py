"""Networks near the references: what differs from a good network in a few choices is good too, and trains as fast.

Where candidates are scored without training, the scores hardly rank them, and networks from all over a space train for
longer than the references; of the neighbours of a reference, most are better in the same time
(benchmarks/within_budget.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.space import SearchSpace

RATE = 0.15
"""The probability with which each choice of a reference is drawn again."""
FAR = 0.25
"""The part of a reference's choices up to which a network that differs in them is near it."""
LEAST, MOST = 0.8, 1.05
"""How many times the multiply-adds of a reference its neighbours have."""
ATTEMPTS = 50
"""Draws for each neighbour that is wanted."""


def neighbours(
    space: SearchSpace, references: Sequence[Architecture], count: int, allows: Callable[[Architecture], bool],
    rng: random.Random,
) -> list[Architecture]:  # fmt: skip
    """At most `count` networks that are near `references`, by turns, and allowed; fewer where few are found."""
    parents = [arch for arch in references if arch in space]
    found: list[Architecture] = []
    for attempt in range(ATTEMPTS * count if parents else 0):
        parent = parents[attempt % len(parents)]
        arch = space.mutate(parent, rng, rate=RATE)
        if arch not in (*references, *found) and is_near(space, arch, parent) and allows(arch):
            found.append(arch)
            if len(found) == count:
                break
    return found


def is_near(space: SearchSpace, arch: Architecture, reference: Architecture) -> bool:
    """Whether `arch` is one of the neighbours of a reference; those outside of the space have none and are none."""
    if arch.resolution != reference.resolution or reference not in space or arch not in space:
        return False
    before, after = space.encode(reference), space.encode(arch)
    differing = sum(after.get(name) != choice for name, choice in before.items())
    return differing <= FAR * len(before) and LEAST <= cost(arch).madds / cost(reference).madds <= MOST
