"""The model card: README.md of a trained network's folder, rendered from metrics.json by the template card.md.j2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from mnas.export.templates import environment
from mnas.io.markdown import escaped
from mnas.io.size import sides, size_of
from mnas.monitor.figures import as_measured, differs

SHOWN_CHOICES = 5
SHOWN_CLASSES = 30
"""Of more classes, the card lists those with the lowest accuracy."""
SHOWN_CONFUSIONS = 5
NOTHING: dict[str, Any] = {"origins": [], "missing": None}
"""The trained weights of a network that starts from fresh ones."""


def model_card(metrics: Mapping[str, Any], classes: Sequence[str], files: Sequence[str]) -> str:
    """The card in Markdown; `files` are the names of the folder's files."""
    from scipy.stats import binomtest  # takes a second

    absent = {"limits": {}, "search": {}, "pretrained": NOTHING}
    values = {**_one_line({**absent, **metrics, "classes": list(classes)}), "files": list(files)}
    values["accuracy"] = {"fit": "crop", "channels": 3, **values["accuracy"]}
    accuracy, search = values["accuracy"], values["search"]
    values["height"], values["width"] = sides(size_of(accuracy["resolution"]))
    defaults = {"epochs": accuracy["epochs"], "weights": None, "top5_accuracy": None}
    networks = [{**defaults, "seeds": _one_seed(network), **network} for network in values["networks"]]
    main, others = networks[0], networks[1:]
    correct = round(main["test_accuracy"] * accuracy["test_images"])
    per_class = values.get("per_class", [])
    values |= {
        "verdicts": values.get("verdicts", []), "majority_share": values.get("majority_share"),
        "per_class": _hardest(per_class),
        "more_classes": max(0, len(per_class) - SHOWN_CLASSES),
        "confusions": values.get("confusion", {}).get("pairs", [])[:SHOWN_CONFUSIONS],
        "search": {"random": None, "front": [], **search} if search else None,
        "networks": networks,
        "main": main,
        "targets": _targets(main["latencies"]),
        "epochs": [choose(network["epochs"] for network in networks) for choose in (min, max)],
        "interval": binomtest(correct, accuracy["test_images"]).proportion_ci(method="wilson"),
        "importance": sorted(search.get("importance", {}).items(), key=lambda item: -item[1])[:SHOWN_CHOICES],
        "as_accurate": [network for network in others if _is_as_accurate(network, main)],
        "trained_differently": [network for network in others if network["weights"] != main["weights"]],
    }
    return _with_filters().get_template("card.md.j2").render(values)


def _with_filters() -> jinja2.Environment:
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
    return card


def _one_line(value: Any) -> Any:
    """`value` with every text inside it made safe for one line and for a table's cell: see `escaped`."""
    if isinstance(value, Mapping):
        return {_one_line(key): _one_line(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_one_line(inner) for inner in value]
    return escaped(value) if isinstance(value, str) else value


def _one_seed(network: Mapping[str, Any]) -> dict[str, Any]:
    """The seeds of a network that was trained once."""
    return {"accuracies": [network["test_accuracy"]], "mean": network["test_accuracy"], "sd": None}


def _hardest(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The classes in their order, or the SHOWN_CLASSES with the lowest accuracy, lowest first."""
    if len(per_class) <= SHOWN_CLASSES:
        return list(per_class)
    tested = [one for one in per_class if one["images"]]
    return sorted(tested, key=lambda one: one["accuracy"])[:SHOWN_CLASSES]


def _targets(latencies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The devices of the latency columns, numbered if there are several."""
    numbers = [f" {i}" for i in range(1, len(latencies) + 1)] if len(latencies) > 1 else [""]
    return [
        {
            **latency, "number": number, "exported": "exported_latency_ms" in latency,
            "slower": latency["speed_factor"] - 1 if differs(latency.get("speed_factor")) else None,
        }
        for latency, number in zip(latencies, numbers, strict=True)
    ]


def _is_as_accurate(network: Mapping[str, Any], main: Mapping[str, Any]) -> bool:
    """Whether another network within the budget is at least as accurate on the test split."""
    without_budget = None in [latency["budget_ms"] for latency in main["latencies"]]
    return bool((network["keeps_budget"] or without_budget) and network["test_accuracy"] >= main["test_accuracy"])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or "under a second"
