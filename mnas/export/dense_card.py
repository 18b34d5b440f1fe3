"""The model card of a network with a head: README.md, rendered from metrics.json by the template dense_card.md.j2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnas.export.card_parts import NOTHING, SHOWN_CLASSES, as_good, one_line, rendered, search_values, targets_of
from mnas.export.folder import CARD_FILE, METRICS_FILE, files_of
from mnas.export.heads import FORMS
from mnas.io.files import write_atomic, write_json
from mnas.io.size import sides, size_of
from mnas.monitor.figures import BY_CLASS, NAMES, OTHERS

HEAD_NAMES = {"lraspp": "LR-ASPP", "deeplabv3": "DeepLabv3", "ssdlite": "SSDLite"}
"""As the field writes them."""
SPLITS = ("test", "validation")
"""What metrics.json has figures of."""


def write_dense_metrics(folder: str | Path, metrics: Mapping[str, Any]) -> None:
    """Write the model card, then metrics.json with the same figures: a folder that has it is complete."""
    folder = Path(folder)
    write_atomic(folder / CARD_FILE, dense_card(metrics, files_of(folder)))
    write_json(folder / METRICS_FILE, metrics)


def dense_card(metrics: Mapping[str, Any], files: Sequence[str]) -> str:
    """The card in Markdown; `files` are the names of the folder's files.

    `metrics` are those of a search, with `networks`, or of a single training.
    """
    absent = {"limits": {}, "search": {}, "pretrained": NOTHING, "verdicts": [], "networks": [], "files": []}
    values = one_line({**absent, **metrics})
    figure = values["figure"]
    key, by_class = BY_CLASS[figure]
    networks = [_judged(network, network[f"test_{figure}"]) for network in values["networks"]]
    main = networks[0] if networks else _alone(values)
    same = [one["baseline"] for one in values["verdicts"] if one["half_width"] is None]
    per_class = [
        {"class": name, **{split: values[split][key][name] for split in SPLITS}} for name in values["test"][key]
    ]
    values |= {
        "folder_files": list(files), "form": FORMS[values["task"]].card, "head_name": HEAD_NAMES[values["head"]],
        "classes": values["data"]["classes"],
        "figure": NAMES[figure], "by_class": by_class,
        "figures": {name: words for name, words in (NAMES | OTHERS).items() if name in values["test"]},
        "splits": {split: values[split] for split in SPLITS},
        "per_class": _hardest(per_class), "more_classes": max(0, len(per_class) - SHOWN_CLASSES),
        "networks": networks, "main": main, "targets": targets_of(main["latencies"]), "training": _training(values),
        "devices": list(dict.fromkeys(one["device"] for one in main["latencies"])) or [values["device"]],
        "as_good": [one for one in as_good(networks, "value") if one["name"] not in same] if networks else [],
        "trained_differently": [one for one in networks[1:] if one["weights"] != main["weights"]],
        **search_values(values["search"]),
    }
    values["height"], values["width"] = sides(size_of(values["resolution"]))
    return rendered("dense_card.md.j2", values)


def _alone(values: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a network that was trained alone, as a search has one of each network."""
    value = values["test"][values["figure"]]
    row = {"resolution": values["resolution"], "spread": values["spread"], "seeds": {"values": [value]}}
    return _judged({**values["network"], **row, "latencies": []}, value)


def _judged(row: Mapping[str, Any], value: float | None) -> dict[str, Any]:
    """A network's row with its figure on the test split, `value`, and the ends of that one's 95% interval."""
    spread = row["spread"]
    known = spread is not None and value is not None
    return {**row, "value": value, "interval": [max(0, value - spread), min(1, value + spread)] if known else None}


def _training(values: Mapping[str, Any]) -> dict[str, Any]:
    """How the network was trained: its epochs, weights, seconds and precision, and the number of images."""
    if "training" in values:
        limit = values["training"]["recipe"]["images"]
        images = values["data"]["images"]["train"]
        return {**values["training"], "images": images if limit is None else min(limit, images)}
    main, accuracy = values["networks"][0], values["accuracy"]
    return {**main, "precision": accuracy["precision"], "images": accuracy["train_images"]}


def _hardest(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The classes in their order, or the SHOWN_CLASSES with the lowest figure on the test split, lowest first."""
    if len(per_class) <= SHOWN_CLASSES:
        return list(per_class)
    tested = [one for one in per_class if one["test"] is not None]
    return sorted(tested, key=lambda one: one["test"])[:SHOWN_CLASSES]
