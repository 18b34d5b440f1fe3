"""The search spaces and objectives that are installed with mnas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mnas.errors import BadInput, nearest
from mnas.io.names import Names

Kind = Literal["search_spaces", "objectives"]
KIND_NAMES: Mapping[Kind, str] = {"search_spaces": "search space", "objectives": "objective"}


def preset_folder(kind: Kind) -> Path:
    """The folder of the presets: inside the package when installed, beside it in a clone or an editable install."""
    package = Path(__file__).resolve().parent.parent
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def preset_names(kind: Kind) -> list[str]:
    """The presets that `find_preset` finds by name, in alphabetical order."""
    return sorted(path.stem for path in preset_folder(kind).glob("*.yaml"))


def find_preset(kind: Kind, name: str | Path) -> Path:
    """The file of a preset, by its name, or of the user's own, by its path. Raises BadInput for an unknown name."""
    names = preset_names(kind)
    path = Names(f"built-in {KIND_NAMES[kind]}", names.__contains__).path(name)
    if path is not None:
        return path
    if name in names:
        return preset_folder(kind) / f"{name}.yaml"
    raise BadInput(f"unknown {KIND_NAMES[kind]} '{name}'{nearest(str(name), names)}, or the path of a .yaml file")
