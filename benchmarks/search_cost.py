"""The time of supernet and search, against training the space's reference network once by the same recipe.

    python benchmarks/search_cost.py [NAME path/to/data SPACE IMAGES]

Without arguments: the default command's data and space, digits and v3_large. IMAGES limits the training split (0: all).
Both parts run on this machine one after the other, on the threads that the search chose. Multiply-adds serve as
latencies, so no table is built. The time of the search is that from its plan to its last candidate.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import options_parser, save_part

import mnas
from mnas.config import Recipe
from mnas.pipeline.context import make_trainer
from mnas.run import Run
from mnas.training.trainer import train_fully


def time_of(log: Sequence[str], text: str) -> datetime.datetime:
    """When the first line of the log with `text` was written."""
    line = next(line for line in log if text in line)
    return datetime.datetime.fromisoformat(" ".join(line.split()[:2]).replace(",", "."))


def costs(space: str, data: str, images: int | None) -> dict[str, Any]:
    limit = {f"{part}.images": images for part in ("recipe", "supernet", "finetune")} if images else {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        mnas.search(
            space=space, data=data, latency=lambda arch: mnas.cost(arch).madds / 2e7, latency_ms=1000, run=run,
            set=limit | {"recipe.epochs": 1},
        )  # fmt: skip
        log, config = (run / "run.log").read_text().splitlines(), Run.open(run).config()
    search_s = (time_of(log, "candidates evaluated in") - time_of(log, "a supernet is trained for")).total_seconds()
    opened = mnas.load_space(space)
    trainer = replace(make_trainer(config, opened, None), device=torch.device("cpu"))
    reference = mnas.zoo.get(opened.reference, resolution=trainer.sizes.base)
    recipe = config.recipe.model_copy(update={"epochs": Recipe().epochs})
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trained = train_fully("reference", reference, recipe, trainer, checkpoints=Path(folder))
        reference_s = time.perf_counter() - began
    return {
        "space": space, "images": images or len(trainer.data.train), "threads": torch.get_num_threads(),
        "supernet_and_search_s": round(search_s, 1), "reference_s": round(reference_s, 1),
        "reference_epochs": recipe.epochs, "reference_val_accuracy": round(trained.val_accuracy, 4),
        "ratio": round(search_s / reference_s, 2),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("name", nargs="?", default="digits", help="the name of this part in the result file")
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("space", nargs="?", default="v3_large")
    parser.add_argument("images", nargs="?", type=int, default=0)
    options = parser.parse_args(arguments)
    save_part("search_cost", options.name, costs(options.space, options.data, options.images or None))


if __name__ == "__main__":
    main()
