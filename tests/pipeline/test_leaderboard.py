"""leaderboard.csv: one row a network, the best first, in columns that stay."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mnas
from mnas.latency.model import PREDICTED
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.classification import ClassificationSearch
from mnas.pipeline.kind import Judged
from mnas.pipeline.leaderboard import (
    COLUMNS,
    LeaderboardRow,
    Score,
    final_rows,
    merged,
    race_rows,
    trial_rows,
    validation_score,
    write_leaderboard,
)
from mnas.pipeline.race import Contender
from mnas.study.trial import Evaluation, Trial
from mnas.training.full import Trained
from mnas.training.judgement import Judgement

ARCHS = [mnas.zoo.get("mobilenet_v3_small", width, 32) for width in (0.35, 0.5, 0.6, 0.75, 0.85, 1.0, 1.25)]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contender(i: int, name: str = "", rounds: int = 30) -> Contender:
    return Contender(name or f"trial {i}", ARCHS[i], "found", Measurement(i + 0.5, 0.1, rounds), trial=i)


def rung(epoch: int, accuracies: dict[str, float | None], survivors: list[str]) -> dict[str, Any]:
    seconds = {name: 2.0 * epoch for name, accuracy in accuracies.items() if accuracy is not None}
    epochs = dict.fromkeys(accuracies, epoch)
    return {"epochs": epochs, "accuracies": accuracies, "survivors": survivors, "seconds": seconds}


TRIALS = [
    Trial(0, "complete", ARCHS[0], 0.25, 0.5, evaluation=Evaluation("trained", 3.0, images=100)),
    Trial(1, "complete", ARCHS[1], 1.25, 0.6, evaluation=Evaluation("trained", 3.0)),
    Trial(2, "complete", ARCHS[2], 2.25, 0.7, evaluation=Evaluation("trained", 3.0)),
    Trial(3, "over_budget", ARCHS[3], 9.25),
    Trial(4, "pruned", ARCHS[4], 4.25, 0.9, evaluation=Evaluation("trained", 1.0)),
    Trial(5, "failed", ARCHS[5], 5.25),
    Trial(6, "repeated", ARCHS[0], 0.25),
]


def test_golden_file(tmp_path: Path) -> None:
    entered = [contender(1), contender(2), contender(6, "mobilenet_v3_small@1.25:32")]
    rungs = [rung(1, {"trial 1": 0.6, "trial 2": 0.5, "mobilenet_v3_small@1.25:32": 0.7},
                  ["mobilenet_v3_small@1.25:32", "trial 1"])]  # fmt: skip
    ended = {"trial 1": validation_score(0.9, 100, 4, 8.0), "mobilenet_v3_small@1.25:32": Score(0.8, "validation")}
    judgement = Judgement(np.zeros(100, np.int64), np.repeat([0, 1], [88, 12]), 2)
    winner = Judged(Trained("winner", ARCHS[1], mnas.build(ARCHS[1], 2), 0.9, "scratch", 4, 8.0), (judgement,))
    metrics = {"role": "winner", "test_accuracy": 0.88, "latencies": [{"how": "measured", "latency_ms": 1.6}]}
    last = final_rows(ClassificationSearch(), [winner], [metrics])
    rows = [*trial_rows(TRIALS), *race_rows(entered, rungs, ended, 100), *last]
    path = tmp_path / "leaderboard.csv"
    write_leaderboard(path, rows, 10)
    assert path.read_text().splitlines()[0] == (
        "name,resolution,width,madds,params,latency_predicted_ms,latency_measured_ms,accuracy,accuracy_kind,spread,"
        "epochs,seconds,state"
    )
    table = read(path)
    assert [(row["name"], row["state"]) for row in table] == [
        ("trial 1", "winner"), ("mobilenet_v3_small@1.25:32", "finished"), ("trial 2", "dropped"),
        ("trial 0", "complete"), ("trial 4", "pruned"), ("trial 5", "failed"), ("trial 3", "over_budget"),
    ]  # fmt: skip
    counted = mnas.cost(ARCHS[1], 10)
    spread = 1.96 * np.sqrt(89 / 102 * 13 / 102 / 100)
    assert table[0] == {
        "name": "trial 1", "resolution": "32", "width": "", "madds": str(counted.madds), "params": str(counted.params),
        "latency_predicted_ms": "1.25", "latency_measured_ms": "1.6", "accuracy": "0.88", "accuracy_kind": "test",
        "spread": f"{spread:.6f}", "epochs": "4", "seconds": "8.0", "state": "winner",
    }  # fmt: skip
    dropped = table[2]
    assert [dropped[name] for name in ("accuracy", "accuracy_kind", "epochs", "seconds", "latency_measured_ms")] == [
        "0.5", "validation", "1", "2.0", "2.5",
    ]  # fmt: skip
    assert table[1]["width"] == "1.25"
    assert (table[3]["accuracy_kind"], table[3]["latency_measured_ms"]) == ("trained", "")
    assert float(table[3]["spread"]) == pytest.approx(0.098, abs=0.002)
    assert [table[-1][name] for name in ("accuracy", "spread", "epochs", "seconds")] == [""] * 4


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    rows = trial_rows(trial for trial in TRIALS if trial.number < 6)
    texts = set()
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        write_leaderboard(tmp_path / "l.csv", rows, 10)
        texts.add((tmp_path / "l.csv").read_text())
    assert len(texts) == 1


def test_while_a_race_goes_on() -> None:
    entered = [contender(i) for i in range(4)]
    first = rung(1, {"trial 0": 0.1, "trial 1": 0.4, "trial 2": None, "trial 3": 0.5}, ["trial 1", "trial 3"])
    second = rung(2, {"trial 1": 0.6, "trial 3": 0.7}, ["trial 3"])
    assert [row.state for row in race_rows(entered, [])] == ["racing"] * 4
    rows = race_rows(entered, [first, second])
    assert [row.state for row in rows] == ["dropped", "dropped", "diverged", "racing"]
    assert [row.score.epochs for row in rows] == [1, 2, 1, 2]
    assert [row.score.accuracy for row in rows] == [0.1, 0.6, None, 0.7]
    lost = race_rows(entered, [first, second], finished={})
    assert lost[3].state == "diverged", "in the last part of its training"


def test_later_drops_come_first(tmp_path: Path) -> None:
    rows = [
        LeaderboardRow(f"{i}", ARCHS[i], "dropped", Score(accuracy, "validation", epochs=epochs))
        for i, (accuracy, epochs) in enumerate([(0.9, 1), (0.5, 4), (0.6, 4)])
    ]
    write_leaderboard(tmp_path / "l.csv", rows, 10)
    assert [row["name"] for row in read(tmp_path / "l.csv")] == ["2", "1", "0"]


def test_one_row_a_network() -> None:
    """Of several races the furthest state; the latencies of all."""
    rows = merged([
        LeaderboardRow("trial 0", ARCHS[0], "complete", Score(0.5), predicted_ms=1.0),
        LeaderboardRow("trial 0", ARCHS[0], "finished", Score(0.8), measured_ms=1.1),
        LeaderboardRow("trial 0", ARCHS[0], "dropped", Score(0.6), measured_ms=1.2),
    ])  # fmt: skip
    assert rows == [LeaderboardRow("trial 0", ARCHS[0], "finished", Score(0.8), 1.0, 1.1)]


def test_a_predicted_latency_is_not_a_measured_one() -> None:
    (row,) = race_rows([contender(1, rounds=PREDICTED)], [])
    assert (row.predicted_ms, row.measured_ms) == (1.5, None)
    judgement = Judgement(np.zeros(4, np.int64), np.zeros(4, np.int64), 2)
    phone = Judged(Trained("x", ARCHS[0], mnas.build(ARCHS[0], 2), 0.9), (judgement,))
    metrics = {"role": "baseline", "test_accuracy": 1.0, "latencies": [{"how": "not in the table", "latency_ms": None}]}
    (row,) = final_rows(ClassificationSearch(), [phone], [metrics])
    assert (row.predicted_ms, row.measured_ms, row.state) == (None, None, "baseline")


def test_names_of_references_have_widths(tmp_path: Path) -> None:
    names = ["mobilenet_v3_small", "mobilenet_v3_small/24", "mobilenet_v3_small@0.5:24", "trial 3", "winner@home"]
    rows = [LeaderboardRow(name, arch, "complete") for name, arch in zip(names, ARCHS, strict=False)]
    write_leaderboard(tmp_path / "l.csv", rows, 10)
    widths = {row["name"]: row["width"] for row in read(tmp_path / "l.csv")}
    assert [widths[name] for name in names] == ["1.0", "1.0", "0.5", "", ""]


def test_no_rows(tmp_path: Path) -> None:
    write_leaderboard(tmp_path / "l.csv", [], 10)
    assert (tmp_path / "l.csv").read_text() == ",".join(COLUMNS) + "\n"
