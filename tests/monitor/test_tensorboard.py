"""The picture of the front, and what TensorBoard reads back."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from small_search import read
from tensorboard.util.tensor_util import make_ndarray

from mnas.monitor.pareto import PlottedTrial
from mnas.monitor.tensorboard import TensorBoard, draw_pareto, markdown_table


def legend(figure: Figure) -> list[str]:
    (names,) = figure.legends
    return [text.get_text() for text in names.get_texts()]


def test_the_picture_shows_trials_front_references_and_budget() -> None:
    trials = [PlottedTrial(0.5, 2.0, ""), PlottedTrial(0.8, 6.0, ""), PlottedTrial(0.7, 7.0, "mobilenet_v3_small")]
    trials.append(PlottedTrial(0.6, 6.5, "mobilenet_v3_small/160"))
    figure = draw_pareto(trials, [(0.5, 2.0), (0.8, 6.0)], [10.0])
    axes = figure.axes[0]
    dots = axes.collections[0].get_offsets()
    assert dots.tolist() == [[2.0, 50.0], [6.0, 80.0]]  # type: ignore[union-attr]
    assert legend(figure) == [
        "trials", "front", "mobilenet_v3_small", "mobilenet_v3_small/160", "budget 10 ms"
    ]  # fmt: skip
    figure.draw_without_rendering()
    for names in figure.legends:
        box = names.get_window_extent()
        assert box.y0 >= axes.get_window_extent().y1, "no trial lies under the legend"
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    assert axes.get_xlabel() == "latency (ms)"


def test_the_knee_and_several_budgets() -> None:
    figure = draw_pareto([PlottedTrial(0.5, 2.0, "")], [(0.5, 2.0)], [5.0, 10.0], knee=(0.5, 2.0))
    axes = figure.axes[0]
    assert {"knee", "budget 5 ms", "budget 10 ms"} <= set(legend(figure))
    assert axes.collections[1].get_offsets().tolist() == [[2.0, 50.0]]  # type: ignore[union-attr]


def test_scores_are_not_called_accuracies() -> None:
    axes = draw_pareto([PlottedTrial(0.5, 2.0, "", is_score=True)], [(0.5, 2.0)]).axes[0]
    assert "score" in axes.get_ylabel() and "accuracy" not in axes.get_ylabel()
    assert axes.collections[0].get_offsets().tolist() == [[2.0, 0.5]]  # type: ignore[union-attr]


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
    figures = {"params": 7, "name": "winner", "val_accuracy": 0.9163763066, "seeds": {"sd": None}, "latencies": [{}]}
    assert markdown_table(figures) == (
        "| figure | value |\n|---|---|\n| params | 7 |\n| name | winner |\n| val accuracy | 0.916376 |\n"
    )


def test_names_in_a_markdown_table_have_no_effect(tmp_path: Path) -> None:
    """By TensorBoard's own page of texts."""
    name = "<script>alert(1)</script> **x** [a](http://b) `c` | d _e_"
    board = TensorBoard(tmp_path)
    board.text("note", markdown_table({"name": name}))
    board.close()
    with warnings.catch_warnings(action="ignore"):  # of what TensorBoard brings along
        from tensorboard.plugins.text import text_plugin

    (event,) = read(tmp_path).Tensors("note/text_summary")
    page = text_plugin.text_array_to_html(make_ndarray(event.tensor_proto), True)
    assert re.findall("<(table|td)[ >]", page)
    assert not re.findall("<(script|strong|em|a|code)[ >]", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; **x** [a](http://b) `c` | d _e_" in page
