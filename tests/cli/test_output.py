"""Tables that fit: wrapped between words on a terminal, a list where they cannot fit."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from mnas.cli.output import PIPE_WIDTH, networks_table, print_networks, print_table, rich_table, show

COLUMNS = ["network", "trained", "latency (ms)"]
ROWS = [["mobilenet_v3_large", "9 epochs, inherited", "16.20 +- 0.18 (over budget)"], ["winner", "9 epochs", 6.58]]
WORDS = {word for row in ROWS for cell in row for word in str(cell).split()}


@pytest.mark.parametrize("width", [200, 75, 60, 50])
def test_a_table_breaks_no_word(width: int) -> None:
    table = rich_table("a title", COLUMNS, ROWS, width)
    assert table is not None
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert set(out.getvalue().replace("│", " ").split()) >= WORDS


def test_a_table_that_cannot_fit() -> None:
    assert rich_table("a title", COLUMNS, ROWS, 40) is None


@pytest.mark.parametrize("repeats", [1, 3])
def test_on_a_pipe(repeats: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_table("[title]", COLUMNS * repeats, [row * repeats for row in ROWS])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "[title]"
    assert max(map(len, lines)) <= PIPE_WIDTH
    assert ("  latency (ms): 6.58" in lines) == (repeats > 1)


@pytest.mark.parametrize(("speed", "cell"), [
    ({}, "14.00 +- 0.20"),
    ({"speed_factor": 1.2, "measured_ms": 16.8}, "14.00 +- 0.20, 16.80 as measured"),
    ({"speed_factor": 1.005, "measured_ms": 14.07}, "14.00 +- 0.20"),
    ({"spread_ms": 0.004, "latency_ms": 0.0523}, "0.052 +- 0.004"), ({"spread_ms": 0.0}, "14.00"),
])  # fmt: skip
def test_a_latency_at_the_tables_speed_and_as_measured(speed: dict[str, float], cell: str) -> None:
    latency: dict[str, Any] = {
        "device": "a board", "runtime": "torch", "threads": 1, "batch": 1, "budget_ms": 15.0, "how": "measured",
        "latency_ms": 14.0, "spread_ms": 0.2, "keeps": True, **speed,
    }  # fmt: skip
    network = {
        "name": "winner", "test_accuracy": 0.9, "madds": 1, "params": 1, "resolution": 32, "accuracy_resolution": 32,
        "latencies": [latency],
    }  # fmt: skip
    accuracy = {"data": "digits", "test_images": 360, "epochs": 3}
    _, _, ((*_, shown),) = networks_table({"networks": [network], "accuracy": accuracy})
    assert shown == cell


def network(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "name": name, "test_accuracy": 0.9, "madds": 1, "params": 1, "resolution": 32, "latencies": [{
            "device": "a board", "runtime": "torch", "threads": 1, "batch": 1, "budget_ms": 15.0, "how": "measured",
            "latency_ms": 14.0, "spread_ms": 0.2, "keeps": True,
        }], "accuracy_resolution": 32, **facts,
    }  # fmt: skip


def test_accuracy_with_top5_and_seeds_and_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    several = {"accuracies": [0.9, 0.92, 0.94], "mean": 0.92, "sd": 0.02}
    networks = [network("winner", top5_accuracy=0.99, seeds=several), network("mobilenet_v2")]
    done = {
        "folder": "run", "networks": networks, "accuracy": {"data": "digits", "test_images": 360, "epochs": 3},
        "verdicts": [{"baseline": "mobilenet_v2", "half_width": 0.4, "verdict": "better by 0.9 +- 0.4 points"}],
    }  # fmt: skip
    _, _, rows = networks_table(done)
    assert [row[1] for row in rows] == ["90.00%, top-5 99.00%, mean of 3 seeds 92.00% +- 2.00%", "90.00%"]
    print_networks(done)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "winner and mobilenet_v2: better by 0.9 +- 0.4 points", "run",
    ]  # fmt: skip


def test_a_reference_that_wins_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    done = {
        "folder": "run", "networks": [network("winner"), network("v2@1:48"), network("v1")],
        "accuracy": {"data": "digits", "test_images": 360, "epochs": 3},
        "verdicts": [
            {"baseline": "v2@1:48", "half_width": None, "verdict": "the same network"},
            {"baseline": "v1", "half_width": 0.3, "verdict": "better by 0.9 +- 0.3 points"},
        ],
    }  # fmt: skip
    assert [row[0] for row in networks_table(done)[2]] == ["winner", "v1"]
    print_networks(done)
    assert "winner and v2@1:48: the same network" in capsys.readouterr().out


@pytest.mark.parametrize(("rank", "printed"), [("0", '{\n  "a": 1\n}\n'), ("1", "")])
def test_one_of_several_processes_prints(
    rank: str, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    show({"a": 1}, True, lambda: None)
    assert capsys.readouterr().out == printed
