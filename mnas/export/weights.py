"""A reader of safetensors files that needs only torch; its source text is copied into exported model files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file after comparing its SHA-256 with the .sha256 file beside it."""
    data = bytearray(path.read_bytes())
    expected = Path(f"{path}.sha256").read_text().split()[0]
    if hashlib.sha256(data).hexdigest() != expected:
        raise RuntimeError(f"{path}: its SHA-256 differs from {path.name}.sha256: the file was changed or damaged")
    start = 8 + int.from_bytes(data[:8], "little")  # 8 bytes with the header's length, a JSON header, the values
    header = json.loads(data[8:start])
    weights = {}
    for name, entry in header.items():
        if name != "__metadata__":
            dtype = {"F32": torch.float32, "I64": torch.int64}[entry["dtype"]]
            first, last = entry["data_offsets"]
            values = torch.frombuffer(data[start + first : start + last], dtype=dtype)
            weights[name] = values.reshape(entry["shape"])
    return weights
