"""The model card: README.md of a trained classifier's folder, rendered from metrics.json by the template card.md.j2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnas.export.card_parts import NOTHING, SHOWN_CLASSES, as_good, one_line, rendered, search_values, targets_of
from mnas.io.size import sides, size_of

SHOWN_CONFUSIONS = 5


def model_card(metrics: Mapping[str, Any], classes: Sequence[str], files: Sequence[str]) -> str:
    """The card in Markdown; `files` are the names of the folder's files."""
    from scipy.stats import binomtest  # takes a second

    absent = {"limits": {}, "search": {}, "pretrained": NOTHING}
    values = {**one_line({**absent, **metrics, "classes": list(classes)}), "files": list(files)}
    values["accuracy"] = {"fit": "crop", "channels": 3, **values["accuracy"]}
    accuracy = values["accuracy"]
    values["height"], values["width"] = sides(size_of(accuracy["resolution"]))
    defaults = {"epochs": accuracy["epochs"], "weights": None, "top5_accuracy": None}
    networks = [{**defaults, "seeds": _one_seed(network), **network} for network in values["networks"]]
    main, others = networks[0], networks[1:]
    correct = round(main["test_accuracy"] * accuracy["test_images"])
    per_class = values.get("per_class", [])
    values |= {
        "figure": "accuracy", "verdicts": values.get("verdicts", []), "majority_share": values.get("majority_share"),
        "per_class": _hardest(per_class),
        "more_classes": max(0, len(per_class) - SHOWN_CLASSES),
        "confusions": values.get("confusion", {}).get("pairs", [])[:SHOWN_CONFUSIONS],
        "networks": networks,
        "main": main,
        "targets": targets_of(main["latencies"]),
        "epochs": [choose(network["epochs"] for network in networks) for choose in (min, max)],
        "interval": binomtest(correct, accuracy["test_images"]).proportion_ci(method="wilson"),
        "as_accurate": as_good(networks, "test_accuracy"),
        "trained_differently": [network for network in others if network["weights"] != main["weights"]],
        **search_values(values["search"]),
    }
    return rendered("card.md.j2", values)


def _one_seed(network: Mapping[str, Any]) -> dict[str, Any]:
    """The seeds of a network that was trained once."""
    return {"accuracies": [network["test_accuracy"]], "mean": network["test_accuracy"], "sd": None}


def _hardest(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The classes in their order, or the SHOWN_CLASSES with the lowest accuracy, lowest first."""
    if len(per_class) <= SHOWN_CLASSES:
        return list(per_class)
    tested = [one for one in per_class if one["images"]]
    return sorted(tested, key=lambda one: one["accuracy"])[:SHOWN_CLASSES]
