"""Constraints beside latency: parameters, multiply-adds, activation memory; and which networks satisfy all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from mnas.config import RunConfig
from mnas.errors import Infeasible
from mnas.latency.model import DeviceLatency, LatencyModel
from mnas.space.architecture import Architecture
from mnas.space.cost import Cost, cost
from mnas.space.dense import Outputs, outputs_in_words
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")

NEARLY = 1.05
"""Largest usage of a budget or limit at which a search starts although no network was found that satisfies all."""


@dataclass(frozen=True)
class Constraint:
    """An upper limit on one quantity of a network's cost."""

    option: str
    """The command line's option, such as --max-params."""
    limit: float
    quantity: Callable[[Cost], float]


@dataclass(frozen=True)
class Constraints:
    """Upper limits on the costs of networks for `num_classes` classes."""

    items: tuple[Constraint, ...] = ()
    num_classes: Outputs = 1000

    def usage(self, arch: Architecture) -> float:
        """The largest part of a limit that `arch` uses: above 1 it violates one; 0 without constraints."""
        if not self.items:
            return 0.0
        costs = cost(arch, self.num_classes)
        return max(constraint.quantity(costs) / constraint.limit for constraint in self.items)

    def satisfied_by(self, arch: Architecture) -> bool:
        """Whether `arch` is within every limit."""
        return self.usage(arch) <= 1

    def describe(self, arch: Architecture) -> str:
        """What `arch` uses of each limit, for a message."""
        costs = cost(arch, self.num_classes)
        return ", ".join(
            f"{constraint.quantity(costs):,.10g} of {constraint.option} {constraint.limit:,.10g}"
            for constraint in self.items
        )

    def require_reachable(self, space: SearchSpace) -> None:
        """Raise Infeasible where no network of `space` is within a limit, naming the smallest reachable value."""
        for constraint in self.items:
            smallest = _smallest(space, constraint.quantity, self.num_classes)
            if smallest > constraint.limit:
                raise Infeasible(
                    f"{constraint.option} {constraint.limit:,.10g}: no network of space '{space.name}' "
                    f"{outputs_in_words(self.num_classes)} is that small; the smallest reachable value is "
                    f"{smallest:,.10g}"
                )


NO_CONSTRAINTS = Constraints()


def constraints_of(config: RunConfig, num_classes: Outputs) -> Constraints:
    """The constraints that a run's configuration states."""
    stated: list[tuple[str, float | None, Callable[[Cost], float]]] = [
        ("--max-params", config.max_params, lambda costs: costs.params),
        ("--max-madds", config.max_madds, lambda costs: costs.madds),
        ("--max-memory-mb", config.max_memory_mb, lambda costs: costs.activation_mb),
    ]
    return Constraints(
        tuple(Constraint(option, limit, quantity) for option, limit, quantity in stated if limit is not None),
        num_classes,
    )


def fastest_and_slowest(
    latency: LatencyModel, space: SearchSpace, constraints: Constraints
) -> tuple[Architecture, Architecture]:
    """The fastest network of `space` within the budgets and constraints, and the slowest network of all.

    Where the fastest network violates one of them, the one with the smallest usage of all takes its place. A latency
    that is measured or computed by a user's function is asked for one network only: multiply-adds order the others.
    Raises Infeasible where no network is within the budgets and constraints.
    """
    order = latency.predict if latency.quick else _madds
    fastest, slowest = space.argmin(order), space.argmax(order)
    budget_ms = latency.devices[0].budget_ms
    if constraints.satisfied_by(fastest) and (budget_ms is None or latency.predict(fastest) <= budget_ms):
        return fastest, slowest
    constraints.require_reachable(space)
    for device in latency.devices:
        _require_reachable_budget(device, space)

    def usage(arch: Architecture) -> float:
        """The largest part of a budget or a limit that `arch` uses."""
        part = latency.predict(arch) / budget_ms if latency.quick and budget_ms is not None else 0.0
        return max(part, constraints.usage(arch))

    closest = space.argmin(usage)
    if usage(closest) > 1:
        uses = ", ".join(filter(None, [latency.shown(closest) if latency.quick else "", constraints.describe(closest)]))
        message = f"found no network of space '{space.name}' within all budgets and limits; the closest uses {uses}"
        if usage(closest) > NEARLY:
            raise Infeasible(f"{message}: raise one of them")
        log.warning(message)
    return closest, slowest


def _require_reachable_budget(device: DeviceLatency, space: SearchSpace) -> None:
    if device.budget_ms is None:
        return
    fastest_ms = device.predict(space.argmin(device.predict if device.quick else _madds))
    if fastest_ms > device.budget_ms:
        raise Infeasible(
            f"--latency-ms {device.budget_ms:g}: no network of space '{space.name}' is that fast on {device.device} "
            f"with {device.runtime}; the fastest reachable latency is {fastest_ms:.2f} ms{device.caveat}"
        )


def _smallest(space: SearchSpace, quantity: Callable[[Cost], float], num_classes: Outputs) -> float:
    """The smallest value of one quantity in `space`."""

    def of(arch: Architecture) -> float:
        return quantity(cost(arch, num_classes))

    return of(space.argmin(of))


def _madds(arch: Architecture) -> float:
    return cost(arch).madds
