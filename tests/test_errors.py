"""What a deliberate error may show: one line, and no password."""

from __future__ import annotations

import pickle

import pytest

from mnas.errors import BadInput, Infeasible, RunLocked, nearest, one_line


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("photos: no images there", "photos: no images there"),
        ("a\nb\r\tc\x1b[2J\u2028d", r"a\nb\r\tc\x1b[2J\u2028d"),
        ("größer, 1 → 2", "größer, 1 → 2"),
        ("postgresql://me:secret@localhost/nas: no", "postgresql://me:***@localhost/nas: no"),
        ("'mysql+pymysql://:secret@db:3306/nas'", "'mysql+pymysql://:***@db:3306/nas'"),
        ("x://me:se/c:r@et@db/nas and x://me:secret@db/nas", "x://me:***@db/nas and x://me:***@db/nas"),
        ("x://me:sec ret@db/nas", "x://me:***@db/nas"),
        ("x:///nas?user=me&password=secret&port=1 is", "x:///nas?user=me&password=***&port=1 is"),
        ("x://me@db:5432/nas; NAME@WIDTH", "x://me@db:5432/nas; NAME@WIDTH"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
        ("http://localhost:6006/", "http://localhost:6006/"),
    ],
)
def test_one_line(message: str, shown: str) -> None:
    assert one_line(message) == shown
    assert str(BadInput(message)) == shown


def test_errors_pass_between_processes() -> None:
    for kind in (BadInput, Infeasible, RunLocked):
        back = pickle.loads(pickle.dumps(kind("a\nb")))
        assert (type(back), str(back), back.exit_code) == (kind, r"a\nb", kind.exit_code)


def test_nearest() -> None:
    assert nearest("tpee", ["tpe", "random"]) == "; did you mean 'tpe'? Known: random, tpe"
    assert nearest("zzz", ["tpe", "random"]) == ". Known: random, tpe"
