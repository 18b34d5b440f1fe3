"""Names and paths: what a word means, beside files and folders of the same name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mnas.io.names import Names, absolute_path

FRUIT = Names("built-in fruit", lambda text: text.partition("@")[0] in ("apple", "pear"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a folder and a file named like fruit, and a folder of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in ("apple", "photos"):
        (tmp_path / name).mkdir()
    (tmp_path / "pear@0.5").touch()
    return tmp_path


@pytest.mark.parametrize("name", ["apple", "pear", "pear@0.5", "apple@9"])
def test_a_name_is_a_name(name: str) -> None:
    assert FRUIT.path(name) is None
    assert FRUIT.absolute(name) == name


@pytest.mark.parametrize("path", ["./apple", "photos", "a/b", "fruit.yaml", "..", "~/apple", Path("apple")])
def test_a_path_is_a_path(path: str | Path) -> None:
    assert FRUIT.path(path) == Path(path).expanduser()


@pytest.mark.parametrize("word", ["", "plum", "plum@0.5"])
def test_an_unknown_name(word: str) -> None:
    assert FRUIT.path(word) is None


def test_stored_paths_are_full(here: Path) -> None:
    assert FRUIT.absolute("photos") == FRUIT.absolute("./photos") == str(here / "photos")
    assert absolute_path("photos") == absolute_path(Path("photos")) == str(here / "photos")
    assert FRUIT.absolute(Path("apple")) == str(here / "apple")
    assert FRUIT.absolute("absent.yaml") == "absent.yaml"
    for unusable in ("x" * 5000, "a\0b"):
        assert FRUIT.absolute(unusable) == unusable


def test_the_name_wins_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mnas"):
        for word in ("apple", "apple", "pear", "./apple"):
            FRUIT.path(word)
    assert [record.getMessage().count("./apple") for record in caplog.records] == [1]
