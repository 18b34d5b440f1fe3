"""`mnas train`, `evaluate` and `export`: one network trained, evaluated on a split, written in a format."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnas.config import MAX_BROKEN, Recipe
from mnas.data.loader import cached
from mnas.data.sources import DATA_SETS, ImageData, load_data
from mnas.errors import BadInput, nearest
from mnas.export.folder import load_model, model_folder, trained_size, write_metrics, write_model
from mnas.export.onnx import export_onnx
from mnas.export.pytorch import export_pytorch
from mnas.io.files import read_json
from mnas.io.versions import versions
from mnas.latency.conditions import Conditions
from mnas.latency.timing.device import device_name
from mnas.pipeline.metrics import accuracy_facts, add_latencies, rows_of
from mnas.space.zoo import NETWORKS, load_architecture
from mnas.training.device import pick_device
from mnas.training.loop import accuracy
from mnas.training.sizes import TrainingSizes, native_size
from mnas.training.trainer import Trainer, train_fully

FORMATS = ("onnx", "pytorch")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DataOptions:
    """A data source, the seed of its splits, and the number of broken images that may be skipped."""

    source: str | Path = "digits"
    seed: int = 0
    max_broken: int = MAX_BROKEN

    def load(self) -> ImageData:
        return load_data(self.source, seed=self.seed, max_broken=self.max_broken)


def train(
    name: str, data: DataOptions, *, output: str | Path, resolution: int | None = None, recipe: Recipe | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Train one architecture (a zoo name or a YAML file) by a recipe and write the same files as for a winner."""
    recipe, output, seed = recipe or Recipe(), Path(output), data.seed
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output}: exists and is not empty; name another folder with -o")
    images = data.load()
    arch = load_architecture(name, resolution or native_size(images, 224))
    if resolution is not None:
        arch = replace(arch, resolution=resolution)
    size = arch.resolution
    images = replace(images, train=cached(images.train, size), val=cached(images.val, size))
    trainer = Trainer(images, TrainingSizes(size, size), pick_device(device), seed)
    path = NETWORKS.path(name)
    label = name if path is None else path.stem
    output.mkdir(parents=True, exist_ok=True)
    trained = train_fully(label, arch, recipe, trainer, checkpoints=output / ".weights")
    shutil.rmtree(output / ".weights")
    rows = rows_of([trained], "trained", trainer)
    write_model(output, trained, images, size=size, title=label)
    add_latencies(rows, [trained], output, Conditions("torch"), seed=seed)
    metrics = {
        "title": label, "notes": [], "networks": rows,
        "latency": {
            "device": device_name(), "runtime": "torch", "threads": 1, "batch": 1, "resolution": size,
            "budget_ms": None,
        },
        "accuracy": accuracy_facts(trainer, recipe, size, DATA_SETS.absolute(data.source), data.max_broken),
        "versions": versions(),
    }  # fmt: skip
    write_metrics(output, metrics, images.classes)
    return {"folder": str(output), **metrics}


def evaluate(
    target: str | Path, *, data: str | Path | None = None, split: str = "test", seed: int | None = None,
    max_broken: int | None = None, device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Accuracy of a run's winner, or of a network that `train` wrote, on one split of the data.

    Data, seed and max_broken are those of its training by default. Another seed divides the images differently, so
    that images of the training are in the test split.
    """
    if split not in SPLITS:
        raise BadInput(f"--split {split}{nearest(split, SPLITS)}")
    folder = model_folder(Path(target))
    trained_on = read_json(folder / "metrics.json")["accuracy"]
    options = DataOptions(
        trained_on["source"] if data is None else data,
        trained_on["seed"] if seed is None else seed,
        trained_on.get("max_broken", MAX_BROKEN) if max_broken is None else max_broken,
    )
    images = options.load()
    classes = tuple(read_json(folder / "preprocessing.json")["classes"])
    if images.classes != classes:
        raise BadInput(
            f"{options.source}: has the classes {_summary(images.classes)}; {folder} was trained on "
            f"{_summary(classes)}; expected the same names in the same order"
        )
    network, arch = load_model(folder)
    size = trained_size(folder, arch)
    chosen = getattr(images, split)
    share = accuracy(network, chosen, size=size, device=pick_device(device), exact=True)
    return {"folder": str(folder), "data": images.name, "split": split, "images": len(chosen), "resolution": size,
            "accuracy": share}


def export(target: str | Path, *, format: str, output: str | Path | None = None) -> dict[str, Any]:
    """Write a trained network in a format, beside its other files or to `output`, checked against PyTorch."""
    if format not in FORMATS:
        raise BadInput(f"unknown format '{format}'{nearest(format, FORMATS)}")
    folder, output = model_folder(Path(target)), None if output is None else Path(output)
    network, arch = load_model(folder)
    size = trained_size(folder, arch)
    if output is not None and output.exists() and not output.is_dir():
        raise BadInput(f"{output}: exists; name another file with -o")
    if format == "onnx":
        path = output or folder / "model.onnx"
        if path.is_dir():
            path = path / "model.onnx"
            if output is not None and path.exists():
                raise BadInput(f"{path}: exists; name another file with -o")
        path.parent.mkdir(parents=True, exist_ok=True)
        files = [export_onnx(network, size, path)]
    else:
        path = output or folder
        if output is not None and (path / "model.py").exists():
            raise BadInput(f"{path}: holds a model.py; name another folder with -o")
        path.mkdir(parents=True, exist_ok=True)
        classes, metrics = read_json(folder / "preprocessing.json")["classes"], read_json(folder / "metrics.json")
        files = export_pytorch(
            network, replace(arch, resolution=size), path, classes=classes, title=metrics["title"],
            notes=metrics["notes"],
        )  # fmt: skip
    return {"format": format, "files": [str(file) for file in files]}


def _summary(names: Sequence[str]) -> str:
    """The number of names and the first three."""
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} ({len(names)})"
