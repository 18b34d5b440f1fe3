"""Constraints on parameters, multiply-adds and memory, and the fastest network that satisfies them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_study import tiny_space

import mnas
from mnas.config import Objective, RunConfig, Target
from mnas.space.cost import Cost
from mnas.study.constraints import NO_CONSTRAINTS, constraints_of

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
