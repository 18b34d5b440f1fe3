"""What there is to choose from, as plain data: search spaces and reference networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnas.io.size import Size, written
from mnas.published.catalogue import CATALOGUE, Url
from mnas.published.fetch import hub_address
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


def published_weights() -> list[dict[str, Any]]:
    """The published weights of networks, the default of each first, and of all networks of a space."""
    return [
        {"network": None if one.space else one.network, "space": one.space or None, "name": one.name,
         "top1": one.top1, "trained_on": one.trained_on, "licence": one.licence,
         "address": one.place.address if isinstance(one.place, Url) else hub_address(one.place)}
        for one in CATALOGUE
    ]  # fmt: skip


def zoo_table(width: float, resolution: Size) -> list[dict[str, Any]]:
    """Parameters and multiply-adds of the reference networks, for 1000 classes."""
    rows = []
    for name in zoo.names():
        counted = cost(zoo.get(name, width, resolution))
        rows.append({"name": name, "width": width, "resolution": written(resolution), **counted._asdict()})
    return rows
