"""The device that trains, and torch's threads on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mnas.errors import BadInput


def pick_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `mps`; BadInput if this machine has none of that kind."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available.get(name):
        kinds = ", ".join(kind for kind, present in available.items() if present)
        raise BadInput(f"--device {name}: PyTorch {torch.__version__} finds none on this machine (available: {kinds})")
    return torch.device(name)


@contextmanager
def restored_threads() -> Iterator[None]:
    """Give torch back its number of CPU threads after the block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
