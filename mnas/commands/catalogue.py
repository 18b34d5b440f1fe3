"""What there is to choose from, as plain data: search spaces and reference networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnas.io.size import Size, written
from mnas.space import zoo
from mnas.space.cost import cost
from mnas.space.space import load_space


def spaces(names: Sequence[str]) -> list[dict[str, Any]]:
    """Size, reference and choices of each space."""
    listed = []
    for name in names:
        space = load_space(name)
        listed.append({
            "name": space.name, "size": space.size, "reference": space.reference,
            "resolution": list(map(written, space.resolutions)), "choices": space.choices(),
        })  # fmt: skip
    return listed


def zoo_table(width: float, resolution: Size) -> list[dict[str, Any]]:
    """Parameters and multiply-adds of the reference networks, for 1000 classes."""
    rows = []
    for name in zoo.names():
        counted = cost(zoo.get(name, width, resolution))
        rows.append({"name": name, "width": width, "resolution": written(resolution), **counted._asdict()})
    return rows
