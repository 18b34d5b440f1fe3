"""How options' values are read: lists by commas, the old form of several numbers, order of devices."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mnas.cli.errors import memory_advice
from mnas.cli.options import assignments, by_device, comma_separated, milliseconds, sizes
from mnas.errors import BadInput


def test_lists_are_comma_separated() -> None:
    assert milliseconds(["5,10", "15"]) == [5.0, 10.0, 15.0]
    assert sizes("160,192") == [160, 192]
    for wrong in ("5,", "a", "5;6"):
        with pytest.raises(BadInput, match="--latency-ms"):
            milliseconds([wrong])
    with pytest.raises(BadInput, match="--resolution"):
        sizes("160 192")


@pytest.mark.parametrize(("words", "expected"), [
    ("--latency-ms 5 10 15 --seed 3", "--latency-ms 5,10,15 --seed 3"),
    ("--latency-ms=5 10 --seed 3", "--latency-ms=5,10 --seed 3"),
    ("--space v3_large --latency-ms 5 1e1", "--space v3_large --latency-ms 5,1e1"),
    ("--latency-ms 5, 10, 15", "--latency-ms 5,10,15"),
    ("--latency-ms -3 4,5", "--latency-ms -3,4,5"),
    ("--latency-ms 5 --runtime torch --latency-ms 6 7", "--latency-ms 5 --runtime torch --latency-ms 6,7"),
])  # fmt: skip
def test_several_numbers_after_one_option(words: str, expected: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mnas"):
        assert comma_separated(words.split(), "--latency-ms") == expected.split()
    assert caplog.records[0].levelname == "WARNING"


@pytest.mark.parametrize("words", ["--latency-ms 5 --seed 10", "--latency-ms 5,10", "--latency-ms", "--seed 3 5"])
def test_other_words_stay(words: str, caplog: pytest.LogCaptureFixture) -> None:
    assert comma_separated(words.split(), "--latency-ms") == words.split()
    assert not caplog.records


def test_devices_are_paired_in_order() -> None:
    order, table = ["--latency-table", "--runtime"], Path("phone.yaml")
    assert by_device(order, ["torch"], [table], ["2", "60"]) == ([None, "torch"], [table, None])
    assert by_device(["--runtime"] * 2, ["a", "b"], [], ["2", "60"]) == (["a", "b"], [])
    assert by_device(order, ["torch"], [table], ["2,60"]) == (["torch"], [table]), "two budgets of one device"
    for runtimes, tables in ((["a", "b"], []), (["a"], [table, table])):
        with pytest.raises(BadInput, match="--latency-ms 2,60"):
            by_device(["--runtime"] * 2, runtimes, tables, ["2,60"])


def test_assignments() -> None:
    assert assignments(["recipe.epochs=3", "storage=a=b"]) == {"recipe.epochs": "3", "storage": "a=b"}
    with pytest.raises(BadInput, match="KEY=VALUE"):
        assignments(["recipe.epochs"])


@pytest.mark.parametrize(("command", "option"), [
    ("search", "supernet.batch_size"), ("resume", "supernet.batch_size"), ("train", "batch_size"),
    ("latency", "--batch"),
])  # fmt: skip
def test_out_of_memory_names_options_that_the_command_has(command: str, option: str) -> None:
    advice = memory_advice([command, "--json"])
    assert option in advice
    assert "--classes" not in advice
    assert ("--batch " in advice) == (command == "latency")
