"""Networks near the references: what differs from a good network in a few choices is good too, and trains as fast.

Where candidates are scored without training, the scores hardly rank them, and networks from all over a space train for
longer than the references; of the neighbours of a reference, most are better in the same time
(benchmarks/within_budget.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from mnas.pipeline.references import WIDTHS
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
    space: SearchSpace, references: Mapping[str, Architecture], count: int, allows: Callable[[Architecture], bool],
    rng: random.Random,
) -> dict[str, Architecture]:  # fmt: skip
    """At most `count` networks that are near the `references`, by turns, of their widths and sizes, and allowed.

    The names say whom they are near. A reference may be scaled to a width that the space does not have; one of another
    design has no neighbours.
    """
    spaces = {name: _space_of(space, reference) for name, reference in references.items()}
    parents = [(name, references[name], own) for name, own in spaces.items() if own is not None]
    found: dict[str, Architecture] = {}
    for attempt in range(ATTEMPTS * count if parents else 0):
        name, reference, own = parents[attempt % len(parents)]
        arch = own.mutate(reference, rng, rate=RATE)
        if arch not in (*references.values(), *found.values()) and _is_near(own, arch, reference) and allows(arch):
            found[f"neighbour {len(found) + 1} of {name}"] = arch
            if len(found) == count:
                break
    return found


def _space_of(space: SearchSpace, reference: Architecture) -> SearchSpace | None:
    """The space at the width and size of a reference; None where it is in the space at no width."""
    sized = space.with_resolutions((reference.resolution,))
    return next((own for own in map(sized.with_width, WIDTHS) if reference in own), None)


def _is_near(space: SearchSpace, arch: Architecture, reference: Architecture) -> bool:
    """Whether `arch` differs from a reference in few choices, and costs about as much."""
    before, after = space.encode(reference), space.encode(arch)
    differing = sum(after.get(name) != choice for name, choice in before.items())
    return differing <= FAR * len(before) and LEAST <= cost(arch).madds / cost(reference).madds <= MOST
