"""A program of torch.export (.pt2), for any number of images."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from mnas.export.checks import plain_copy
from mnas.export.formats import Model
from mnas.io.files import write_atomic
from mnas.io.silence import without_export_warnings

RUNTIME = "torch"
FREE_BATCH = True


def write(model: Model, path: Path) -> list[Path]:
    content = io.BytesIO()
    # two images: from one, torch 2.13 makes a program for one image, whatever is asked for
    example = torch.zeros(model.input_shape(2))
    with without_export_warnings():
        program = torch.export.export(
            plain_copy(model.network), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(program, content)
    write_atomic(path, content.getvalue())
    return [path]
