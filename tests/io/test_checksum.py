"""Damaged files are found by their checksum, and the one before is used."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
from damage import KINDS, damage, flipped

from mnas.errors import BadInput
from mnas.io.checksum import (
    check_sum,
    previous,
    read_kept,
    remove_kept,
    sealed,
    unsealed,
    write_kept,
    write_with_sum,
)
from mnas.io.jsonl import append_record, read_records

LINES = 50


def state(number: int) -> str:
    return f"state {number}\n" * LINES


def text(content: bytes) -> str:
    """As parsers do, raises for what they cannot read."""
    if not content.startswith(b"state ") or content.count(b"\n") < LINES:
        raise ValueError("no whole state")
    return content.decode()


def test_a_sealed_file_keeps_its_content() -> None:
    assert unsealed(sealed(b"a\n")) == b"a\n"
    assert unsealed(b"of an earlier version") == b"of an earlier version"


def test_every_changed_bit_is_found_or_harmless() -> None:
    """A changed bit in the words before the checksum makes a file of an earlier version of it, whose content is whole.
    """
    content = b"ms: 0.25\n"
    whole = sealed(content)
    for at in range(len(whole)):
        for bit in range(8):
            try:
                assert unsealed(flipped(whole, at, bit)).startswith(content)
            except ValueError:
                continue
            assert len(content) <= at, "nothing in the content itself"


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_good_one_is_used(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.pt"
    for number in (1, 2, 3):
        write_kept(path, state(number).encode())
    assert {one.name for one in tmp_path.iterdir()} == {"state.pt", "state.pt.previous"}
    damage(path, kind)
    with caplog.at_level(logging.WARNING, "mnas"):
        found = read_kept(path, text)
    if kind in ("last byte lost", "near the end"):  # of the checksum's line: the content is whole
        assert found is not None and found.startswith(state(3))
        return
    assert found == state(2)
    assert str(path) in caplog.messages[0] and str(previous(path)) in caplog.messages[1]
    write_kept(path, state(4).encode())
    assert read_kept(path, text) == state(4)


def test_nothing_is_left_where_both_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    assert read_kept(path, text) is None
    write_kept(path, state(1).encode())
    write_kept(path, state(2).encode())
    damage(path, "first bit")
    damage(previous(path), "empty")
    assert read_kept(path, text) is None
    remove_kept(path)
    assert not list(tmp_path.iterdir())


def test_a_sum_beside_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert [one.name for one in write_with_sum(path, b"weights")] == ["a.safetensors", "a.safetensors.sha256"]
    beside = path.with_name("a.safetensors.sha256")
    assert beside.read_text() == f"{hashlib.sha256(b'weights').hexdigest()}  a.safetensors\n"
    check_sum(path)
    damage(path, "in the middle")
    with pytest.raises(BadInput, match=f"^{path}: its sha256"):
        check_sum(path)
    beside.unlink()
    check_sum(path)


RECORDS = [{"number": 0, "accuracy": 0.5}, {"number": 1, "name": "é"}, {"number": 2}]


def test_every_changed_bit_of_a_line_is_found(tmp_path: Path) -> None:
    """The lines beside it are read as they were; the records themselves are never wrong."""
    path = tmp_path / "trials.jsonl"
    for record in RECORDS:
        append_record(path, record)
    whole = path.read_bytes()
    first, second, _ = whole.splitlines(keepends=True)
    for at in range(len(first), len(first) + len(second)):
        for bit in (0, 1, 5):
            path.write_bytes(flipped(whole, at, bit))
            found = read_records(path)
            if at < len(first) + len(second) - 1:
                assert found in ([RECORDS[0], RECORDS[2]], RECORDS), (at, bit)
            else:  # the line break itself
                assert found == RECORDS[:1]
            assert read_records(path) == found, "repaired"


def test_a_damaged_line_is_moved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trials.jsonl"
    for record in RECORDS:
        append_record(path, record)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = flipped(lines[1], 12, 1)
    path.write_bytes(b"".join(lines))
    with pytest.raises(BadInput, match=f"^{path}, line 2: damaged"):
        read_records(path, repair=False)
    assert read_records(path) == [RECORDS[0], RECORDS[2]]
    assert path.read_bytes() == lines[0] + lines[2]
    assert path.with_name("trials.jsonl.damaged").read_bytes() == lines[1]
    assert f"{path}: line 2" in caplog.text


def test_lines_that_build_on_each_other_are_all_left_out(tmp_path: Path) -> None:
    path = tmp_path / "races.jsonl"
    for record in RECORDS:
        append_record(path, record)
    content = path.read_bytes()
    path.write_bytes(flipped(content, content.index(b"name"), 0))
    assert read_records(path, independent=False) == []
    assert not path.exists() and path.with_name("races.jsonl.damaged").exists()


def test_lines_of_an_earlier_version_have_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"number": 0}\n')
    append_record(path, RECORDS[1])
    assert read_records(path) == [{"number": 0}, RECORDS[1]]
