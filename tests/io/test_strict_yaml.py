"""Strict YAML, and validation with places."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from mnas.config import Objective
from mnas.errors import BadInput
from mnas.io.strict_yaml import MAX_YAML_BYTES, Positive, Strict, load_yaml, parse_yaml, validate


def refusal(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        parse_yaml(text, "space.yaml")
    return str(caught.value)


# --- strict YAML ------------------------------------------------------------------------------------------------


def test_plain_data_is_read() -> None:
    text = "a: 1\nb: 0.001\nc: 1.0e-3\nd: [true, false, null]\ne: {f: none, 3: -2}\ng: 'no'\nh: \"1e-3\"\ni: |\n  yes\n"
    assert parse_yaml(text, "f") == {
        "a": 1, "b": 0.001, "c": 0.001, "d": [True, False, None], "e": {"f": "none", 3: -2},
        "g": "no", "h": "1e-3", "i": "yes\n",
    }  # fmt: skip
    assert parse_yaml("", "f") is None


@pytest.mark.parametrize("word", ["1e-3", "1E5", "-2e3", "1.e3", ".5e2", "+1e6"])
def test_floats_that_yaml_reads_as_text(word: str) -> None:
    message = refusal(f"a: 1\nlr: {word}")
    assert message.startswith(f"space.yaml, line 2: YAML reads '{word}' as text: write {float(word)!r} in full")


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "No", "ON", "y", "n", "N"])
def test_words_that_yaml_reads_as_booleans(word: str) -> None:
    expected = f"space.yaml, line 1: '{word}' is ambiguous in YAML: write true or false, or quote it"
    assert refusal(f"a: {word}") == refusal(f"[{word}]") == refusal(f"{word}: 1") == expected


@pytest.mark.parametrize(("text", "message"), [
    ("a: 1\nb: 2\na: 3", "line 3: key 'a' appears twice"),
    ("x:\n  - {a: 1, a: 1}", "line 2: key 'a' appears twice"),
    ("1: a\n1.0: b", "line 2: key '1.0' appears twice"),
    ("a: &x 1\nb: *x", "line 2: anchors and aliases are not used here: write it out"),
    ("a: &x [*x]", "line 1: anchors and aliases are not used here"),
    ("<<: {a: 1}", "line 1: 'merge' values are not used here"),
    ("a: 2024-01-31", "line 1: 'timestamp' values are not used here: quote it if text is meant"),
    ("a: 2024-01-31 10:00:00", "line 1: 'timestamp' values are not used here"),
    ("a: 2024-99-99", "line 1: 'timestamp' values are not used here"),
    ("a: !!binary aGk=", "line 1: 'binary' values are not used here"),
    ("a: !!set {x}", "line 1: 'set' values are not used here"),
    ("a: !!omap [x: 1]", "line 1: 'omap' values are not used here"),
    ("a: !!python/object/apply:os.system [ls]", "line 1: not valid YAML: could not determine a constructor"),
    ("a: !mine 3", "line 1: not valid YAML: could not determine a constructor for the tag '!mine'"),
    ("a: !!float abc", "space.yaml: not valid YAML: could not convert string to float"),
    ("? [a, b]\n: 1", "line 1: a key must be a plain word or number"),
    ("null: 1", "line 1: a key must be a plain word or number"),
    ("a: [1, 2", "not valid YAML"),
    ("a: 1\n b: 2", "line 2: not valid YAML"),
    ("a: b\n---\nc: d", "not valid YAML: but found another document"),
    ("a: \x00", "space.yaml: not valid YAML: unacceptable character #x0000"),
    ("a: \ud800", "space.yaml: not valid YAML"),
    ("[" * 40 + "]" * 40, "line 1: nested deeper than 32 levels"),
    ("- " * 40 + "1", "line 1: nested deeper than 32 levels"),
    ("[" * 200_000, "line 1: nested deeper than 32 levels"),
    ("a: " + "9" * 5000, "is no plain integer"),
])  # fmt: skip
def test_what_is_refused(text: str, message: str) -> None:
    assert refusal(text).startswith("space.yaml")
    assert message in refusal(text)


@pytest.mark.parametrize("text", ["a: 1:30", "a: 010"])
def test_numbers_that_yaml_reads_otherwise_than_meant(text: str) -> None:
    assert refusal(text)


def test_depth_of_32_is_read() -> None:
    assert parse_yaml("[" * 32 + "]" * 32, "f")


def test_a_file_of_two_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("a: " + "x" * 2_000_000)
    with pytest.raises(BadInput, match=r"large\.yaml: 2,000,003 bytes; at most 1,000,000 are read$"):
        load_yaml(path)
    assert refusal("a: " + "x" * MAX_YAML_BYTES) == "space.yaml: 1,000,003 bytes; at most 1,000,000 are read"
    assert load_yaml(path, max_bytes=3_000_000) == {"a": "x" * 2_000_000}


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("name: Zürich", encoding="utf-8")
    assert load_yaml(path) == {"name": "Zürich"}
    path.write_text("name: Zürich", encoding="latin-1")
    with pytest.raises(BadInput, match=r"f\.yaml: not a text file in UTF-8$"):
        load_yaml(path)
    with pytest.raises(BadInput, match=r"absent\.yaml: cannot be read: No such file or directory$"):
        load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(BadInput, match=r": cannot be read: Is a directory$"):
        load_yaml(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    for endless in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(BadInput, match=rf"^{endless}: not a regular file but a device or a pipe; expected"):
            load_yaml(endless)
    path.write_text("a: no")
    with pytest.raises(BadInput, match=r"f\.yaml, line 1: 'no' is ambiguous"):
        load_yaml(path)


# --- validation -------------------------------------------------------------------------------------------------


class Stage(Strict):
    kernel: tuple[int, ...]
    operator: Literal["conv", "mbconv"] = "conv"
    width: int | float = 1
    note: str | None = None


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


class Space(Strict):
    name: str
    stages: tuple[Stage, ...] = ()
    lr: Positive = 0.1
    budget: Positive | None = None
    objective: Objective | None = None
    point: Point | None = None


def problems(data: Any) -> str:
    with pytest.raises(BadInput) as caught:
        validate(Space, data, "space.yaml")
    assert str(caught.value).startswith("space.yaml: ")
    return str(caught.value).removeprefix("space.yaml: ")


def test_valid_data() -> None:
    data = {"name": "a", "stages": [{"kernel": [3, 5], "width": 0.5}], "lr": 1, "budget": None, "point": {"x": 3}}
    space = validate(Space, data, "f")
    assert space == Space(name="a", stages=(Stage(kernel=(3, 5), width=0.5),), lr=1.0, point=Point(3))
    with pytest.raises(ValueError, match="frozen"):
        space.name = "b"


TWO = [{"kernel": [3]}, {"kernel": [3]}]


@pytest.mark.parametrize(("data", "message"), [
    ({"nmae": "a", "name": "a"},
     "unknown key 'nmae'; did you mean 'name'? Known: budget, lr, name, objective, point, stages"),
    ({"name": "a", "zzzzzz": 1}, "unknown key 'zzzzzz'. Known: budget, lr, name, objective, point, stages"),
    ({}, "'name' is missing"),
    ({"name": 3}, "name: should be a valid string, got 3"),
    ({"name": "a", "lr": "0.1"}, "lr: should be a valid number, got '0.1'"),
    ({"name": "a", "lr": True}, "lr: should be a valid number, got True"),
    ({"name": "a", "lr": 0}, "lr: should be greater than 0, got 0"),
    ({"name": "a", "lr": float("nan")}, "lr: should be a finite number, got nan"),
    ({"name": "a", "budget": -1}, "budget: should be greater than 0, got -1"),
    ({"name": "a", "stages": 3}, "stages: should be a valid array, got 3"),
    ({"name": "a", "stages": [*TWO, {"kernel": 3}]}, "stages[2].kernel: should be a valid array, got 3"),
    ({"name": "a", "stages": [*TWO, {"kernel": [3, "5"]}]}, "stages[2].kernel[1]: should be a valid integer, got '5'"),
    ({"name": "a", "stages": [*TWO, {"kernel": [3.5]}]}, "stages[2].kernel[0]: should be a valid integer, got 3.5"),
    ({"name": "a", "stages": [*TWO, {}]}, "'stages[2].kernel' is missing"),
    ({"name": "a", "stages": [*TWO, {"kernal": [3], "kernel": [3]}]},
     "unknown key 'stages[2].kernal'; did you mean 'kernel'? Known: kernel, note, operator, width"),
    ({"name": "a", "stages": [{"kernel": [3], "operator": "mbcon"}]},
     "stages[0].operator: should be 'conv' or 'mbconv', got 'mbcon'"),
    ({"name": "a", "stages": [{"kernel": [3], "width": "wide"}]}, "stages[0].width: should be a valid"),
    ({"name": "a", "objective": {"name": "o", "formula": "tunas", "alfa": 1}},
     "unknown key 'objective.alfa'; did you mean 'alpha'? Known: accuracy, alpha"),
    ({"name": "a", "point": {"y": 3}}, "'point.x' is missing"),
    ({"name": "a", "point": {"x": "3"}}, "point.x: should be a valid integer, got '3'"),
    (None, "expected a mapping of keys to values, got nothing"),
    ([1], "expected a mapping of keys to values, got a list"),
    ("text", "expected a mapping of keys to values, got text"),
])  # fmt: skip
def test_messages(data: Any, message: str) -> None:
    assert problems(data).startswith(message)


def test_several_problems_are_told_at_once() -> None:
    message = problems({"lr": 0, "budget": 0})
    assert message.count(";") == 2
    assert "'name' is missing" in message
    assert "lr: " in message
    assert "budget: " in message


def test_long_values_are_cut() -> None:
    assert problems({"name": ["x" * 500]}).endswith("xxx...")


@pytest.mark.parametrize("key", ["learning-rate", "int", "str", "3"])
def test_every_unknown_key_is_named(key: str) -> None:
    assert f"unknown key '{key}'" in problems({"name": "a", key: 1})


def test_an_enormous_number() -> None:
    with pytest.raises(BadInput, match="is no plain integer"):
        parse_yaml("name: 0x" + "f" * 5000, "f")
