"""The names of classes in a text file, one a line."""

from __future__ import annotations

from pathlib import Path

from mnas.errors import BadInput
from mnas.io.strict_yaml import read_text


def named_classes(path: Path) -> tuple[str, ...] | None:
    """The names in classes.txt; None where there is no such file. Raises BadInput for two of a name, or none."""
    if not path.exists():
        return None
    lines = [line.strip() for line in read_text(path).removeprefix("\ufeff").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return checked_names(lines, str(path))


def checked_names(names: list[str], source: str) -> tuple[str, ...]:
    """Names of classes; BadInput, beginning with `source`, for an empty list or name, or two that are the same."""
    if not names:
        raise BadInput(f"{source}: no names in it; expected those of the classes, in the order of their numbers")
    for number, name in enumerate(names):
        if not name:
            raise BadInput(f"{source}: the class {number} has no name; expected one for each class")
        if name in names[:number]:
            raise BadInput(f"{source}: '{name}' is there twice; expected a name for each class")
    return tuple(names)
