"""What is a fault of one training alone, and what is a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mnas
from mnas.config import Recipe
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.race import Contender
from mnas.pipeline.trainings import Leg, Trainings
from mnas.tasks.classification import Classification
from mnas.training.faults import cause_of
from mnas.training.loop import Diverged
from mnas.training.sizes import FULL_SIZE
from mnas.training.trainer import Trainer


def raised(act: Any) -> BaseException:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        act()
    return caught.value


@pytest.mark.parametrize("act", [lambda: torch.empty(1 << 58), lambda: bytearray(1 << 60)])
def test_too_little_memory(act: Any) -> None:
    assert cause_of(raised(act)).startswith("out of memory")
    assert "\n" not in cause_of(raised(act))


def test_other_errors() -> None:
    assert cause_of(Diverged("the loss is nan")) == "the loss is nan"
    assert cause_of(torch.OutOfMemoryError("CUDA out of memory")).startswith("out of memory")
    assert cause_of(raised(lambda: torch.zeros(2) @ torch.zeros(3))) == ""


class TooLarge:
    """A supernet that does not fit into memory."""

    def inherited(self, arch: mnas.Architecture) -> Any:
        return torch.empty(1 << 58)


def test_a_contender_without_memory_is_dropped(few: mnas.ImageData, tmp_path: Path) -> None:
    trainer = Trainer(Classification(few), FULL_SIZE, torch.device("cpu"), 0)
    arch = mnas.zoo.get("mobilenet_v3_small", 0.35, 32)
    contender = Contender("trial 0", arch, "found", Measurement(1.0, 0.0, 1), "inherited", epochs=1)
    trainings = Trainings(trainer, TooLarge(), tmp_path)  # type: ignore[arg-type]
    assert trainings.run(Leg(contender, Recipe(epochs=1), 1, 0)) is None
