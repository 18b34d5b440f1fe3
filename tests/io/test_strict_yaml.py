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
    assert message.startswith("space.yaml, line 2: ")
    assert f"'{word}'" in message and repr(float(word)) in message


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "No", "ON", "y", "n", "N"])
def test_words_that_yaml_reads_as_booleans(word: str) -> None:
    assert refusal(f"a: {word}") == refusal(f"[{word}]") == refusal(f"{word}: 1")
    assert refusal(f"a: {word}").startswith(f"space.yaml, line 1: '{word}'")


@pytest.mark.parametrize(("text", "message"), [
    ("a: 1\nb: 2\na: 3", "line 3: key 'a'"),
    ("x:\n  - {a: 1, a: 1}", "line 2: key 'a'"),
    ("1: a\n1.0: b", "line 2: key '1.0'"),
    ("a: &x 1\nb: *x", "line 2: anchors"),
    ("a: &x [*x]", "line 1: anchors"),
    ("<<: {a: 1}", "line 1: 'merge'"),
    ("a: 2024-01-31", "line 1: 'timestamp'"),
    ("a: 2024-01-31 10:00:00", "line 1: 'timestamp'"),
    ("a: 2024-99-99", "line 1: 'timestamp'"),
    ("a: !!binary aGk=", "line 1: 'binary'"),
    ("a: !!set {x}", "line 1: 'set'"),
    ("a: !!omap [x: 1]", "line 1: 'omap'"),
    ("a: !!python/object/apply:os.system [ls]", "line 1: "),
    ("a: !mine 3", "'!mine'"),
    ("a: !!float abc", "abc"),
    ("? [a, b]\n: 1", "line 1: a key"),
    ("null: 1", "line 1: a key"),
    ("a: [1, 2", "line "),
    ("a: 1\n b: 2", "line 2: "),
    ("a: b\n---\nc: d", "line 2"),
    ("a: \x00", "#x0000"),
    ("a: \ud800", "YAML"),
    ("[" * 40 + "]" * 40, "32"),
    ("- " * 40 + "1", "32"),
    ("[" * 200_000, "32"),
    ("a: " + "9" * 5000, "integer"),
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
    with pytest.raises(BadInput, match=r"large\.yaml: 2,000,003 .* 1,000,000"):
        load_yaml(path)
    assert "1,000,003" in refusal("a: " + "x" * MAX_YAML_BYTES)
    assert load_yaml(path, max_bytes=3_000_000) == {"a": "x" * 2_000_000}


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("name: Zürich", encoding="utf-8")
    assert load_yaml(path) == {"name": "Zürich"}
    path.write_text("name: Zürich", encoding="latin-1")
    with pytest.raises(BadInput, match=r"f\.yaml: .*UTF-8"):
        load_yaml(path)
    with pytest.raises(BadInput, match=r"absent\.yaml"):
        load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(BadInput, match="directory"):
        load_yaml(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    for endless in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(BadInput, match=f"^{endless}: "):
            load_yaml(endless)
    path.write_text("a: no")
    with pytest.raises(BadInput, match=r"f\.yaml, line 1: 'no'"):
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
    ({}, "'name'"),
    ({"name": 3}, "name: "),
    ({"name": "a", "lr": "0.1"}, "lr: "),
    ({"name": "a", "lr": True}, "lr: "),
    ({"name": "a", "lr": 0}, "lr: "),
    ({"name": "a", "lr": float("nan")}, "lr: "),
    ({"name": "a", "budget": -1}, "budget: "),
    ({"name": "a", "stages": 3}, "stages: "),
    ({"name": "a", "stages": [*TWO, {"kernel": 3}]}, "stages[2].kernel: "),
    ({"name": "a", "stages": [*TWO, {"kernel": [3, "5"]}]}, "stages[2].kernel[1]: "),
    ({"name": "a", "stages": [*TWO, {"kernel": [3.5]}]}, "stages[2].kernel[0]: "),
    ({"name": "a", "stages": [*TWO, {}]}, "'stages[2].kernel'"),
    ({"name": "a", "stages": [*TWO, {"kernal": [3], "kernel": [3]}]},
     "unknown key 'stages[2].kernal'; did you mean 'kernel'? Known: kernel, note, operator, width"),
    ({"name": "a", "stages": [{"kernel": [3], "operator": "mbcon"}]},
     "stages[0].operator: "),
    ({"name": "a", "stages": [{"kernel": [3], "width": "wide"}]}, "stages[0].width: "),
    ({"name": "a", "objective": {"name": "o", "formula": "tunas", "alfa": 1}},
     "unknown key 'objective.alfa'; did you mean 'alpha'? Known: accuracy, alpha"),
    ({"name": "a", "point": {"y": 3}}, "'point.x'"),
    ({"name": "a", "point": {"x": "3"}}, "point.x: "),
    (None, "expected a mapping"),
    ([1], "expected a mapping"),
    ("text", "expected a mapping"),
])  # fmt: skip
def test_messages(data: Any, message: str) -> None:
    assert problems(data).startswith(message)


def test_several_problems_are_told_at_once() -> None:
    message = problems({"lr": 0, "budget": 0})
    assert message.count(";") == 2
    assert "'name'" in message
    assert "lr: " in message
    assert "budget: " in message


def test_long_values_are_cut() -> None:
    assert problems({"name": ["x" * 500]}).endswith("xxx...")


@pytest.mark.parametrize("key", ["learning-rate", "int", "str", "3"])
def test_every_unknown_key_is_named(key: str) -> None:
    assert f"unknown key '{key}'" in problems({"name": "a", key: 1})


def test_an_enormous_number() -> None:
    with pytest.raises(BadInput, match="integer"):
        parse_yaml("name: 0x" + "f" * 5000, "f")
