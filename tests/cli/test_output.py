"""Tables that fit: wrapped between words on a terminal, a list where they cannot fit."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mnas.cli.output import PIPE_WIDTH, print_table, rich_table

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
