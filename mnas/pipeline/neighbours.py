"""Networks near the references, which train as fast as those: found ones of a race that is decided by time.

Where candidates are scored without training, the scores hardly rank them, and networks from all over a space train for
longer than the references. After the same time, a reference with one layer fewer in each stage and wider ones is better
than itself (benchmarks/one_choice.py), and so are most of those that differ from it in a few choices
(benchmarks/within_budget.py).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence

from mnas.latency.model import keeps
from mnas.monitor.figures import with_spread
from mnas.pipeline.context import Context
from mnas.pipeline.race import Contender
from mnas.pipeline.references import WIDTHS, Scaling, measured, scaled_references, widest
from mnas.space.architecture import Architecture
from mnas.space.choices import Option
from mnas.space.cost import cost
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")

RATE = 0.15
"""The probability with which each choice of a reference is drawn again."""
FAR = 0.25
"""The part of a reference's choices up to which a network that differs in them is near it."""
LEAST, MOST = 0.8, 1.05
"""How many times the multiply-adds of a reference its neighbours have."""
ATTEMPTS = 50
"""Draws for each neighbour that is wanted."""
DRAWN = 3
"""Neighbours that are measured for each that is wanted."""


def near_references(
    context: Context, references: Sequence[Contender], budget_ms: float, count: int
) -> list[Contender]:
    """At most `count` found networks near the references that keep the budget; the study has no trials of them.

    The shallow ones come first, scaled to the budget as the references are, then neighbours.
    """
    archs = {one.name: one.architecture for one in references}
    found = _shallow_ones(context, [*archs.values()], budget_ms)[:count]
    known = [one.architecture for one in found]
    drawn = neighbours(
        context.space, archs, DRAWN * (count - len(found)),
        lambda arch: arch not in known and context.constraints.satisfied_by(arch), random.Random(context.config.seed),
    )  # fmt: skip
    latencies = measured([*drawn.values()], context.latency.measure)
    for (name, arch), latency in zip(drawn.items(), latencies, strict=True):
        if len(found) < count and latency is not None and keeps(latency.median_ms, latency.spread_ms, budget_ms):
            found.append(Contender(name, arch, "found", latency))
    for one in found:
        how = "differs in a few choices" if one.name in drawn else "one layer fewer in each stage, largest expansions"
        log.info("finalist: %s (%s), %s ms", one.name, how, with_spread(one.latency.median_ms, one.latency.spread_ms))
    return found


# --- a few choices differ


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


# --- shallower and wider


def shallow(space: SearchSpace, reference: Architecture) -> Architecture | None:
    """A reference with one layer fewer in each stage and the largest expansions, as far as the space has them.

    None where that changes nothing, and for a reference that is in the space at no width.
    """
    own = _space_of(space, reference)
    if own is None:
        return None
    arch = own.changed(reference, _shallower)
    return None if arch == reference else arch


def _shallower(name: str, had: Option | None, options: list[Option]) -> Option:
    if had is None or had not in options:
        return options[0]
    if name.endswith("depth"):
        return max((one for one in options if float(one) < float(had)), key=float, default=had)
    return max(options, key=float) if name.endswith("expansion") else had


def _shallow_ones(context: Context, references: Sequence[Architecture], budget_ms: float) -> list[Contender]:
    """The shallow ones of the space's design, of the references' sizes in their order, as wide as keeps the budget."""
    space, name = context.space, f"shallow {context.space.reference}"
    sizes = list(dict.fromkeys(one.resolution for one in references if shallow(space, one) is not None))
    if not sizes:
        return []

    def make(scaled: str) -> tuple[str, Architecture]:
        called, reference = space.rival(scaled.removeprefix("shallow "))
        return f"shallow {called}", shallow(space, reference) or reference

    found = scaled_references(
        [name], sizes, budget_ms, context.latency.measure, context.constraints.satisfied_by,
        Scaling(make, widest(bool(context.trainer.origins)), published=False),
    )  # fmt: skip
    found.sort(key=lambda one: sizes.index(one.architecture.resolution))
    return [
        Contender(one.name, one.architecture, "found", one.latency) for one in found
        if one.architecture not in references
    ]  # fmt: skip
