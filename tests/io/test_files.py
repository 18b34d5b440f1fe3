"""Files written whole or not at all; the user's cache."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mnas.errors import BadInput
from mnas.io.files import disk_errors, read_json, require_space, user_cache, whole_folder, write_atomic, write_json


def test_json_by_text_and_path(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(str(path), {"name": "Zürich"})
    assert read_json(path) == read_json(str(path)) == {"name": "Zürich"}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"x": float("nan")})
    assert read_json(path) == {"name": "Zürich"}
    write_atomic(str(path), "{")
    with pytest.raises(BadInput, match=r"a\.json"):
        read_json(path)
    with pytest.raises(BadInput, match=r"absent\.json"):
        read_json(tmp_path / "absent.json")


def test_a_list_of_numbers_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    data = {
        "matrix": [[1, 2], [-3, 4e-9]], "text": "[\n  1,\n  2\n]", "mixed": [1, "2"], "none": [None, 1], "empty": [],
        "one": [7], "inner": [{"a": [0.5, 1]}],
    }  # fmt: skip
    write_json(path, data)
    assert read_json(path) == data
    lines = [line.strip() for line in path.read_text().splitlines()]
    assert {"[1, 2],", "[-3, 4e-09]", '"one": [7],', '"a": [0.5, 1]'} <= {*lines}
    assert '"mixed": [' in lines


def test_a_write_that_fails_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "whole")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "whole")]


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache("latency") == tmp_path / "mnas" / "latency"


def test_too_little_space(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(BadInput, match="MB are free"):
        require_space(tmp_path, 10**18)


def test_a_whole_folder(tmp_path: Path) -> None:
    """It appears when the block ends, and not where that fails; one that exists keeps its other files."""
    folder = tmp_path / "winner"
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as part:
        write_atomic(part / "a", "1")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with whole_folder(folder) as part:
        write_atomic(part / "a", "1")
        assert not folder.exists()
    write_atomic(folder / "more" / "mine", "kept")
    with whole_folder(folder) as part:
        write_atomic(part / "a", "2")
        assert (folder / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [folder]
    assert {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()} == {"a": "2", "mine": "kept"}


def test_what_a_killed_process_left_is_not_taken_for_whole(tmp_path: Path) -> None:
    write_atomic(tmp_path / ".winner.part" / "stale", "x")
    with whole_folder(tmp_path / "winner") as part:
        write_atomic(part / "a", "1")
    assert [path.name for path in tmp_path.rglob("*")] == ["winner", "a"]


def test_a_full_disk_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"3 bytes are needed, [\d,]+ are free") as full, disk_errors(tmp_path / "a", 3):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))
