"""What the smaller commands do: train, evaluate, export, measure, build a table, doctor."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnas.config import Recipe
from mnas.data.loader import cached
from mnas.data.sources import load_data
from mnas.errors import BadInput, nearest
from mnas.export.folder import load_model, model_folder, trained_size, write_metrics, write_model
from mnas.export.onnx import export_onnx
from mnas.export.pytorch import export_pytorch
from mnas.io.files import read_json
from mnas.io.versions import versions
from mnas.latency.conditions import Conditions
from mnas.latency.timing.device import device_name
from mnas.pipeline.metrics import accuracy_facts, add_latencies, rows_of
from mnas.space.zoo import load_architecture
from mnas.training.device import pick_device
from mnas.training.loop import accuracy
from mnas.training.sizes import TrainingSizes, native_size
from mnas.training.trainer import Trainer, train_fully

log = logging.getLogger("mnas")

FORMATS = ("onnx", "pytorch")


def train(
    name: str, *, data: str, output: Path, resolution: int | None = None, recipe: Recipe | None = None, seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Train one architecture (zoo name or YAML file) by the recipe and write it as a winner's folder is written."""
    recipe = recipe or Recipe()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output}: exists and is not empty; name another folder with -o")
    images = load_data(data, seed=seed)
    arch = load_architecture(name, resolution or native_size(images, 224))
    if resolution is not None:
        arch = replace(arch, resolution=resolution)
    size = arch.resolution
    images = replace(images, train=cached(images.train, size), val=cached(images.val, size))
    trainer = Trainer(images, TrainingSizes(size, size), pick_device(device), seed)
    label = Path(name).stem if name.endswith((".yaml", ".yml")) else name
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
        "accuracy": accuracy_facts(trainer, recipe, size, data), "versions": versions(),
    }  # fmt: skip
    write_metrics(output, metrics, images.classes)
    return {"folder": str(output), **metrics}


def evaluate(
    target: Path, *, data: str | None = None, split: str = "test", seed: int | None = None, device: str = "auto"
) -> dict[str, Any]:
    """Accuracy of a run's winner, or of a folder that `train` wrote, on one split of the data.

    Data and seed are those of its training unless they are given: another seed would divide the images otherwise, and
    call images of the training a test.
    """
    where = pick_device(device)
    folder = model_folder(target)
    trained_on = read_json(folder / "metrics.json")["accuracy"]
    source = trained_on["source"] if data is None else data
    images = load_data(source, seed=trained_on["seed"] if seed is None else seed)
    known = tuple(read_json(folder / "preprocessing.json")["classes"])
    if images.classes != known:
        raise BadInput(
            f"{source}: its classes ({_some(images.classes)}) are not those of {folder} ({_some(known)}); the same "
            "names in the same order are needed"
        )
    network, arch = load_model(folder)
    size = trained_size(folder, arch)
    if split not in ("train", "val", "test"):
        raise BadInput(f"--split {split}{nearest(split, ('train', 'val', 'test'))}")
    chosen = getattr(images, split)
    reached = accuracy(network, chosen, size=size, device=where, exact=True)
    return {"folder": str(folder), "data": images.name, "split": split, "images": len(chosen), "resolution": size,
            "accuracy": reached}


def export(target: Path, *, format: str, output: Path | None = None) -> dict[str, Any]:
    """Write a trained network again in one format, checked against PyTorch."""
    if format not in FORMATS:
        raise BadInput(f"unknown format '{format}'{nearest(format, FORMATS)}")
    folder = model_folder(target)
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
        used = replace(arch, resolution=size)
        files = export_pytorch(
            network, used, path, classes=classes, title=metrics["title"], notes=metrics["notes"]
        )
    return {"format": format, "files": [str(file) for file in files]}




def _some(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"








