"""A training that `mnas train` has begun in a folder: what it was asked for, so that the same command continues it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnas.errors import BadInput
from mnas.io.files import read_json, write_json
from mnas.training.speed import Pace

BEGUN_FOLDER, BEGUN_FILE = ".weights", "begun.json"
"""Where a training is kept while it lasts, and what it was asked for."""

Begun = Mapping[str, Any]
"""The content of BEGUN_FILE."""


def begun_in(output: Path) -> Begun | None:
    """The training that was begun in a folder; None where there is none. Raises BadInput for a folder in use."""
    path = output / BEGUN_FOLDER / BEGUN_FILE
    if path.exists():
        return read_json(path, "asked", "pace")
    others = output.exists() and (not output.is_dir() or any(one.name != BEGUN_FOLDER for one in output.iterdir()))
    if others:
        raise BadInput(f"{output}: exists and is not empty; name another folder with -o")
    return None


def check_same(begun: Begun | None, asked: Mapping[str, Any], output: Path) -> None:
    """Raise BadInput where the training in `output` was asked for something else."""
    for key, value in asked.items() if begun is not None else ():
        if begun is not None and begun["asked"].get(key) != value:
            raise BadInput(
                f"{output}: holds a training that was begun with another {key}; state the same options to continue it, "
                "or name another folder with -o"
            )


def pace_of(begun: Begun | None) -> Pace | None:
    """How a training is computed that was begun: with the same threads and precision it goes on as if unbroken."""
    return None if begun is None else Pace(**begun["pace"])


def begin(output: Path, asked: Mapping[str, Any], pace: Pace) -> Path:
    """Write down what a training in `output` is asked for; returns the folder for its checkpoints."""
    folder = output / BEGUN_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / BEGUN_FILE, {"asked": dict(asked), "pace": asdict(pace)})
    return folder
