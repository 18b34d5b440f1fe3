"""What an expert would pick: the reference networks, scaled by width and resolution so that they just keep a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mnas.errors import BadInput
from mnas.io.size import Size, sides
from mnas.latency.model import Measure, keeps
from mnas.latency.timing.rounds import Measurement
from mnas.space import zoo
from mnas.space.architecture import Architecture

WIDTHS = (0.35, 0.5, 0.6, 0.75, 0.85, 1.0, 1.1, 1.25, 1.4, 1.5)
"""Width multipliers that are tried."""
FULL = WIDTHS.index(1.0)


def widest(trained: bool) -> int:
    """The place of the largest width in WIDTHS that is tried: none is wider than trained weights, where there are any.
    """
    return FULL if trained else len(WIDTHS) - 1


@dataclass(frozen=True)
class Scaling:
    """How references are scaled."""

    make: Callable[[str], tuple[str, Architecture]] = lambda name: (name, zoo.load_architecture(name))
    """Gives the network of a name, mobilenet_v3_large@0.75:160, and what it is to be called."""
    widest: int = len(WIDTHS) - 1
    """The place of the largest width in WIDTHS."""
    published: bool = True
    """Whether a width above 1 is left out where one would try the published network first: at the images' own size, and
    where it keeps the budget at the largest one."""


@dataclass(frozen=True)
class Reference:
    """A reference network, scaled."""

    name: str
    """As `load_architecture` reads it, mobilenet_v3_large@0.75:160; and what it is without, if anything."""
    architecture: Architecture
    latency: Measurement
    """As a whole network."""


def scaled_references(
    names: Sequence[str], resolutions: Sequence[Size], budget_ms: float, measure: Measure,
    allows: Callable[[Architecture], bool] = lambda arch: True, scaling: Scaling = Scaling(), own: Size | None = None,
) -> list[Reference]:  # fmt: skip
    """For each network and resolution the largest of WIDTHS that keeps the budget, except where another pair has more.

    Found by bisection; all networks of a step are measured together. Unless `scaling` wants others than published ones,
    no width above the full one is tried of a network that keeps the budget there at the largest resolution; nor is one
    at the images' `own` size. One that `measure` has no latency for does not count.
    """
    largest = max(resolutions, key=sides)
    pairs = [(name, resolution) for name in names for resolution in resolutions]
    low, high = dict.fromkeys(pairs, 0), dict.fromkeys(pairs, scaling.widest + 1)
    best: dict[tuple[str, Size], tuple[float, Reference]] = {}
    names_of: dict[tuple[str, Size], str] = {}
    while searched := [pair for pair in pairs if low[pair] < high[pair]]:
        middle = {pair: FULL if pair not in names_of else (low[pair] + high[pair]) // 2 for pair in searched}
        names_of |= {pair: zoo.scaled_name(pair[0], WIDTHS[middle[pair]], pair[1]) for pair in searched}
        made = [scaling.make(names_of[pair]) for pair in searched]
        latencies = measured([arch for _, arch in made], measure)
        for pair, (name, arch), latency in zip(searched, made, latencies, strict=True):
            width = WIDTHS[middle[pair]]
            if latency is not None and keeps(latency.median_ms, latency.spread_ms, budget_ms) and allows(arch):
                best[pair] = width, Reference(name, arch, latency)
                low[pair] = middle[pair] + 1
            else:
                high[pair] = middle[pair]
        for name, resolution in pairs:
            if scaling.published and (resolution == own or low[name, largest] > FULL):
                high[name, resolution] = min(high[name, resolution], FULL + 1)
    return [
        reference for (name, resolution), (width, reference) in best.items()
        if not any(
            other == name and sides(more_pixels) >= sides(resolution) and more_width >= width and more is not reference
            for (other, more_pixels), (more_width, more) in best.items()
        )
    ]  # fmt: skip


def measured(archs: Sequence[Architecture], measure: Measure) -> list[Measurement | None]:
    """The latencies; None for a network whose layers the table of a device elsewhere lacks."""
    try:
        return list(measure(archs)) if archs else []
    except BadInput:
        if len(archs) == 1:
            return [None]
        return [latency for arch in archs for latency in measured([arch], measure)]
