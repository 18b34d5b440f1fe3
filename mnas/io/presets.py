"""Where the shipped search spaces and objectives are found."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mnas.errors import BadInput, nearest


def preset_folder(kind: Literal["search_spaces", "objectives"]) -> Path:
    """Where shipped presets lie: inside the package when installed, beside it in a clone or an editable install."""
    package = Path(__file__).resolve().parent.parent
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def preset_names(kind: Literal["search_spaces", "objectives"]) -> list[str]:
    return sorted(path.stem for path in preset_folder(kind).glob("*.yaml"))


def find_preset(kind: Literal["search_spaces", "objectives"], name: str | Path) -> Path:
    """The file meant by `name`: a preset's name, or the path of a file of one's own."""
    text = str(name)
    if isinstance(name, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        return Path(name).expanduser()
    if text in preset_names(kind):
        return preset_folder(kind) / f"{text}.yaml"
    word = {"search_spaces": "search space", "objectives": "objective"}[kind]
    raise BadInput(f"unknown {word} '{text}'{nearest(text, preset_names(kind))}, or the path of a .yaml file")
