"""What supernet and search cost, against training the space's reference network once to the end by the same recipe.

    python benchmarks/search_cost.py [NAME path/to/data SPACE IMAGES]

By default the default command's space and data: v3_large, the digits. IMAGES of the training split are used (0: all).
Both parts run here, one after the other, on the threads that the search chose; latencies are counted multiply-adds, so
no table is made. Seconds of the search are those between its plan and its last candidate.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import keep

import mnas
from mnas.config import Recipe
from mnas.run import Run
from mnas.space import zoo
from mnas.training.task import task_of
from mnas.training.trainer import train_fully


def at(log: list[str], words: str) -> datetime.datetime:
    """When a line with these words was written."""
    line = next(line for line in log if words in line)
    return datetime.datetime.fromisoformat(" ".join(line.split()[:2]).replace(",", "."))


def costs(space: str, data: str, images: int | None) -> dict[str, Any]:
    few = {f"{part}.images": images for part in ("recipe", "supernet", "finetune")} if images else {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        mnas.search(
            space=space, data=data, latency=lambda arch: mnas.cost(arch).madds / 2e7, latency_ms=1000, run=run,
            set=few | {"recipe.epochs": 1},
        )  # fmt: skip
        log, config = (run / "run.log").read_text().splitlines(), Run.open(run).config()
    took = at(log, "search: ") - at(log, "a supernet trains for")
    opened = mnas.load_space(space)
    task = task_of(config, opened, None)
    reference = zoo.get(opened.reference, resolution=task.base)
    recipe = config.recipe.model_copy(update={"epochs": Recipe().epochs})
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        alone = train_fully(
            "reference", reference, task.data, recipe, size=task.size_of(reference), device=torch.device("cpu"), seed=0,
            checkpoints=Path(folder),
        )  # fmt: skip
        seconds = time.perf_counter() - began
    return {
        "space": space, "images": images or len(task.data.train), "threads": torch.get_num_threads(),
        "supernet_and_search_s": round(took.total_seconds(), 1), "reference_s": round(seconds, 1),
        "reference_epochs": recipe.epochs,
        "reference_val_accuracy": round(alone.val_accuracy, 4),
        "ratio": round(took.total_seconds() / seconds, 2),
    }  # fmt: skip


name, data, space, count = (*sys.argv[1:], *["digits", "digits", "v3_large", "0"][len(sys.argv) - 1 :])
keep("search_cost", name, costs(space, data, int(count) or None))
