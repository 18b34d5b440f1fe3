"""What a run decides before it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_search import QUICK, TINY_SPACE, guess, milliseconds, no_pictures

import mnas
from mnas.pipeline.plan import EXPORT_S
from mnas.pipeline.planning import LEAST_LEFT
from mnas.run import Run
from mnas.space.architecture import Architecture


@pytest.mark.parametrize(("gone_s", "budget_s"), [(500.0, 20.0), (0.0, 3600.0)])
def test_time_that_was_lost_before_does_not_eat_the_trainings(
    tmp_path: Path, few: mnas.ImageData, gone_s: float, budget_s: float
) -> None:
    """As if the table, or waiting for other processes, had taken much longer than the whole budget."""
    (tmp_path / "tiny.yaml").write_text(TINY_SPACE)
    folder = tmp_path / "run"

    def stopped(arch: Architecture) -> float:
        raise KeyboardInterrupt

    asked: dict[str, Any] = {
        "space": tmp_path / "tiny.yaml", "data": few, "latency_ms": 0.5, "estimator": guess, "budget": budget_s,
        "trials": 3, "run": folder,
        "set": {**QUICK, "recipe.images": 100, "recipe.max_epochs": 6, "references": 1},
    }  # fmt: skip
    with no_pictures():
        with pytest.raises(KeyboardInterrupt):
            mnas.search(**asked, latency=stopped)
        run = Run(folder)
        run.update_state(elapsed_s=gone_s)
        found = mnas.search(**asked, latency=milliseconds)
    given_s = run.state().budget_s
    assert given_s is not None
    if gone_s:
        assert gone_s + LEAST_LEFT * budget_s + EXPORT_S <= given_s <= gone_s + budget_s + EXPORT_S + 10
    else:
        assert given_s == budget_s
    assert found.metrics["networks"][0]["epochs"] > 1
