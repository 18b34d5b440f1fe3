"""Small data of each kind, and the refusal of what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnas.data.sources import load_data
from mnas.errors import BadInput

Arrays = dict[str, Any]


def write_images(folder: Path, count: int, colour: tuple[int, int, int] = (200, 40, 90), size: int = 12) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (size + 4, size), colour).save(folder / f"{i}.png")


def write_classes(root: Path, count: int, *names: str) -> Path:
    for name in names:
        write_images(root / name, count)
    return root


def medmnist(**changes: Any) -> Arrays:
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    for kind, n in (("train", 40), ("val", 10), ("test", 10)):
        arrays[f"{kind}_images"] = rng.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
        arrays[f"{kind}_labels"] = (np.arange(n) % 4).astype(np.uint8)[:, None]
    arrays.update(changes)
    return {key: value for key, value in arrays.items() if value is not None}


def write_npz(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def refuse(spec: str | Path, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_data(spec)
    for word in words:
        assert word in str(caught.value)
