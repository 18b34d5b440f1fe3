"""Where a study is kept."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from mnas.errors import BadInput
from mnas.study.storage import open_storage


def test_a_study_is_found_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(storage=open_storage(url), study_name="mnas")
    assert [study.study_name for study in open_storage(url).get_all_studies()] == ["mnas"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////nowhere/study.db", "sqlite:////nowhere/study.db cannot be opened: "),
        ("nonsense", "nonsense cannot be opened: "),
        ("nonsense://me:secret@localhost/nas", r"nonsense://me:\*\*\*@localhost/nas cannot be opened: "),
        ("postgresql://me:secret@localhost:no/nas", r"postgresql://me:\*\*\*@localhost:no/nas cannot be opened: "),
        ("postgresql+psycopg://me:secret@localhost:9/nas", r"\*\*\*@localhost:9/nas cannot be opened: "),
    ],
)
def test_what_cannot_be_opened_is_named_without_its_password(url: str, shown: str) -> None:
    with pytest.raises(BadInput, match=shown) as raised:
        open_storage(url)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)
