"""model.py with weights.safetensors: plain PyTorch."""

from __future__ import annotations

from pathlib import Path

from mnas.export.formats import Model
from mnas.export.pytorch import export_pytorch

RUNTIME = "torch"
FREE_BATCH = True


def write(model: Model, path: Path) -> list[Path]:
    return export_pytorch(
        model.network, model.architecture, path.parent, classes=model.classes, title=model.title, reading=model.reading
    )
