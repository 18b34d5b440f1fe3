"""Limits on what a network may take beside time: parameters, multiply-adds, activation memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from mnas.config import RunConfig
from mnas.errors import Infeasible
from mnas.latency.model import DeviceLatency, LatencyModel
from mnas.space.architecture import Architecture
from mnas.space.cost import Cost, cost
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")


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
            least = space.argmin(lambda arch, of=limit.of: of(cost(arch, self.num_classes)))  # type: ignore[misc]
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


NEARLY = 1.05
"""A network that takes no more of its budgets and limits may have neighbours that keep them."""


def extremes(source: LatencyModel, space: SearchSpace, limits: Limits) -> tuple[Architecture, Architecture]:
    """The fastest network of a space, and the slowest of all; Infeasible where none keeps budgets and limits.

    Where the fastest breaks one of them, the network that is farthest within all stands for it. A source that is not
    quick is asked about one network alone: instead of latencies, multiply-adds say which is fastest and which slowest.
    """
    by = source.predict if source.quick else _madds
    fastest, slowest = space.argmin(by), space.argmax(by)
    budget_ms = source.devices[0].budget_ms
    if limits.keeps(fastest) and (budget_ms is None or source.predict(fastest) <= budget_ms):
        return fastest, slowest
    limits.refuse_unreachable(space)
    for one in source.devices:
        _refuse_unreachable(one, space)

    def load(arch: Architecture) -> float:
        """The largest part of a budget or a limit that `arch` takes."""
        part = source.predict(arch) / budget_ms if source.quick and budget_ms is not None else 0.0
        return max(part, limits.load(arch))

    found = space.argmin(load)
    if load(found) > 1:
        takes = ", ".join(filter(None, [source.shown(found) if source.quick else "", limits.shown(found)]))
        message = f"no network of space '{space.name}' was found that keeps all at once; the closest takes {takes}"
        if load(found) > NEARLY:
            raise Infeasible(f"{message}: allow more of one of them")
        log.warning(message)
    return found, slowest


def _refuse_unreachable(source: DeviceLatency, space: SearchSpace) -> None:
    if source.budget_ms is None:
        return
    fastest_ms = source.predict(space.argmin(source.predict if source.quick else _madds))
    if fastest_ms > source.budget_ms:
        raise Infeasible(
            f"--latency-ms {source.budget_ms:g}: no network of space '{space.name}' is that fast on {source.device} "
            f"with {source.runtime}; the fastest reachable latency is {fastest_ms:.2f} ms{source.caveat}"
        )


def _madds(arch: Architecture) -> float:
    return cost(arch).madds
