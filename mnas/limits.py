"""Limits on what a network may take beside time: parameters, multiply-adds, activation memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mnas.architecture import Architecture
from mnas.config import RunConfig
from mnas.cost import Cost, cost
from mnas.errors import Infeasible
from mnas.space import SearchSpace

BYTES_IN_MB = 1_000_000


@dataclass(frozen=True)
class Limit:
    """The most of one thing that a network may take."""

    option: str
    most: float
    of: Callable[[Cost], float]


@dataclass(frozen=True)
class Limits:
    """Hard limits on networks of so many classes."""

    each: tuple[Limit, ...] = ()
    num_classes: int = 1000

    def load(self, arch: Architecture) -> float:
        """The largest part of a limit that `arch` takes: above 1 it breaks one. 0 where there are none."""
        if not self.each:
            return 0.0
        counted = cost(arch, self.num_classes)
        return max(limit.of(counted) / limit.most for limit in self.each)

    def keeps(self, arch: Architecture) -> bool:
        return self.load(arch) <= 1

    def shown(self, arch: Architecture) -> str:
        """What a network takes, of what it may take."""
        counted = cost(arch, self.num_classes)
        return ", ".join(
            f"{limit.of(counted):,.10g} of {limit.option} {limit.most:,.10g}" for limit in self.each
        )

    def refuse_unreachable(self, space: SearchSpace) -> None:
        """Infeasible where no network of `space` keeps a limit, naming the smallest reachable value."""
        for limit in self.each:
            least = space.fastest(lambda arch, of=limit.of: of(cost(arch, self.num_classes)))  # type: ignore[misc]
            smallest = limit.of(cost(least, self.num_classes))
            if smallest > limit.most:
                raise Infeasible(
                    f"{limit.option} {limit.most:,.10g}: no network of space '{space.name}' for {self.num_classes} "
                    f"classes is that small; the smallest reachable value is {smallest:,.10g}"
                )


NO_LIMITS = Limits()


def limits_of(config: RunConfig, num_classes: int) -> Limits:
    """The limits that a run was asked to keep."""
    asked: list[tuple[str, float | None, Callable[[Cost], float]]] = [
        ("--max-params", config.max_params, lambda counted: counted.params),
        ("--max-madds", config.max_madds, lambda counted: counted.madds),
        ("--max-memory-mb", config.max_memory_mb, lambda counted: counted.activation_bytes / BYTES_IN_MB),
    ]
    return Limits(tuple(Limit(option, most, of) for option, most, of in asked if most is not None), num_classes)
