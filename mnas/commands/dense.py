"""`mnas train --task` and `evaluate`: a network under a head for segmentation or detection."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from mnas.commands.begun import begin, begun_in, check_same, pace_of
from mnas.commands.models import NEEDED_BYTES, PRECISIONS, DataOptions, TrainOptions, asked_of
from mnas.config import MAX_BROKEN
from mnas.data.dense.samples import WHOLE, DenseData
from mnas.data.dense.sources import DATA_SETS
from mnas.data.division import summary
from mnas.data.evaluation import SPLITS
from mnas.errors import BadInput, nearest
from mnas.export.dense import DenseModel, dense_folder, is_dense, load_dense
from mnas.export.dense_card import write_dense_metrics
from mnas.export.dense_files import hand_over
from mnas.export.folder import METRICS_FILE
from mnas.export.onnx import require_exporters
from mnas.io.files import read_json, require_space
from mnas.io.names import absolute_path
from mnas.io.size import written
from mnas.io.versions import versions
from mnas.latency.model_files import timed_rows
from mnas.latency.timing.device import device_name
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline.dense import FIGURES, data_facts, image_counts, network_facts, spread_of
from mnas.pipeline.origins import LEAST_PIXELS, check_start, training_origins
from mnas.space.architecture import Architecture
from mnas.space.zoo import NETWORKS, load_architecture
from mnas.tasks.dense import RECIPE, check_recipe, prepared, usual_size
from mnas.tasks.kinds import KINDS, Chosen, DenseTasks
from mnas.tasks.task import Part, Place
from mnas.training.device import pick_device, restored_threads
from mnas.training.full import FullTraining
from mnas.training.recipe import fine_tuning, lengthened
from mnas.training.sizes import FULL_SIZE
from mnas.training.speed import fastest
from mnas.training.trainer import Trainer

__all__ = ["RECIPE", "evaluate", "is_dense", "train"]

log = logging.getLogger("mnas")

BOARD_FOLDER = "tb"
"""Figures for TensorBoard."""


def train(
    name: str, chosen: Chosen, data: DataOptions, *, output: str | Path, options: TrainOptions
) -> dict[str, Any]:
    """Train one architecture (a zoo name or a YAML file) under a head; write weights and figures into a folder.

    A folder with a training by the same options that was interrupted is continued. Raises BadInput, before any
    training, for what cannot be used.
    """
    _check_options(chosen, data)
    if options.precision not in PRECISIONS:
        raise BadInput(f"--precision {options.precision}{nearest(options.precision, PRECISIONS)}")
    require_exporters()
    output, path = Path(output), NETWORKS.path(name)
    begun, label = begun_in(output), name if path is None else path.stem
    init = None if options.init is None else absolute_path(options.init)
    check_start(init, options.pretrained, re.split("[@:]", name)[0])
    reading = replace(data.reading, fit=WHOLE.fit)
    images = chosen.kind.load(data.source, seed=data.seed, max_broken=data.max_broken, reading=reading)
    task = chosen.of(images)
    check_recipe(options.recipe, task.name)
    arch = _architecture(name, images, options, reading.channels)
    task.head.taps(arch)  # refused before images are decoded
    photographs = reading.channels == 3 and usual_size(images) >= LEAST_PIXELS
    origins, start = training_origins(name, arch, photographs, init=init, pretrained=options.pretrained)
    recipe = options.recipe
    if origins:
        arch, recipe = replace(arch, bn_eps=origins[0].architecture.bn_eps), fine_tuning(recipe, RECIPE)
    recipe = lengthened(recipe, len(images.train))
    asked = asked_of(arch, data, options, recipe) | {
        "task": task.name, "head": task.head.name, "data": str(DATA_SETS.absolute(data.source)),
        "images": task.images, "start": start["origins"],
    }  # fmt: skip
    check_same(begun, asked, output)
    output.mkdir(parents=True, exist_ok=True)
    require_space(output, NEEDED_BYTES)
    decoded = chosen.of(prepared(images, arch.resolution))
    trainer = Trainer(decoded, FULL_SIZE, pick_device(options.device), data.seed, origins=origins)
    with restored_threads():
        pace = pace_of(begun) or fastest(arch, recipe, trainer, precision=options.precision)  # type: ignore[arg-type]
        kept = begin(output, asked, pace)
        torch.set_num_threads(pace.threads)
        trainer = replace(trainer, precision=pace.precision)
        log.info("training in %s, threads: %d, %.0f images/s", pace.precision, pace.threads, pace.images_per_s)
        training = FullTraining(label, arch, recipe, trainer, kept)
        network, standing = training.finished()
    task.handed_over(network)
    place = Place(arch.resolution, trainer.device)
    seen = {name: task.examine(network, part, place) for name, part in FIGURES.items()}
    figures = {name: {"images": len(task.split(FIGURES[name])), **one.figures} for name, one in seen.items()}
    model = DenseModel(network, arch, task.name, task.head, images.classes, images.train.reading)
    handed_over = hand_over(output, model, images, title=label)
    if handed_over.picture is not None:
        board = TensorBoard(output / BOARD_FOLDER)
        board.picture("predictions", handed_over.picture)
        board.close()
    metrics = {
        "title": f"{label} under {task.head}", **network_facts(arch, task), **figures,
        "spread": spread_of(seen["test"].parts),
        "data": data_facts(images, data.source, data.seed, data.max_broken),
        "training": {
            "epochs": standing.epochs, "seconds": standing.seconds, "weights": training.weights, **asdict(pace),
            "recipe": asked["recipe"],
        },
        "files": named(timed_rows(handed_over.files, arch.input_shape(1), seed=data.seed)), "device": device_name(),
        "pretrained": start, "versions": versions(),
    }  # fmt: skip
    write_dense_metrics(output, metrics)
    shutil.rmtree(kept)
    return {"folder": str(output), **metrics}


def evaluate(
    folder: str | Path, *, data: str | Path | None = None, split: str | None = None, seed: int | None = None,
    max_broken: int | None = None, device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """The figures of a network that `train` wrote, on one split of the data of its training, or of other data.

    Raises BadInput for data of other classes.
    """
    if split is not None and split not in SPLITS:
        raise BadInput(f"--split {split}{nearest(split, SPLITS)}")
    part = cast(Part, split or "test")
    folder = dense_folder(folder) or Path(folder)
    model, known = load_dense(folder), read_json(Path(folder) / METRICS_FILE, "data")["data"]
    if seed not in (None, known["seed"]):
        raise BadInput(
            f"--seed {seed}: the training divided its data by the seed {known['seed']}; divided by another one, images "
            "of the training would be called test images"
        )
    images = data_of(model, known, data, max_broken)
    if data is None and image_counts(images) != known["images"]:
        log.warning(
            "%s: has other numbers of images than at the training (%s, then %s): images of the training may be among "
            "those of the test split", known["source"], image_counts(images), known["images"],
        )  # fmt: skip
    task, size = KINDS[model.task].of(images, model.head.name), model.architecture.resolution
    figures = _figures(task, model.network, part, Place(size, pick_device(device)))
    return {
        "folder": str(folder), "task": model.task, "data": images.name, "split": part, "resolution": written(size),
        "judged_at": task.judged_at, **figures,
    }  # fmt: skip


def data_of(
    model: DenseModel, known: Mapping[str, Any], data: str | Path | None = None, max_broken: int | None = None
) -> DenseData[Any]:
    """The data of a training as its metrics.json states them in `known`, or others of the same classes.

    Raises BadInput for data that are gone, or of other classes.
    """
    source = known["source"] if data is None else data
    broken = known.get("max_broken", MAX_BROKEN) if max_broken is None else max_broken
    images = KINDS[model.task].load(source, seed=known["seed"], max_broken=broken, reading=model.reading)
    if images.classes != model.classes:
        raise BadInput(
            f"{source}: has the classes {summary(images.classes)}; the network knows {summary(model.classes)}"
        )
    return images


def named(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table of files, with the files' names in place of their paths: a folder may be moved."""
    return [{**row, "files": [Path(name).name for name in row["files"]]} for row in rows]


def _check_options(chosen: Chosen, data: DataOptions) -> None:
    """Refuse what only images in classes have a use for. Raises BadInput."""
    for option, value in (("--labels", data.labels), ("--group-by", data.group_by)):
        if value is not None:
            raise BadInput(f"{option} {value}: for classification alone; {chosen.head}'s images have masks or boxes")
    if not data.finds_fit and data.reading.fit != WHOLE.fit:
        raise BadInput(f"--fit {data.reading.fit}: images under {chosen.head} are read whole; expected {WHOLE.fit}")


def _architecture(name: str, images: DenseData[Any], options: TrainOptions, channels: int) -> Architecture:
    arch = load_architecture(name, options.resolution or usual_size(images), channels)
    if arch.channels != channels:
        raise BadInput(f"{name}: takes images of {arch.channels} channels: state --channels {arch.channels}")
    return arch if options.resolution is None else replace(arch, resolution=options.resolution)


def _figures(task: DenseTasks, network: nn.Module, part: Part, place: Place) -> dict[str, Any]:
    """A network's figures on a split, and the number of images."""
    return {"images": len(task.split(part)), **task.judged(network, part, place)}


