"""The folder of a trained network, such as a run's winner/: its path, writing it, reading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mnas.data.division import write_division
from mnas.data.sources import ImageData
from mnas.errors import BadInput
from mnas.export.card import model_card
from mnas.export.onnx import export_onnx
from mnas.export.preprocessing import PREPROCESSING_FILE, read_preprocessing, write_preprocessing
from mnas.export.pytorch import WEIGHTS_FILE, export_pytorch
from mnas.io.files import write_atomic, write_json
from mnas.io.size import Size
from mnas.io.strict_yaml import read_text
from mnas.nn.network import Network, build
from mnas.nn.weights import load_state, read_safetensors
from mnas.space.architecture import Architecture
from mnas.training.full import Trained

ARCHITECTURE_FILE, METRICS_FILE, CARD_FILE = "architecture.yaml", "metrics.json", "README.md"
TASK_FILE, PICTURE_FILE = "task.json", "predictions.png"
"""Of a network with a head for segmentation or detection: see `mnas.export.dense`."""


def model_folder(target: str | Path) -> Path:
    """The folder of a trained classifier: winner/ of the run `target`, or `target` itself. Raises BadInput."""
    target = Path(target)
    if any((folder / TASK_FILE).exists() for folder in (target / "winner", target)):
        raise BadInput(f"{target}: has a network for segmentation or detection, which this command does not take")
    for folder in (target / "winner", target):
        if (folder / ARCHITECTURE_FILE).exists():
            return folder
    if (target / "config.yaml").exists():
        raise BadInput(f"{target}: this run has no winner yet; continue it: mnas resume {target}")
    raise BadInput(f"{target}: expected a run's folder or a folder with {ARCHITECTURE_FILE} and {WEIGHTS_FILE}")


def trained_size(folder: str | Path, arch: Architecture) -> Size:
    """The size in pixels of the images on which the network in `folder` was trained."""
    path = Path(folder) / PREPROCESSING_FILE
    return read_preprocessing(path).size if path.exists() else arch.resolution


def write_model(folder: str | Path, trained: Trained, data: ImageData, *, title: str) -> None:
    """Write the files of a trained network: model.py, weights, ONNX, architecture, preprocessing, splits."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    network = trained.network.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    size = trained.architecture.resolution
    export_pytorch(
        network, trained.architecture, folder, classes=data.classes, title=title, reading=data.train.reading
    )
    write_atomic(folder / ARCHITECTURE_FILE, trained.architecture.to_yaml())
    write_preprocessing(folder / PREPROCESSING_FILE, size, data.classes, data.train.reading)
    if data.division is not None:
        write_division(folder, data.division)
    export_onnx(network, size, folder / "model.onnx")


def write_metrics(folder: str | Path, metrics: dict[str, Any], classes: Sequence[str]) -> None:
    """Write the model card, then metrics.json with the same figures: a folder that has it is complete."""
    folder = Path(folder)
    write_atomic(folder / CARD_FILE, model_card(metrics, classes, files_of(folder)))
    write_json(folder / METRICS_FILE, metrics)


def files_of(folder: Path) -> list[str]:
    """The names of a folder's files, once it has its card and metrics.json."""
    files = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return sorted(files | {CARD_FILE, METRICS_FILE})


def load_model(folder: str | Path, classes: int | None = None) -> tuple[Network, Architecture]:
    """The trained network of `folder` in eval mode, and its architecture.

    Raises BadInput if a file is missing or damaged, or if the network does not have `classes` outputs.
    """
    folder = Path(folder)
    arch_path, weights_path = folder / ARCHITECTURE_FILE, folder / WEIGHTS_FILE
    for path in (arch_path, weights_path):
        if not path.exists():
            raise BadInput(f"{path}: missing; expected the winner/ folder of a finished run")
    arch = Architecture.from_yaml(read_text(arch_path), str(arch_path))
    state = read_safetensors(weights_path)
    outputs = state["classifier.weight"].shape[0] if "classifier.weight" in state else 0
    if classes is not None and outputs != classes:
        raise BadInput(f"{folder}: the network has {outputs} classes and the data {classes}; they must be equal")
    network = build(arch, outputs or 1000)  # without a classifier load_state raises the error
    load_state(network, state, weights_path)
    return network.eval(), arch
