"""The picture of the front, and what TensorBoard reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_search import read

from mnas.monitor.pareto import PlottedTrial
from mnas.monitor.tensorboard import TensorBoard, draw_pareto, markdown_table


def test_the_picture_shows_trials_front_references_and_budget() -> None:
    trials = [PlottedTrial(0.5, 2.0, ""), PlottedTrial(0.8, 6.0, ""), PlottedTrial(0.7, 7.0, "mobilenet_v3_small")]
    axes = draw_pareto(trials, [(0.5, 2.0), (0.8, 6.0)], [10.0]).axes[0]
    dots = axes.collections[0].get_offsets()
    assert dots.tolist() == [[2.0, 50.0], [6.0, 80.0]]  # type: ignore[union-attr]
    assert [text.get_text() for text in axes.texts] == ["mobilenet_v3_small"]
    assert "budget 10 ms" in [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert axes.get_xlabel() == "latency (ms)"


def test_the_knee_and_several_budgets() -> None:
    axes = draw_pareto([PlottedTrial(0.5, 2.0, "")], [(0.5, 2.0)], [5.0, 10.0], knee=(0.5, 2.0)).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert {"knee", "budget 5 ms", "budget 10 ms"} <= set(labels)
    assert axes.collections[1].get_offsets().tolist() == [[2.0, 50.0]]  # type: ignore[union-attr]


def test_an_empty_picture() -> None:
    assert draw_pareto([], []).axes[0].get_lines() == []


def test_tensorboard_reads_everything_back(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.trial(3, {"trial/accuracy": 0.5})
    board.training("winner", 2, {"loss": 1.5})
    board.supernet(100, {"lr": 0.1})
    board.text("note", markdown_table({"params": 7}))
    board.hparams(3, {"resolution": 32}, {"accuracy": 0.5}, [0.25, 0.5])
    board.pareto([PlottedTrial(0.5, 2.0, "")], [(0.5, 2.0)], [3.0], 1)
    board.close()
    events = read(tmp_path)
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars == {
        "trial/accuracy": [(3, 0.5)], "train_winner/loss": [(2, 1.5)], "supernet/lr": [(100, pytest.approx(0.1))],
    }  # fmt: skip
    assert events.Tags()["images"] == ["pareto"]
    curve = read(tmp_path / "trials" / "0003").Scalars("candidate/accuracy")
    assert [(event.step, event.value) for event in curve] == [(1, 0.25), (2, 0.5)]


def test_no_files_without_figures(tmp_path: Path) -> None:
    TensorBoard(tmp_path / "tb").close()
    assert not (tmp_path / "tb").exists()


def test_a_markdown_table() -> None:
    assert markdown_table({"params": 7, "name": "winner"}) == "| | |\n|---|---|\n| params | 7 |\n| name | winner |\n"
