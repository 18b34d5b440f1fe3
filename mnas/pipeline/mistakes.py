"""The wrong predictions of which a winner is surest, with small pictures: mistakes/NAME.json of a run."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnas.data.splits import FolderSplit, Split
from mnas.io.files import read_json, write_json
from mnas.io.size import Size
from mnas.training.judgement import Judgement

MOST = 24
SIDE = 96
"""Longest side of a picture, in pixels."""
LOSSLESS = 40
"""Pictures of a shorter longest side are PNG: JPEG would cost more than it saves, and blur them."""


def write_mistakes(
    path: Path, judgement: Judgement, split: Split, classes: Sequence[str], size: Size
) -> None:  # fmt: skip
    """Write the wrong predictions with the largest probability, at most MOST; `judgement` is of the images of `split`.
    """
    rows, worst = [], _worst(judgement, split)
    pictures = split.fetch([row for _, row in worst], size) if worst else ()
    for (image, row), pixels in zip(worst, pictures, strict=True):
        rows.append({
            "class": classes[judgement.labels[image]], "prediction": classes[judgement.predicted[image]],
            "probability": float(judgement.confidence[image]),  # type: ignore[index]
            "file": Path(split.paths[row]).name if isinstance(split, FolderSplit) else f"image {row}",
            "picture": _picture(pixels),
        })  # fmt: skip
    write_json(path, {"wrong": int(np.count_nonzero(~judgement.correct)), "mistakes": rows})


def read_mistakes(path: Path) -> dict[str, Any]:
    """What `write_mistakes` wrote; empty where it wrote nothing."""
    return read_json(path) if path.exists() else {}


def _worst(judgement: Judgement, split: Split) -> list[tuple[int, int]]:
    """The judgement's images with the surest wrong predictions, each with its row in the split."""
    broken = split.broken.reasons if isinstance(split, FolderSplit) else {}
    paths = split.paths if isinstance(split, FolderSplit) else [""] * len(split)
    rows = np.asarray([row for row, path in enumerate(paths) if path not in broken], dtype=np.int64)
    if judgement.confidence is None or not np.array_equal(split.labels[rows], judgement.labels):
        return []
    wrong = np.flatnonzero(~judgement.correct & np.isfinite(judgement.confidence))
    worst = wrong[np.argsort(-judgement.confidence[wrong], kind="stable")][:MOST]
    return list(zip(worst.tolist(), rows[worst].tolist(), strict=True))


def _picture(pixels: torch.Tensor) -> str:
    """An image, uint8 (3, h, w), as a data URI."""
    image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    image.thumbnail((SIDE, SIDE))
    kind, options = ("png", {"optimize": True}) if max(image.size) < LOSSLESS else ("jpeg", {"quality": 75})
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
