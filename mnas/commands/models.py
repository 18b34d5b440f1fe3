"""`mnas train`, `evaluate` and `export`: one network trained, evaluated on a split, written in a format."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mnas.commands.begun import begin, begun_in, check_same, pace_of
from mnas.config import MAX_BROKEN, Recipe
from mnas.data.division import DIVISION_FILE, Division, read_division
from mnas.data.evaluation import SPLITS, Evaluated, is_data_of, new_images
from mnas.data.fitting import with_fit_decided
from mnas.data.loader import cached
from mnas.data.mirroring import with_mirroring_decided
from mnas.data.reading import AS_USUAL, Reading
from mnas.data.sources import DATA_SETS, ImageData, load_data, warn_of_shape
from mnas.data.summary import log_classes
from mnas.errors import BadInput, nearest
from mnas.export.folder import load_model, model_folder, trained_size, write_metrics, write_model
from mnas.export.onnx import require_exporters
from mnas.export.preprocessing import PREPROCESSING_FILE, read_preprocessing
from mnas.io.files import read_json, require_space
from mnas.io.names import absolute_path
from mnas.io.size import Size, written
from mnas.io.versions import versions
from mnas.latency.conditions import Conditions
from mnas.latency.timing.device import device_name
from mnas.pipeline.classification import ClassificationSearch
from mnas.pipeline.evidence import evidence
from mnas.pipeline.front import hand_over_trials
from mnas.pipeline.kind import judged
from mnas.pipeline.metrics import accuracy_facts, add_latencies, rows_of, warn_of_majority
from mnas.pipeline.origins import are_photographs, check_start, training_origins
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.zoo import NETWORKS, load_architecture
from mnas.tasks.classification import Classification
from mnas.training.device import pick_device, restored_threads
from mnas.training.full import FullTraining
from mnas.training.loop import accuracy
from mnas.training.recipe import fine_tuning, lengthened
from mnas.training.sizes import FULL_SIZE, decoded_size, native_size
from mnas.training.speed import fastest
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")

FORMATS = ("onnx", "pytorch")
PRECISIONS = ("auto", "float32", "bfloat16")
NEEDED_BYTES = 150_000_000
"""Free space that a training begins with: the network with its optimizer's state, twice, and the exported files."""


@dataclass(frozen=True)
class DataOptions:
    """A data source, how it is divided and read, and the number of broken images that may be skipped."""

    source: str | Path = "digits"
    seed: int = 0
    max_broken: int = MAX_BROKEN
    reading: Reading = AS_USUAL
    group_by: str | None = None
    labels: str | Path | None = None
    finds_fit: bool = False
    """Whether a probe decides how long images are read."""

    def load(self, division: Division | None = None) -> ImageData:
        """The images, divided anew or as an earlier `division` has them."""
        return load_data(
            self.source, seed=self.seed, max_broken=self.max_broken, reading=self.reading, group_by=self.group_by,
            labels=self.labels, division=division,
        )  # fmt: skip


@dataclass(frozen=True)
class TrainOptions:
    """How one network is trained."""

    resolution: Size | None = None
    """None: what the images have."""
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "auto"
    precision: str = "auto"
    """auto, float32 or bfloat16, as in a search's configuration."""
    init: str | Path | None = None
    """Weights to start from, of the same network or of one of the same design."""
    pretrained: str = "auto"
    """Published weights to start from, as in a search's configuration."""


def train(
    name: str, data: DataOptions, *, output: str | Path, options: TrainOptions = TrainOptions()
) -> dict[str, Any]:
    """Train one architecture (a zoo name or a YAML file) by a recipe and write the same files as for a winner.

    A folder with a training by the same options that was interrupted is continued.
    """
    resolution, recipe, precision = options.resolution, options.recipe, options.precision
    if precision not in PRECISIONS:
        raise BadInput(f"--precision {precision}{nearest(precision, PRECISIONS)}")
    output, seed, init = Path(output), data.seed, None if options.init is None else absolute_path(options.init)
    begun = begun_in(output)
    require_exporters()
    images = data.load()
    if data.finds_fit:
        images = with_fit_decided(images, resolution or 1)
    channels = data.reading.channels
    arch = load_architecture(name, resolution or native_size(images.image_size, 224), channels)
    if arch.channels != channels:
        raise BadInput(f"{name}: takes images of {arch.channels} channels: state --channels {arch.channels}")
    if resolution is not None:
        arch = replace(arch, resolution=resolution)
    size = arch.resolution
    warn_of_shape(images.name, images.train, size)
    decoded = decoded_size(images.image_size, size)
    images = replace(images, train=cached(images.train, decoded), val=cached(images.val, decoded))
    if recipe.flip is None:
        images = with_mirroring_decided(images)
    path = NETWORKS.path(name)
    label = name if path is None else path.stem
    check_start(init, options.pretrained, re.split("[@:]", name)[0])
    origins, start = training_origins(
        name, arch, are_photographs(images), init=init, pretrained=options.pretrained
    )
    if origins:
        arch, recipe = replace(arch, bn_eps=origins[0].architecture.bn_eps), fine_tuning(recipe)
    trainer = Trainer(Classification(images), FULL_SIZE, pick_device(options.device), seed, origins=origins)
    recipe = lengthened(recipe, len(images.train))
    asked = asked_of(arch, data, options, recipe) | {"images": len(images.train), "start": start["origins"]}
    check_same(begun, asked, output)
    output.mkdir(parents=True, exist_ok=True)
    require_space(output, NEEDED_BYTES)
    with restored_threads():
        pace = pace_of(begun) or fastest(arch, recipe, trainer, precision=precision)  # type: ignore[arg-type]
        kept = begin(output, asked, pace)
        torch.set_num_threads(pace.threads)
        trainer = replace(trainer, precision=pace.precision)
        log_classes(images)
        log.info("training in %s, threads: %d, %.0f images/s", pace.precision, pace.threads, pace.images_per_s)
        trained = FullTraining(label, arch, recipe, trainer, kept).trained()
    shutil.rmtree(kept)
    kind = ClassificationSearch()
    network = judged(kind, [trained], trainer)
    rows = rows_of(kind, [network], "trained", images.num_classes)
    write_model(output, trained, images, title=label)
    add_latencies(rows, [trained], output, Conditions("torch"), seed=seed)
    metrics = {
        "title": label, "networks": rows,
        "latency": {
            "device": device_name(), "runtime": "torch", "threads": 1, "batch": 1, "resolution": written(size),
            "budget_ms": None,
        },
        "accuracy": accuracy_facts(trainer, recipe, size) | {
            "source": DATA_SETS.absolute(data.source), "max_broken": data.max_broken,
            "labels": None if data.labels is None else absolute_path(data.labels),
        },
        "pretrained": start, "versions": versions(), **evidence(network, [], images.classes),
    }  # fmt: skip
    write_metrics(output, metrics, images.classes)
    warn_of_majority(rows[0], metrics["majority_share"])
    return {"folder": str(output), **metrics}


