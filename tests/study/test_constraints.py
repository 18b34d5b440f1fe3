"""Constraints on parameters, multiply-adds and memory, and the fastest network that satisfies them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_study import tiny_space

import mnas
from mnas.config import Objective, RunConfig, Target
from mnas.errors import Infeasible
from mnas.latency.conditions import Conditions
from mnas.latency.model import DeviceLatency, LatencyModel
from mnas.latency.timing.rounds import Measurement
from mnas.space.cost import Cost
from mnas.study.constraints import NEARLY, NO_CONSTRAINTS, constraints_of, fastest_and_slowest

ARCHS = [mnas.zoo.get("mobilenet_v3_small", width, 32) for width in (0.35, 0.5, 0.75, 1.0)]


def config(**limits: float) -> RunConfig:
    objective = Objective(name="mnasnet", formula="mnasnet")
    return RunConfig(space="tiny", targets=(Target(latency_ms=1.0),), objective=objective).model_copy(update=limits)


@given(st.sampled_from(ARCHS), st.integers(1, 2_000_000), st.integers(1, 10_000_000), st.floats(0.001, 1))
def test_a_network_satisfies_constraints_as_its_costs_do(
    arch: mnas.Architecture, params: int, madds: int, mb: float
) -> None:
    costs = mnas.cost(arch, 10)
    constraints = constraints_of(config(max_params=params, max_madds=madds, max_memory_mb=mb), 10)
    expected = costs.params <= params and costs.madds <= madds and costs.activation_bytes / 1e6 <= mb
    assert constraints.satisfied_by(arch) == expected


def test_every_network_satisfies_no_constraints() -> None:
    assert constraints_of(config(), 1000).items == ()
    assert NO_CONSTRAINTS.satisfied_by(ARCHS[0])
    assert NO_CONSTRAINTS.usage(ARCHS[0]) == 0


def test_usage_is_the_largest_part_of_a_limit() -> None:
    costs = mnas.cost(ARCHS[0], 10)
    constraints = constraints_of(config(max_params=costs.params * 4, max_madds=costs.madds * 2), 10)
    assert constraints.usage(ARCHS[0]) == 0.5
    for figure in (costs.params, costs.params * 4, costs.madds, costs.madds * 2):
        assert f"{figure:,}" in constraints.describe(ARCHS[0])


@pytest.mark.parametrize(("name", "option", "quantity"), [
    ("max_params", "--max-params", lambda costs: costs.params),
    ("max_madds", "--max-madds", lambda costs: costs.madds),
    ("max_memory_mb", "--max-memory-mb", lambda costs: costs.activation_bytes / 1e6),
])  # fmt: skip
def test_an_unreachable_limit_is_refused_with_the_smallest_value(
    name: str, option: str, quantity: Callable[[Cost], float]
) -> None:
    smallest = min(quantity(mnas.cost(arch, 10)) for arch in tiny_space().enumerate())
    constraints_of(config(**{name: smallest}), 10).require_reachable(tiny_space())
    with pytest.raises(mnas.Infeasible, match=f"{option} .* {smallest:,.10g}$"):
        constraints_of(config(**{name: smallest * 0.99}), 10).require_reachable(tiny_space())


# --- the fastest network within all budgets and constraints


def madds(arch: mnas.Architecture) -> float:
    return mnas.cost(arch, 10).madds / 1e6


def params(arch: mnas.Architecture) -> float:
    return mnas.cost(arch, 10).params / 1e3


def device(
    ms: Callable[[mnas.Architecture], float], budget_ms: float | None, quick: bool = True, caveat: str = ""
) -> DeviceLatency:
    def measure(archs: Sequence[mnas.Architecture]) -> list[Measurement]:
        return [Measurement(ms(arch), 0.0, 30) for arch in archs]

    return DeviceLatency("a device", Conditions("torch"), budget_ms, ms, measure, quick=quick, caveat=caveat)


def test_the_fastest_network_is_within_every_budget_and_constraint() -> None:
    archs = list(tiny_space().enumerate())
    for arch in archs[::500]:  # it sets budgets that it just keeps itself
        memory_mb = mnas.cost(arch, 10).activation_bytes / 1e6
        constraints = constraints_of(config(max_memory_mb=memory_mb), 10)
        latency = LatencyModel((device(madds, madds(arch)), device(params, params(arch))))
        fastest, slowest = fastest_and_slowest(latency, tiny_space(), constraints)
        assert constraints.satisfied_by(fastest)
        assert latency.predict(fastest) <= madds(arch) * (1 + 1e-12)
        assert latency.predict(slowest) == max(map(latency.predict, archs))


def test_a_latency_that_takes_long_is_asked_for_the_fastest_network_only() -> None:
    asked = []

    def slow(arch: mnas.Architecture) -> float:
        asked.append(arch)
        return madds(arch)

    latency = LatencyModel((device(slow, 100.0, quick=False),))
    fastest, slowest = fastest_and_slowest(latency, tiny_space(), NO_CONSTRAINTS)
    assert asked == [fastest]
    assert madds(slowest) == max(map(madds, tiny_space().enumerate()))


def test_budgets_that_only_different_networks_keep(caplog: pytest.LogCaptureFixture) -> None:
    costs = [madds(arch) for arch in tiny_space().enumerate()]
    smallest, largest = min(costs), max(costs)

    def opposite(arch: mnas.Architecture) -> float:
        return largest + smallest - madds(arch)

    apart = LatencyModel((device(madds, smallest * 1.01), device(opposite, smallest * 1.01)))
    with pytest.raises(Infeasible, match=f"of {smallest * 1.01:g} ms with torch"):
        fastest_and_slowest(apart, tiny_space(), NO_CONSTRAINTS)
    # each half of the range is almost enough: a search may find a network that keeps both
    near = (smallest + largest) / 2 / (1 + (NEARLY - 1) / 2)
    close = LatencyModel((device(madds, near), device(opposite, near)))
    fastest, _ = fastest_and_slowest(close, tiny_space(), NO_CONSTRAINTS)
    assert 1 < close.predict(fastest) / near <= NEARLY
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("caveat", ["", " (a busy machine)"])
def test_an_unreachable_budget_is_refused_with_the_fastest_latency(caveat: str) -> None:
    smallest = min(map(madds, tiny_space().enumerate()))
    latency = LatencyModel((device(madds, 100.0), device(params, 1e-6, caveat=caveat)))
    fewest = min(map(params, tiny_space().enumerate()))
    end = f"{caveat.replace('(', '[(]').replace(')', '[)]')}$"
    with pytest.raises(Infeasible, match=f"--latency-ms 1e-06: .* {fewest:.2f} ms{end}"):
        fastest_and_slowest(latency, tiny_space(), NO_CONSTRAINTS)
    alone = LatencyModel((device(madds, smallest * 0.5),))
    with pytest.raises(Infeasible, match=f"--latency-ms {smallest * 0.5:g}: .* {smallest:.2f} ms$"):
        fastest_and_slowest(alone, tiny_space(), NO_CONSTRAINTS)
