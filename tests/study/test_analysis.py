"""What fANOVA says of choices that it is told of."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mnas.io.presets import preset_names
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace, load_space
from mnas.study.analysis import LEAST, features, importance
from mnas.study.trial import Trial


def trials(space: SearchSpace, count: int, accuracy: Callable[[Architecture], float]) -> list[Trial]:
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(count)]
    return [Trial(number, "complete", arch, 1.0, accuracy(arch)) for number, arch in enumerate(archs)]


@pytest.mark.parametrize(("choice", "accuracy"), [
    ("resolution", lambda arch: arch.resolution / 100),
    ("stage2.depth", lambda arch: len(arch.stages[1]) / 4),
    ("stage2.kernel", lambda arch: sum(block.kernel for block in arch.stages[1]) / len(arch.stages[1]) / 10),
    ("stage3.activation", lambda arch: sum(b.activation == "relu" for b in arch.stages[2]) / len(arch.stages[2]) / 2),
])  # fmt: skip
def test_what_decides_is_found(tiny: Path, choice: str, accuracy: Callable[[Architecture], float]) -> None:
    space = load_space(tiny)
    found = importance(space, trials(space, 40, accuracy), seed=0)
    assert next(iter(found)) == choice
    assert found[choice] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found == importance(space, trials(space, 40, accuracy), seed=0)


def test_of_too_little_nothing_is_said(tiny: Path) -> None:
    space = load_space(tiny)
    assert importance(space, trials(space, LEAST - 1, lambda arch: arch.resolution / 100), 0) == {}
    assert importance(space, trials(space, 40, lambda arch: 0.5), 0) == {}
    assert importance(space, trials(space, 1, lambda arch: 0.5) * 40, 0) == {}
    cut = [Trial(n, "pruned", t.architecture, 1.0, n / 50) for n, t in enumerate(trials(space, 40, lambda arch: 0.5))]
    assert importance(space, cut, 0) == {}


@pytest.mark.parametrize("name", preset_names("search_spaces"))
def test_every_choice_of_every_space_is_a_number(name: str) -> None:
    space, rng = load_space(name), random.Random(1)
    stages = {"resolution", "width", *(f"stage{n}" for n in range(1, len(space.file.stages) + 1))}
    for _ in range(20):
        arch = space.sample(rng)
        assert {feature.partition(".")[0] for feature in features(space, arch)} <= stages
