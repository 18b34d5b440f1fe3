"""Limits on parameters, multiply-adds and memory: counted, refused where no network keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnas
from mnas.config import Objective, RunConfig, Target
from mnas.study.constraints import NO_LIMITS, limits_of

ARCHS = [mnas.zoo.get("mobilenet_v3_small", width, 32) for width in (0.35, 0.5, 0.75, 1.0)]


def config(**limits: float) -> RunConfig:
    objective = Objective(name="mnasnet", formula="mnasnet")
    return RunConfig(space="tiny", targets=(Target(latency_ms=1.0),), objective=objective).model_copy(update=limits)


@given(st.sampled_from(ARCHS), st.integers(1, 2_000_000), st.integers(1, 10_000_000), st.floats(0.001, 1))
def test_a_network_keeps_limits_as_its_costs_do(arch: mnas.Architecture, params: int, madds: int, mb: float) -> None:
    counted = mnas.cost(arch, 10)
    limits = limits_of(config(max_params=params, max_madds=madds, max_memory_mb=mb), 10)
    plain = counted.params <= params and counted.madds <= madds and counted.activation_bytes / 1e6 <= mb
    assert limits.keeps(arch) == plain


def test_no_limits_are_kept_by_all() -> None:
    assert limits_of(config(), 1000).each == ()
    assert NO_LIMITS.keeps(ARCHS[0])
    assert NO_LIMITS.load(ARCHS[0]) == 0


@pytest.mark.parametrize(("name", "option", "of"), [
    ("max_params", "--max-params", lambda one: one.params),
    ("max_madds", "--max-madds", lambda one: one.madds),
    ("max_memory_mb", "--max-memory-mb", lambda one: one.activation_bytes / 1e6),
])  # fmt: skip
def test_what_no_network_keeps_is_refused_with_the_smallest_value(tiny: Path, name: str, option: str, of: object) -> None:  # noqa: E501
    space = mnas.load_space(tiny)
    least = min(of(mnas.cost(arch, 10)) for arch in space.enumerate())  # type: ignore[operator]
    limits_of(config(**{name: least}), 10).refuse_unreachable(space)
    with pytest.raises(mnas.Infeasible, match=rf"{option} .* the smallest reachable value is {least:,.10g}$"):
        limits_of(config(**{name: least * 0.99}), 10).refuse_unreachable(space)
