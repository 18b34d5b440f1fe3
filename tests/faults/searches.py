"""Searches that take seconds and have every phase: images in folders, a small space, few trials."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from sklearn.datasets import load_digits

from mnas.io.strict_yaml import validate
from mnas.latency.conditions import Conditions
from mnas.latency.table.provenance import Provenance
from mnas.latency.table.table import LatencyTable
from mnas.space.cost import layer_madds
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace

from .processes import Ended, Zygote

SPACE = """
name: tiny
reference: mobilenet_v3_small
resolution: 32
stem: {channels: 8, kernel: 3, stride: 2, activation: hard_swish}
stages:
  - {channels: 8,  stride: 1, depth: 1,      kernel: 3,      expansion: 1,      activation: relu}
  - {channels: 16, stride: 2, depth: [1, 2], kernel: [3, 5], expansion: [2, 3], se: [0, 0.25], activation: relu}
  - {channels: 24, stride: 2, depth: [1, 2], kernel: 3,      expansion: [2, 3], activation: [relu, hard_swish]}
head: {channels: 48, hidden: 64, activation: hard_swish}
bn_eps: 0.001
"""
IMAGES_A_CLASS, CLASSES, TRIALS = 40, 4, 4
PHASES = ("decode images", "latency table", "calibration", "supernet", "search", "train", "export", "report")
"""By the titles of their progress; `train` is the race."""
SETTINGS = {
    "recipe.epochs": 2, "recipe.batch_size": 16, "recipe.lr": 0.2, "supernet.epochs": 2, "supernet.batch_size": 16,
    "finalists": 2, "references": 0, "precision": "float32", "max_table_error": 100, "finetune_epochs": 0.2,
}  # fmt: skip


@dataclass(frozen=True)
class Search:
    """A search whose run's folder and cache are those of one attempt."""

    folder: Path
    table: Path | None = None
    """Of another device, by which latencies are predicted: then the winner is decided by the seed alone."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """In place of some of SETTINGS."""

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def command(self) -> list[str]:
        """What begins it, or continues it where it has begun."""
        if (self.run / "config.yaml").exists():
            return ["resume", str(self.run)]
        given = [] if self.table is None else ["--latency-table", str(self.table), "--allow-foreign-table"]
        changed = {**SETTINGS, **self.settings}
        settings = [part for key, value in changed.items() for part in ("--set", f"{key}={value}")]
        return [
            "search", "--space", "tiny.yaml", "--data", "photos", "--latency-ms", "50", "--estimator", "supernet",
            "--trials", str(TRIALS), "--run", str(self.run), *settings, *given,
        ]  # fmt: skip

    # --- what is on disk

    def trials(self) -> list[dict[str, Any]]:
        """The whole lines of trials.jsonl."""
        path = self.run / "trials.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def study(self) -> dict[int, str]:
        """The states of the trials in study.db by their numbers."""
        database = sqlite3.connect(self.run / "study.db")
        try:
            return dict(database.execute("SELECT number, state FROM trials"))
        finally:
            database.close()

    def rows(self) -> dict[str, Any]:
        """The measured rows of the table that is kept in the cache."""
        rows: dict[str, Any] = {}
        for path in (self.cache / "mnas" / "latency").glob("*.yaml"):
            for row in yaml.safe_load(path.read_text())["layers"]:
                rows[json.dumps({key: value for key, value in row.items() if not key.endswith("ms")})] = row["ms"]
        return rows


def prepare(folder: Path) -> None:
    """Write the images and the space that the commands name, into the folder in which they run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(SPACE)
    digits, counts = load_digits(), dict[int, int]()
    for pixels, label in zip(digits.images, digits.target, strict=True):
        count = counts[int(label)] = counts.get(int(label), 0) + 1
        if label < CLASSES and count <= IMAGES_A_CLASS:
            path = folder / "photos" / f"digit{label}" / f"{count:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15.9).astype("uint8")).resize((32, 32)).save(path)


def made_up_table(path: Path) -> Path:
    """A table of the space's layers on a device that is elsewhere, by their multiply-adds."""
    space = SearchSpace(validate(SpaceFile, yaml.safe_load(SPACE), "tiny"))
    entries = {layer: 0.02 + layer_madds(layer) / 1e6 for layer in space.layers(CLASSES)}
    LatencyTable(Conditions("torch"), Provenance("a phone", "1.0", "2026-01-31", "1.0"), entries).save(path)
    return path


def finished(zygote: Zygote, search: Search) -> Ended:
    """Run a search to its end without a fault; AssertionError where it has another."""
    ended = zygote.run(search.command(), search.cache)
    assert ended.code == 0, ended.log[-3000:]
    return ended