def asked_of(arch: Architecture, data: DataOptions, options: TrainOptions, recipe: Recipe) -> dict[str, Any]:
    """What decides a training, so that one with other options is not continued by mistake."""
    return {
        "architecture": arch.to_yaml(), "data": str(DATA_SETS.absolute(data.source)), "seed": data.seed,
        "fit": data.reading.fit, "labels": None if data.labels is None else str(absolute_path(data.labels)),
        "group-by": data.group_by, "device": options.device, "precision": options.precision,
        "recipe": recipe.model_dump(mode="json"),
    }  # fmt: skip


def evaluate(
    target: str | Path, *, data: str | Path | None = None, split: str | None = None, seed: int | None = None,
    max_broken: int | None = None, device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Accuracy of a run's winner, or of a network that `train` wrote, on one split of the data.

    By default on the test split of its training, as splits.json has it; `data` may name the same data elsewhere. Of
    other data, all images count, or those of a split that they have: see `new_images`.
    """
    if split is not None and split not in SPLITS:
        raise BadInput(f"--split {split}{nearest(split, SPLITS)}")
    folder = model_folder(Path(target))
    trained_on, division = read_json(folder / "metrics.json", "accuracy")["accuracy"], read_division(folder)
    classes = read_preprocessing(folder / PREPROCESSING_FILE).classes
    if max_broken is None:
        max_broken = trained_on.get("max_broken", MAX_BROKEN)
    if data is None or division is None or is_data_of(division, data, trained_on["source"]):
        images, split = _trained_data(trained_on, division, data, seed, max_broken), split or "test"
        chosen = Evaluated(images.name, split, getattr(images, split))
    else:
        chosen = new_images(data, split, classes, reading=division.reading, max_broken=max_broken)
    network, arch = load_model(folder)
    size = trained_size(folder, arch)
    warn_of_shape(chosen.name, chosen.images, size)
    share = accuracy(network, chosen.images, size=size, device=pick_device(device), exact=True)
    return {"folder": str(folder), "data": chosen.name, "split": chosen.split, "images": len(chosen.images),
            "resolution": written(size), "accuracy": share}


def trained_data(folder: Path) -> ImageData:
    """The data of the training of the network in `folder`, in its splits. Raises BadInput where they are gone."""
    trained_on = read_json(folder / "metrics.json", "accuracy")["accuracy"]
    return _trained_data(trained_on, read_division(folder), None, None, trained_on.get("max_broken", MAX_BROKEN))


def _trained_data(
    trained_on: Mapping[str, Any], division: Division | None, data: str | Path | None, seed: int | None, max_broken: int
) -> ImageData:
    """The data on which a network was trained, perhaps in another place."""
    if division is not None and seed not in (None, trained_on["seed"]):
        raise BadInput(
            f"--seed {seed}: the splits of the training are written down in {DIVISION_FILE}; divided by another seed, "
            "images of the training would be called test images"
        )
    source = trained_on["source"] if data is None else data
    path = DATA_SETS.path(source)
    if data is None and path is not None and not path.exists():
        raise BadInput(f"{path}: the data of the training are not there any more; say where they are now with --data")
    options = DataOptions(
        source, trained_on["seed"] if seed is None else seed, max_broken, labels=trained_on.get("labels")
    )
    return options.load(division)


def export_trials(
    target: str | Path, *, trial: int | None = None, output: str | Path | None = None
) -> dict[str, Any]:
    """Hand over a finished trial of a run like its winner, or all of its Pareto front: see `hand_over_trials`."""
    run = Run.open(Path(target))
    with restored_threads():
        numbers = None if trial is None else [trial]
        done = hand_over_trials(run, numbers, None if output is None else Path(output))
    return {"folder": str(run.folder), "exported": done}
