"""What the smaller commands do: train, evaluate, export, measure, build a table, doctor."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mnas.architecture import Architecture
from mnas.config import Recipe
from mnas.cost import cost
from mnas.data.loader import cached, default_workers
from mnas.data.sources import load_data
from mnas.data.splits import limited
from mnas.errors import BadInput, MissingDependency, nearest
from mnas.export.onnx import export_onnx
from mnas.export.pytorch import export_pytorch
from mnas.handover import versions
from mnas.latency.device import device_name
from mnas.latency.runtimes import get_runtime, runtime_names
from mnas.strict_yaml import read_text
from mnas.task import native_size
from mnas.training.device import pick_device
from mnas.training.loop import accuracy
from mnas.winner import add_latencies, load_model, test_accuracy, train_fully, write_metrics, write_model
from mnas.workflow import baseline_architecture

log = logging.getLogger("mnas")

FORMATS = ("onnx", "pytorch")


def train(
    name: str, *, data: str, output: Path, resolution: int | None = None, recipe: Recipe | None = None, seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Train one architecture (zoo name or YAML file) by the recipe and write it as a winner's folder is written."""
    recipe, where = recipe or Recipe(), pick_device(device)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output}: exists and is not empty; name another folder with -o")
    images = load_data(data, seed=seed)
    arch = baseline_architecture(name, resolution or native_size(images, 224))
    if resolution is not None:
        arch = replace(arch, resolution=resolution)
    size = arch.resolution
    images = replace(images, train=cached(images.train, size), val=cached(images.val, size))
    label = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    output.mkdir(parents=True, exist_ok=True)
    trained = train_fully(
        label, arch, images, recipe, size=size, device=where, seed=seed, checkpoints=output / ".weights"
    )
    shutil.rmtree(output / ".weights")
    counted = cost(arch, images.num_classes)
    row = {
        "name": label, "role": "trained", "test_accuracy": test_accuracy(trained, images, size=size, device=where),
        "val_accuracy": trained.val_accuracy, "madds": counted.madds, "params": counted.params,
        "resolution": size, "accuracy_resolution": size,
    }  # fmt: skip
    write_model(output, trained, images, size=size, title=label)
    add_latencies([row], [trained], output, runtime="torch", threads=1, batch=1, seed=seed)
    metrics = {
        "title": label, "notes": [], "networks": [row],
        "latency": {
            "device": device_name(), "runtime": "torch", "threads": 1, "batch": 1, "resolution": size,
            "budget_ms": None,
        },
        "accuracy": {
            "resolution": size, "data": images.name, "source": data, "seed": seed,
            "train_images": len(limited(images.train, recipe.images, seed)), "val_images": len(images.val),
            "test_images": len(images.test), "epochs": recipe.epochs,
        },
        "versions": versions(),
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
    trained_on = _json(folder / "metrics.json")["accuracy"]
    source = trained_on["source"] if data is None else data
    images = load_data(source, seed=trained_on["seed"] if seed is None else seed)
    known = tuple(_json(folder / "preprocessing.json")["classes"])
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
    workers = 0 if chosen.in_memory else default_workers()
    reached = accuracy(network, chosen, size=size, device=where, workers=workers, exact=True)
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
        classes, metrics = _json(folder / "preprocessing.json")["classes"], _json(folder / "metrics.json")
        used = replace(arch, resolution=size)
        files = export_pytorch(
            network, used, path, classes=classes, title=metrics["title"], notes=metrics["notes"]
        )
    return {"format": format, "files": [str(file) for file in files]}


def model_folder(target: Path) -> Path:
    """The folder of a trained network: a run's winner/, or the folder itself."""
    for folder in (target / "winner", target):
        if (folder / "architecture.yaml").exists():
            return folder
    if (target / "config.yaml").exists():
        raise BadInput(f"{target}: this run has no winner yet; continue it: mnas resume {target}")
    raise BadInput(f"{target}: expected a run's folder or a folder with architecture.yaml and weights.safetensors")


def _some(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"


def _json(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(read_text(path))
    except ValueError:
        raise BadInput(f"{path}: not JSON") from None
    return read


def trained_size(folder: Path, arch: Architecture) -> int:
    """Pixels at which the network of `folder` was trained."""
    if not (folder / "preprocessing.json").exists():
        return arch.resolution
    return int(_json(folder / "preprocessing.json")["crop"]["height"])


OPTIONAL: Mapping[str, tuple[str, str]] = {
    "torchvision": ("--data torchvision:NAME", "pip install torchvision"),
    "psycopg": ("--storage postgresql://...", "pip install 'psycopg[binary]'"),
    "optuna_dashboard": ("optuna-dashboard sqlite:///runs/RUN/study.db", "pip install optuna-dashboard"),
}
"""Import name -> what it is for, and the command that installs it."""


def doctor() -> dict[str, Any]:
    """Versions, devices, runtimes, and what is missing with its pip command."""
    import importlib.util

    runtimes = []
    for name in runtime_names():
        try:
            runtimes.append({"name": name, "version": get_runtime(name).version(), "missing": None})
        except MissingDependency as error:
            runtimes.append({"name": name, "version": None, "missing": str(error)})
    devices = ["cpu"] + [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()]
    missing = [
        {"package": package, "for": use, "install": command}
        for package, (use, command) in OPTIONAL.items() if importlib.util.find_spec(package) is None
    ]  # fmt: skip
    return {
        "versions": versions(), "python": sys.executable, "device": device_name(), "devices": devices,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "training_threads": torch.get_num_threads(), "runtimes": runtimes, "missing": missing,
    }  # fmt: skip
