"""The picture and the log."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mnas.monitor.console import log_file, progress
from mnas.monitor.tensorboard import Seen, draw_pareto


def test_pareto_picture_shows_what_it_is_given() -> None:
    seen = [Seen(0.5, 2.0, ""), Seen(0.8, 6.0, ""), Seen(0.7, 7.0, "mobilenet_v3_small")]
    axes = draw_pareto(seen, [(0.5, 2.0), (0.8, 6.0)], [10.0]).axes[0]
    dots = axes.collections[0].get_offsets()
    assert dots.tolist() == [[2.0, 50.0], [6.0, 80.0]]  # type: ignore[union-attr]
    assert [text.get_text() for text in axes.texts] == ["mobilenet_v3_small"]
    assert "budget 10 ms" in [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert axes.get_xlabel() == "latency (ms)"


def test_the_knee_and_several_budgets() -> None:
    axes = draw_pareto([Seen(0.5, 2.0, "")], [(0.5, 2.0)], [5.0, 10.0], knee=(0.5, 2.0)).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert {"knee", "budget 5 ms", "budget 10 ms"} <= set(labels)
    assert axes.collections[1].get_offsets().tolist() == [[2.0, 50.0]]  # type: ignore[union-attr]


def test_an_empty_picture() -> None:
    assert draw_pareto([], []).axes


def test_log_file(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    log = logging.getLogger("mnas")
    handlers = list(log.handlers)
    with log_file(path):
        logging.getLogger("mnas.data").warning("broken image")
        log.info("trial 1")
    log.info("afterwards")
    text = path.read_text()
    assert "broken image" in text
    assert "trial 1" in text
    assert "afterwards" not in text
    assert log.handlers == handlers


def test_progress_ends_with_its_block(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="stop"), progress("work", 10) as shown:
        shown.update(3, 10, "three")
        raise ValueError("stop")
    assert capsys.readouterr().out == "", "stdout is for results"
