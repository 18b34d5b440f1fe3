"""What may go wrong in one network's training without anything being wrong with the next one's."""

from __future__ import annotations

import torch

from mnas.errors import one_line
from mnas.training.loop import Diverged
from mnas.training.memory import is_out_of_memory

SMALLER = "--set proxy.batch_size=16 --set recipe.batch_size=32"
MEMORY_ADVICE = f"a new run may try smaller batches ({SMALLER}) or a smaller --resolution"


def cause_of(error: BaseException) -> str:
    """Why a training failed, on one line: it diverged, or memory was short, also for its smallest parts; else ''."""
    if isinstance(error, Diverged):
        return str(error)
    if not is_out_of_memory(error):
        return ""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    why = one_line(str(error).partition("\n")[0]) or type(error).__name__
    return f"out of memory ({why:.200}); {MEMORY_ADVICE}"
