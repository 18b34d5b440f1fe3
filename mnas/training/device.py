"""Which device trains."""

from __future__ import annotations

import torch

from mnas.errors import BadInput


def pick_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `mps`; BadInput where it is not there."""
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if found[kind]))
    if not found.get(name):
        there = ", ".join(kind for kind, present in found.items() if present)
        raise BadInput(f"--device {name}: PyTorch {torch.__version__} finds no such device here (it has: {there})")
    return torch.device(name)
