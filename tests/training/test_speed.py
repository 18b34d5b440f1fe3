"""Threads and precision are those that are faster here; what is given is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from trainers import trainer

import mnas
from mnas.config import Recipe
from mnas.data.sources import load_data
from mnas.space.architecture import Architecture
from mnas.training import speed
from mnas.training.speed import WORTH, Pace, fastest
from mnas.training.trainer import Trainer

ARCH = mnas.zoo.get("mobilenet_v3_small", 0.35, 64)
RECIPE = Recipe(batch_size=16)
TRAINER = trainer(load_data("digits"))


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[int, str], float]]:
    """The images/s by threads and precision, of a machine of two cores that has bfloat16; 0 once it is measured."""
    speeds = {(1, "float32"): 100.0, (2, "float32"): 150.0, (1, "bfloat16"): 300.0, (2, "bfloat16"): 200.0}

    def training_speed(arch: Architecture, recipe: Recipe, trainer: Trainer) -> float:
        key = torch.get_num_threads(), trainer.precision
        found, speeds[key] = speeds[key], 0.0
        return found

    monkeypatch.setattr(speed, "training_speed", training_speed)
    monkeypatch.setattr(speed, "has_bfloat16", lambda device: True)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield speeds
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_the_faster_threads_then_the_faster_precision(tried: dict[tuple[int, str], float]) -> None:
    assert fastest(ARCH, RECIPE, TRAINER) == Pace(2, "bfloat16", 200.0)
    assert tried[1, "bfloat16"], "it is tried with the better number of threads alone"


def test_a_little_faster_is_not_worth_it(tried: dict[tuple[int, str], float]) -> None:
    tried[2, "bfloat16"] = 150.0 * WORTH
    assert fastest(ARCH, RECIPE, TRAINER) == Pace(2, "float32", 150.0)


def test_what_is_given_is_kept(tried: dict[tuple[int, str], float]) -> None:
    assert fastest(ARCH, RECIPE, TRAINER, threads=1, precision="float32") == Pace(1, "float32", 100.0)
    assert fastest(ARCH, RECIPE, TRAINER, threads=2, precision="bfloat16") == Pace(2, "bfloat16", 200.0)
    assert sum(bool(left) for left in tried.values()) == 2, "nothing else is measured"


def test_small_images_are_not_tried_in_bfloat16(tried: dict[tuple[int, str], float]) -> None:
    small = mnas.zoo.get("mobilenet_v3_small", 0.35, 32)
    assert fastest(small, RECIPE, TRAINER) == Pace(2, "float32", 150.0)


def test_without_bfloat16_all_is_float32(
    tried: dict[tuple[int, str], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "has_bfloat16", lambda device: False)
    assert fastest(ARCH, RECIPE, TRAINER) == Pace(2, "float32", 150.0)


def test_this_machine() -> None:
    found = fastest(ARCH, RECIPE, TRAINER)
    assert found.threads in (1, torch.get_num_threads())
    assert found.precision in ("float32", "bfloat16")
    assert found.images_per_s > 1
