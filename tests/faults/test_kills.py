"""Ten kills of a search at random moments; `python -m tests.faults --rounds 100` makes more of them."""

from __future__ import annotations

from pathlib import Path

from .kills import MEASURED, Killer
from .processes import Zygote
from .searches import PHASES


def test_ten_kills(tmp_path: Path) -> None:
    with Zygote(tmp_path) as zygote:
        rounds = list(Killer(tmp_path, zygote, seed=0).rounds(10))
    assert len(rounds) == 10
    assert [str(one) for one in rounds if one.wrong] == []
    assert {one.phase for one in rounds} <= {*PHASES}
    assert {one.phase for one in rounds} & {*MEASURED}
    assert {one.ended.code for one in rounds} == {-9, 130}
