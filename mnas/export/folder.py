"""The folder of a trained network: written as a winner's, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mnas.data.augment import MEAN, STD
from mnas.data.sources import ImageData
from mnas.errors import BadInput
from mnas.export.card import model_card
from mnas.export.onnx import export_onnx
from mnas.export.preprocessing import write_preprocessing
from mnas.export.pytorch import export_pytorch
from mnas.io.files import read_json, write_atomic, write_json
from mnas.io.strict_yaml import read_text
from mnas.nn.network import Network, build
from mnas.nn.pretrained import check_sum, load_state, read_safetensors
from mnas.space.architecture import Architecture
from mnas.training.trainer import Trained


def model_folder(target: Path) -> Path:
    """The folder of a trained network: a run's winner/, or the folder itself."""
    for folder in (target / "winner", target):
        if (folder / "architecture.yaml").exists():
            return folder
    if (target / "config.yaml").exists():
        raise BadInput(f"{target}: this run has no winner yet; continue it: mnas resume {target}")
    raise BadInput(f"{target}: expected a run's folder or a folder with architecture.yaml and weights.safetensors")


def trained_size(folder: Path, arch: Architecture) -> int:
    """Pixels at which the network of `folder` was trained."""
    if not (folder / "preprocessing.json").exists():
        return arch.resolution
    return int(read_json(folder / "preprocessing.json")["crop"]["height"])


def write_model(
    folder: Path, trained: Trained, data: ImageData, *, size: int, title: str, notes: Sequence[str] = ()
) -> None:
    """A trained network's files into `folder`: model.py, weights, model.onnx, architecture, preprocessing."""
    folder.mkdir(parents=True, exist_ok=True)
    network = trained.network.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    # model.py speaks of the size at which its weights were trained
    used = replace(trained.architecture, resolution=size)
    export_pytorch(network, used, folder, classes=data.classes, title=title, notes=notes)
    write_atomic(folder / "architecture.yaml", trained.architecture.to_yaml())
    write_preprocessing(folder / "preprocessing.json", resolution=size, classes=data.classes, mean=MEAN, std=STD)
    export_onnx(network, size, folder / "model.onnx")


def write_metrics(folder: Path, metrics: dict[str, Any], classes: Sequence[str]) -> None:
    """metrics.json and the model card that tells the same figures."""
    write_json(folder / "metrics.json", metrics)
    files = sorted({path.name for path in folder.iterdir() if not path.name.startswith(".")} | {"README.md"})
    card = model_card(title=metrics["title"], metrics=metrics, classes=classes, files=files)
    write_atomic(folder / "README.md", card)


def load_model(folder: Path, classes: int | None = None) -> tuple[Network, Architecture]:
    """The trained network of a folder that `write_model` wrote."""
    arch_file, weights = folder / "architecture.yaml", folder / "weights.safetensors"
    for path in (arch_file, weights):
        if not path.exists():
            raise BadInput(f"{path}: missing; expected the winner/ folder of a finished run")
    arch = Architecture.from_yaml(read_text(arch_file), str(arch_file))
    check_sum(weights)
    state = read_safetensors(weights)
    found = state["classifier.weight"].shape[0] if "classifier.weight" in state else 0
    if classes is not None and found != classes:
        raise BadInput(f"{folder}: the network knows {found} classes, the data has {classes}; they must be the same")
    network = build(arch, found or 1000)
    load_state(network, state, weights)
    return network.eval(), arch
