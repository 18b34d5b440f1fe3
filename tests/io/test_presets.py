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


def test_a_preset_beside_a_file_of_its_name(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("v3_large", "mine"):
        (tmp_path / name).touch()
    assert find_preset("search_spaces", "v3_large") == three / "v3_large.yaml"
    assert find_preset("search_spaces", "./v3_large") == Path("v3_large")
    assert find_preset("search_spaces", "mine") == Path("mine")


@pytest.mark.parametrize("kind", ["search_spaces", "objectives"])
def test_an_unknown_preset_shows_the_nearest(three: Path, kind: Any) -> None:
    with pytest.raises(BadInput, match="'v3_larg'; did you mean 'v3_large'"):
        find_preset(kind, "v3_larg")
