"""What a search shows: the log, TensorBoard, the state of the search."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from small_search import read
from small_study import problem_of, tiny_space

from mnas.monitor.tensorboard import TensorBoard
from mnas.study.progress import TrialBoard, search_progress, stage_summaries
from mnas.study.schedule import Schedule
from mnas.study.trial import Evaluation, Trial

ARCH = next(tiny_space().enumerate())


def trial(number: int, accuracy: float | None, ms: float, state: str = "complete") -> Trial:
    return Trial(number, state, ARCH, ms, accuracy, accuracy, evaluation=Evaluation("trained", 1.0))  # type: ignore[arg-type]


def test_a_search_in_the_log_and_in_tensorboard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    board, problem = TensorBoard(tmp_path), problem_of(tiny_space(), "mnasnet_hard", budgets_ms=(1.0,))
    earlier = [trial(0, 0.5, 0.4)]
    with (
        caplog.at_level(logging.INFO, "mnas"),
        search_progress(problem, board, earlier, Schedule(4)) as show,
    ):
        show(trial(1, 0.25, 0.4))
        show(trial(2, 0.75, 1.5))
        show(trial(3, None, 0.4, "failed"))
        show(trial(4, None, 9.0, "over_budget"))
    board.close()
    assert [record.args[0] for record in caplog.records[:2]] == [1, 2]  # type: ignore[index]
    assert caplog.records[-1].args[0] == "3 candidates", "evaluated in this search"  # type: ignore[index]
    assert len(caplog.records) == 3, "one line a trial with an accuracy, and the end"
    events = read(tmp_path)
    scalars = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars["trial/accuracy"] == [0.25, 0.75]
    assert scalars["best/feasible_accuracy"] == [0.5, 0.5], "the third one is over the budget"
    # 0.5 from 0.4 ms, then 0.75 from 1.5 ms, of 2 ms
    assert scalars["best/hypervolume"] == pytest.approx([0.5 * 1.6 / 2, (0.5 * 1.6 + 0.25 * 0.5) / 2])
    assert events.Tags()["images"] == ["pareto"]


def test_the_best_accuracy_never_falls_where_the_objective_prefers_a_faster_network(tmp_path: Path) -> None:
    board, problem = TensorBoard(tmp_path), problem_of(tiny_space(), "mnasnet", budgets_ms=(10.0,))
    shown = TrialBoard(problem, board)
    shown.add(trial(0, 0.80, 9.9))
    shown.add(trial(1, 0.79, 3.0))
    board.close()
    assert "79.00%" in shown.standing, "the best by the objective"
    curve = [event.value for event in read(tmp_path).Scalars("best/feasible_accuracy")]
    assert curve == pytest.approx([0.80, 0.80]), "as the curve of random search"


def test_the_standing_names_the_best_within_the_budget(tmp_path: Path) -> None:
    board, problem = TensorBoard(tmp_path), problem_of(tiny_space(), budgets_ms=(1.0,))
    shown = TrialBoard(problem, board, [trial(0, 0.9, 1.01)])
    assert "1 candidate," in shown.standing
    assert "90" not in shown.standing
    shown.add(trial(1, 0.5, 0.4))
    assert "50.00%" in shown.standing
    assert "0.40 ms" in shown.standing
    board.close()


def test_a_long_search_has_rows_for_some_trials_and_scalars_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("mnas.study.progress.ROWS", 3)
    board, problem = TensorBoard(tmp_path), problem_of(tiny_space(), budgets_ms=(1.0,))
    shown = TrialBoard(problem, board, [trial(0, 0.5, 0.4)])
    for number, accuracy in enumerate([0.3, 0.4, 0.3, 0.6, 0.2], start=1):
        shown.add(trial(number, accuracy, 0.4))
    board.close()
    assert sorted(path.name for path in (tmp_path / "trials").iterdir()) == ["0001", "0002", "0004"]
    assert len(read(tmp_path).Scalars("trial/accuracy")) == 5
    assert shown.evaluated == 6


def test_summaries_name_every_stage() -> None:
    summaries = stage_summaries(ARCH)
    assert list(summaries) == ["resolution", "stem", *(f"stage{n}" for n in range(1, len(ARCH.stages) + 1))]
    assert str(summaries["stage1"]).count("-k") == len(ARCH.stages[0])
