"""Reading a safetensors file with torch and the standard library; exported model files carry this source text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, once its sha256 is found equal to the one in the file beside it."""
    data = bytearray(path.read_bytes())
    stated = Path(f"{path}.sha256").read_text().split()[0]
    if hashlib.sha256(data).hexdigest() != stated:
        raise RuntimeError(f"{path}: its sha256 is not the one in {path.name}.sha256; the file was changed or damaged")
    start = 8 + int.from_bytes(data[:8], "little")  # header's length, header in JSON, values
    header = json.loads(data[8:start])
    weights = {}
    for name, entry in header.items():
        if name != "__metadata__":
            dtype = {"F32": torch.float32, "I64": torch.int64}[entry["dtype"]]
            first, last = entry["data_offsets"]
            values = torch.frombuffer(data[start + first : start + last], dtype=dtype)
            weights[name] = values.reshape(entry["shape"])
    return weights
