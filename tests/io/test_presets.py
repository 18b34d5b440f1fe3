"""Presets by name or path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnas.errors import BadInput
from mnas.io import presets
from mnas.io.presets import find_preset


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("v3_large", "v3_small", "mnasnet"):
        (tmp_path / f"{name}.yaml").touch()
    monkeypatch.setattr(presets, "preset_folder", lambda kind: tmp_path)
    return tmp_path


def test_presets_by_name_or_path(three: Path) -> None:
    assert presets.preset_names("search_spaces") == ["mnasnet", "v3_large", "v3_small"]
    assert find_preset("search_spaces", "v3_large") == three / "v3_large.yaml"
    assert find_preset("search_spaces", "mine.yaml") == Path("mine.yaml")
    assert find_preset("search_spaces", "mine.yml") == Path("mine.yml")
    assert find_preset("objectives", "folder/mine") == Path("folder/mine")
    assert find_preset("objectives", Path("v3_large")) == Path("v3_large")
    assert find_preset("objectives", "~/mine.yaml") == Path.home() / "mine.yaml"


@pytest.mark.parametrize(("kind", "word"), [("search_spaces", "search space"), ("objectives", "objective")])
def test_an_unknown_preset_shows_the_nearest(three: Path, kind: Any, word: str) -> None:
    with pytest.raises(BadInput) as caught:
        find_preset(kind, "v3_larg")
    assert str(caught.value) == (
        f"unknown {word} 'v3_larg'; did you mean 'v3_large'? "
        "Known: mnasnet, v3_large, v3_small, or the path of a .yaml file"
    )
