"""Trials and the lines of trials.jsonl."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import mnas
from mnas.errors import BadInput
from mnas.study.trial import Evaluation, Trial

ARCH = mnas.zoo.get("mobilenet_v3_small", 1.0, 32)
TRIAL = Trial(3, "complete", ARCH, 4.5, 0.75, 0.7, "reference", Evaluation("fine-tuned", 2.5, (0.5, 0.75), 400))


@pytest.mark.parametrize("trial", [
    TRIAL, Trial(0, "over_budget", ARCH, 99.0), Trial(1, "failed", ARCH, 1.0, evaluation=Evaluation("trained", 1.0)),
])  # fmt: skip
def test_a_line_gives_the_trial_back(trial: Trial) -> None:
    assert Trial.from_json(json.loads(json.dumps(trial.to_json()))) == trial


def test_the_keys_of_a_line() -> None:
    record = TRIAL.to_json()
    assert list(record) == [
        "number", "state", "architecture", "latency_ms", "accuracy", "reward", "seconds", "curve", "name", "grade",
        "images",
    ]  # fmt: skip
    assert (record["grade"], record["seconds"], record["curve"]) == ("fine-tuned", 2.5, [0.5, 0.75])


def test_a_line_of_an_older_version_is_read() -> None:
    """One without the fidelity, and without what was not known."""
    line = {"number": 0, "state": "complete", "architecture": ARCH.to_dict(), "latency_ms": 2.0, "accuracy": 0.5,
            "curve": [0.5]}  # fmt: skip
    trial = Trial.from_json(line)
    assert (trial.accuracy, trial.curve, trial.fidelity, trial.name) == (0.5, (0.5,), "", "")


@pytest.mark.parametrize("line", [[], "text", None, {"number": 1}, TRIAL.to_json() | {"unknown": 1}])
def test_what_is_no_trial(line: Any) -> None:
    with pytest.raises(BadInput, match=r"trials\.jsonl"):
        Trial.from_json(line)


def test_the_spread_is_that_of_so_many_images() -> None:
    assert TRIAL.spread == pytest.approx(1.96 * math.sqrt(0.75 * 0.25 / 400), rel=0.01)
    assert TRIAL.summary.startswith("accuracy 75.00% +- 4.")
    perfect = Trial(0, "complete", ARCH, 1.0, 1.0, evaluation=Evaluation("trained", images=100))
    assert 0 < perfect.spread < 0.03, "and not none at all"  # type: ignore[operator]
    assert Trial(0, "complete", ARCH, 1.0, 0.5, evaluation=Evaluation("own")).spread is None


@pytest.mark.parametrize(("accuracy", "fidelity", "summary"), [
    (0.7512, "trained", "accuracy 75.12%"), (0.7512, "zero-cost", "score 0.751"), (None, "trained", "no accuracy"),
])  # fmt: skip
def test_summaries(accuracy: float | None, fidelity: str, summary: str) -> None:
    assert Trial(0, "complete", ARCH, 1.0, accuracy, evaluation=Evaluation(fidelity)).summary == summary
