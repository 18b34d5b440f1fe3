"""What the model cards of all networks have in common: their templates' filters, safe texts, devices, the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnas.export.templates import environment
from mnas.io.markdown import escaped
from mnas.monitor.figures import as_measured, differs

SHOWN_CHOICES = 5
SHOWN_CLASSES = 30
"""Of more classes, a card lists those that the network does worst."""
NOTHING: dict[str, Any] = {"origins": [], "missing": None}
"""The trained weights of a network that starts from fresh ones."""


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """The Markdown that a template beside this file gives."""
    card = environment()
    card.filters |= {
        "percent": lambda share, digits=2: f"{share:.{digits}%}",
        "millions": lambda count: f"{count / 1e6:,.2f} M",
        "thousands": lambda count: f"{count:,}",
        "short": lambda value: f"{value:,.10g}",
        "ms": lambda value: "not measured" if value is None else f"{value:,.2f}",
        "as_measured": as_measured,
        "count": lambda number, noun: f"{number:,} {noun}{'' if number == 1 else 's'}",
        "duration": _duration,
    }
    return card.get_template(template).render(values)


def one_line(value: Any) -> Any:
    """`value` with every text inside it made safe for one line and for a table's cell: see `escaped`."""
    if isinstance(value, Mapping):
        return {one_line(key): one_line(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [one_line(inner) for inner in value]
    return escaped(value) if isinstance(value, str) else value


def targets_of(latencies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The devices of the latency columns, numbered if there are several."""
    numbers = [f" {i}" if len(latencies) > 1 else "" for i in range(1, len(latencies) + 1)]
    return [
        {
            **latency, "number": number, "exported": "exported_latency_ms" in latency,
            "slower": latency["speed_factor"] - 1 if differs(latency.get("speed_factor")) else None,
        }
        for latency, number in zip(latencies, numbers, strict=True)
    ]


def search_values(search: Mapping[str, Any]) -> dict[str, Any]:
    """What card_search.md.j2 needs of metrics.json's `search`; empty for a network that was trained alone."""
    return {
        "search": {"random": None, "front": [], **search} if search else None,
        "importance": sorted(search.get("importance", {}).items(), key=lambda item: -item[1])[:SHOWN_CHOICES],
    }


def as_good(networks: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Of the networks after the first one, those within the budget that are at least as good by a figure."""
    main, *others = networks
    without_budget = None in [latency["budget_ms"] for latency in main["latencies"]]
    return [one for one in others if (one["keeps_budget"] or without_budget) and one[key] >= main[key]]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or "under a second"
