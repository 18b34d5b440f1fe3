"""Searches for networks under a head: their images, their scores on the test split, their winners' files."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mnas.config import Recipe, RunConfig
from mnas.data.dense.samples import WHOLE, DenseData
from mnas.data.dense.sources import DATA_SETS
from mnas.data.reading import FOUND_OUT, Reading
from mnas.errors import BadInput
from mnas.export.dense import DenseModel
from mnas.export.dense_card import write_dense_metrics
from mnas.export.dense_files import hand_over
from mnas.io.size import written
from mnas.latency.runtimes import check_runs
from mnas.metrics.jackknife import variance_of_mean
from mnas.monitor.figures import NAMES, OTHERS
from mnas.pipeline.context import Context, proxy_sizes, space_of
from mnas.pipeline.evidence import is_same
from mnas.pipeline.kind import Judged
from mnas.pipeline.quantised import FORMATS as INT8_FORMATS
from mnas.pipeline.verdict import CONFIDENCE, Scored, difference_of, same_network, seed_values, verdict_words
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.dense import DenseHead
from mnas.space.layer import DenseOperator
from mnas.space.space import SearchSpace
from mnas.tasks.dense import RECIPE, Examined, check_recipe, prepared
from mnas.tasks.kinds import Chosen, DenseTasks
from mnas.tasks.task import Part, Place
from mnas.training.device import pick_device
from mnas.training.full import Trained
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")

FIGURES: dict[str, Part] = {"validation": "val", "test": "test"}
"""What metrics.json calls the figures of each split."""


@dataclass(frozen=True)
class DenseSearch:
    """The `SearchKind` of a task with a head."""

    task: str
    """Its name."""
    chosen: Chosen
    data_sets = DATA_SETS
    usual_data = "shapes"
    shared = False
    recipes = RECIPE

    @property
    def head(self) -> str:
        return self.chosen.head

    @property
    def figure(self) -> str:
        return self.chosen.kind.task.figure

    def check(self, config: RunConfig) -> None:
        only = "for classification alone"
        stated = {
            "labels": config.labels, "group-by": config.group_by, "supernet": config.shared_supernet,
            "storage": config.storage, "metric": None if config.metric == "accuracy" else config.metric,
        }  # fmt: skip
        for option, value in stated.items():
            if value is not None:
                raise BadInput(f"--{option} {value}: {only}; expected --task {self.task} without it")
        if config.objective.accuracy == "probe":
            raise BadInput(f"--estimator probe: {only}; expected auto, supernet, train or zero_cost")
        if config.fit not in (FOUND_OUT, WHOLE.fit):
            raise BadInput(f"--fit {config.fit}: images under {self.head} are read whole; expected {WHOLE.fit}")
        if "data" in config.custom:
            raise BadInput(f"data: {only} as a Python object; for {self.task} name {self.usual_data} or a folder")
        head = DenseHead(cast(DenseOperator, self.head))
        for target in config.targets:
            if target.runtime in INT8_FORMATS:
                raise BadInput(f"--runtime {target.runtime}: int8 is {only}; expected a runtime in float32")
            check_runs(target.runtime, head)
        for part in ("recipe", "proxy", "supernet", "finetune"):
            check_recipe(getattr(config, part), self.task, f"{part}.")
        if "space" not in config.custom:
            head.taps(next(space_of(config, None).enumerate()))

    def open(self, config: RunConfig) -> DenseData[Any]:
        reading = Reading(fit=WHOLE.fit, max_pixels=config.max_pixels, channels=config.channels)
        data = self.chosen.kind.load(config.data, seed=config.seed, max_broken=config.max_broken, reading=reading)
        self.chosen.of(data)  # what judges its networks is installed
        return data

    def data(self, run: Run, config: RunConfig, override: Any, space: SearchSpace | None) -> DenseData[Any]:
        data = self.open(config)
        log.info(
            "task: %s under %s, by the %s; data: %s, %d classes, %d train, %d search-validation images of %d px",
            self.task, self.head, NAMES[self.figure], data.name, data.num_classes, len(data.train), len(data.val),
            data.image_size,
        )  # fmt: skip
        return data

    def trainer(self, config: RunConfig, space: SearchSpace, data: DenseData[Any]) -> Trainer:
        task = self.chosen.of(prepared(data, space.largest_resolution))
        return Trainer(task, proxy_sizes(config, space), pick_device(config.device), config.seed)

    # --- the end

    def judge(self, trained: Trained, trainer: Trainer) -> Examined:
        place = Place(trained.architecture.resolution, trainer.device)
        return _task(trainer).examine(trained.network, "test", place)

    def row(self, network: Judged[Examined]) -> dict[str, Any]:
        first, *_ = network.judgements
        return {
            f"test_{self.figure}": first.value, "spread": spread_of(first.parts),
            "seeds": seed_values([one.value for one in network.judgements]),
            f"val_{self.figure}": network.trained.val_accuracy,
        }  # fmt: skip

    def spread(self, network: Judged[Examined]) -> float | None:
        return spread_of(network.judgements[0].parts)

    def write(self, folder: Path, winner: Trained, context: Context, title: str) -> None:
        task = _task(context.trainer)
        task.handed_over(winner.network)
        model = DenseModel(
            winner.network.eval(), winner.architecture, task.name, task.head, task.data.classes, task.data.train.reading
        )
        picture = hand_over(folder, model, task.data, title=title).picture
        if picture is not None:
            context.board.picture("predictions", picture)

    def facts(self, context: Context, networks: Sequence[Judged[Examined]], recipe: Recipe) -> dict[str, Any]:
        config, trainer = context.config, context.trainer.at_full_size()
        task, first = _task(trainer), networks[0]
        network, arch = first.trained.network, first.trained.architecture
        validation = task.judged(network, "val", Place(arch.resolution, trainer.device))
        compared = {"verdicts": [self._verdict(first, other) for other in networks[1:]]} if len(networks) > 1 else {}
        return {
            **network_facts(arch, task),
            "validation": {"images": len(task.data.val), **validation},
            "test": {"images": len(task.data.test), **first.judgements[0].figures},
            "data": data_facts(task.data, config.data, config.seed, config.max_broken),
            "accuracy": {
                "resolution": written(arch.resolution), "data": task.data.name, "source": config.data,
                "seed": trainer.seed, "fit": WHOLE.fit, "channels": config.channels,
                "train_images": task.limited(train=recipe.images, seed=trainer.seed).images,
                "val_images": len(task.data.val), "test_images": len(task.data.test), "epochs": recipe.epochs,
                "precision": trainer.precision, "max_broken": config.max_broken,
            },
            **compared,
        }  # fmt: skip

    def write_metrics(self, folder: Path, metrics: dict[str, Any], trainer: Trainer) -> None:
        write_dense_metrics(folder, metrics)

    def show(self, context: Context, networks: Sequence[Judged[Examined]], metrics: Mapping[str, Any]) -> None:
        shown = ", ".join(
            f"{OTHERS[key]} {value:.2%}" for key, value in metrics["test"].items()
            if key in OTHERS and value is not None
        )  # fmt: skip
        log.info(
            "%s: %s %.2f%%, %s of %d test images", networks[0].trained.name, NAMES[self.figure],
            100 * networks[0].judgements[0].value, shown, metrics["test"]["images"],
        )  # fmt: skip

    def end(self, context: Context) -> None:
        pass

    def _verdict(self, main: Judged[Examined], baseline: Judged[Examined]) -> dict[str, Any]:
        name, seeds = baseline.trained.name, min(len(main.judgements), len(baseline.judgements))
        if is_same(main.trained, baseline.trained):
            return same_network(name, len(main.judgements), self.figure)
        found = difference_of(*(
            Scored([one.value for one in network.judgements], np.mean([one.parts for one in network.judgements], 0))
            for network in (main, baseline)
        ))  # fmt: skip
        return {
            "baseline": name, "seeds": seeds, "metric": self.figure, "points": found.points,
            "half_width": found.half_width, "verdict": verdict_words(found, f" of {NAMES[self.figure]}"),
        }  # fmt: skip


def _task(trainer: Trainer) -> DenseTasks:
    assert isinstance(trainer.task, DenseTasks)
    return trainer.task


# --- what metrics.json says of a network with a head


def network_facts(arch: Architecture, task: DenseTasks) -> dict[str, Any]:
    """The network, its head, and by what and in whose pixels it is judged."""
    counted = cost(arch, task.head)
    return {
        "task": task.name, "head": task.head.name, "output_stride": task.head.output_stride,
        "resolution": written(arch.resolution), "channels": arch.channels, "figure": task.figure,
        "judged_at": task.judged_at,
        "network": {"params": counted.params, "madds": counted.madds},
    }  # fmt: skip


def spread_of(parts: NDArray[np.float64]) -> float | None:
    """Half the width of a figure's 95% interval, from its pseudo-values (groups,); None of a single group."""
    from scipy.stats import t  # takes a second

    if len(parts) < 2:
        return None
    return float(t.ppf((1 + CONFIDENCE) / 2, len(parts) - 1)) * math.sqrt(variance_of_mean(parts))


def data_facts(images: DenseData[Any], source: str | Path, seed: int, max_broken: int) -> dict[str, Any]:
    """The data of a training, so that they are found again."""
    return {
        "name": images.name, "source": str(DATA_SETS.absolute(source)), "description": images.description,
        "classes": list(images.classes), "images": image_counts(images), "seed": seed, "max_broken": max_broken,
    }  # fmt: skip


def image_counts(images: DenseData[Any]) -> dict[str, int]:
    """The number of images in each split."""
    return {"train": len(images.train), "val": len(images.val), "test": len(images.test)}
