"""Accuracies of candidates: what they are, what they may read, what they cost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_search import TINY_SPACE
from torch import nn
from trainers import trainer

from mnas.config import Recipe
from mnas.data.sources import ImageData, load_data
from mnas.data.splits import ArraySplit, limited
from mnas.estimators import Report, make_estimate, never
from mnas.estimators import supernet as module
from mnas.estimators.supernet import SupernetEstimator
from mnas.estimators.train import TrainEstimator
from mnas.io.strict_yaml import parse_yaml, validate
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace
from mnas.training.loop import accuracy, recalibrate

CPU = torch.device("cpu")
SPACE = SearchSpace(validate(SpaceFile, parse_yaml(TINY_SPACE, "tiny"), "tiny")).with_resolutions((32,))
ARCHS = [SPACE.sample(random.Random(i)) for i in range(3)]
SHORT = Recipe(epochs=1, batch_size=32, lr=0.1, dropout=0.1, images=96)
read: list[str] = []
"""The splits that images were fetched of, in order."""


class Watched(ArraySplit):
    """Digits that note each fetch."""

    def __init__(self, name: str, *arrays: Any):
        super().__init__(*arrays)
        self.name = name

    def subset(self, rows: Any) -> Watched:
        return Watched(self.name, self.images, self._labels, rows if self.rows is None else self.rows[rows])

    def fetch(self, indices: Any, size: int) -> torch.Tensor:
        read.append(self.name)
        return super().fetch(indices, size)


@pytest.fixture(scope="module")
def data() -> ImageData:
    digits, parts = load_data("digits"), {}
    for name, count in (("train", 256), ("val", 100), ("test", 100)):
        part = limited(getattr(digits, name), count, 0)
        assert isinstance(part, ArraySplit)
        parts[name] = Watched(name, part.images, part._labels, part.rows)
    return replace(digits, **parts)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet(SPACE, 10)


@pytest.fixture(autouse=True)
def nothing_read() -> None:
    read.clear()


def judge(
    supernet: Supernet, data: ImageData, finetune: Recipe | None = SHORT, *, seed: int = 0, select: bool = False
) -> SupernetEstimator:
    return SupernetEstimator(supernet, trainer(data, 16, seed=seed), finetune, select=select)


def no_report(step: int, accuracy: float) -> None:
    raise AssertionError("nothing to report")


def state(supernet: Supernet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in supernet.state_dict().items()}


# --- of a supernet


def test_an_estimate_depends_on_its_architecture_and_the_seed_alone(supernet: Supernet, data: ImageData) -> None:
    first = judge(supernet, data)
    grades = {arch: (first.inherited(arch), first.fine_tuned(arch)) for arch in ARCHS}
    torch.manual_seed(99)
    random.seed(99)
    second = judge(supernet, data)
    again = {arch: (second.fine_tuned(arch), second.inherited(arch)) for arch in reversed(ARCHS)}
    assert {arch: (inherited, tuned) for arch, (tuned, inherited) in again.items()} == grades
    assert len(set(grades.values())) > 1


def test_the_seed_draws_the_images_of_fine_tuning(supernet: Supernet, data: ImageData) -> None:
    assert any(judge(supernet, data, seed=1).fine_tuned(arch) != judge(supernet, data).fine_tuned(arch) for arch in ARCHS)  # noqa: E501


def test_the_first_grade_is_the_extracted_network_with_statistics_of_its_own(
    supernet: Supernet, data: ImageData
) -> None:
    network = supernet.extract(ARCHS[0])
    shared = accuracy(network, data.val, size=16, device=CPU)
    recalibrate(network, data.train, images=len(data.train), size=16, device=CPU)
    own = accuracy(network, data.val, size=16, device=CPU)
    assert judge(supernet, data, None).inherited(ARCHS[0]) == own != shared


def test_the_second_grade_learns(supernet: Supernet, data: ImageData) -> None:
    longer = judge(supernet, data, SHORT.model_copy(update={"epochs": 8, "lr": 1.0, "images": None}))
    assert longer.fine_tuned(ARCHS[0]) > longer.inherited(ARCHS[0]) + 0.1


@pytest.fixture
def statistics_of() -> Iterator[list[str]]:
    """The split that each batch was of whose statistics a batch normalisation took."""
    seen: list[str] = []

    def note(layer: nn.Module, inputs: Any) -> None:
        if isinstance(layer, nn.BatchNorm2d) and layer.training:
            seen.append(read[-1])

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    yield seen
    hook.remove()


@pytest.mark.parametrize("grade", ["inherited", "fine_tuned"])
def test_statistics_are_of_training_images_alone(
    supernet: Supernet, data: ImageData, grade: str, statistics_of: list[str]
) -> None:
    getattr(judge(supernet, data), grade)(ARCHS[0])
    assert set(statistics_of) == {"train"}
    assert set(read) == {"train", "val"}
    assert read == sorted(read), "validated once, at the end"


def test_calibration_reads_no_more_images_than_it_should(
    supernet: Supernet, data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STATISTICS_IMAGES", 64)
    judge(supernet, data).inherited(ARCHS[0])
    assert read.count("train") == 1, "one batch of 64"


def test_an_architecture_is_judged_once(supernet: Supernet, data: ImageData) -> None:
    estimator = judge(supernet, data)
    first = estimator.inherited(ARCHS[0]), estimator.fine_tuned(ARCHS[0])
    read.clear()
    assert (estimator.inherited(ARCHS[0]), estimator.fine_tuned(ARCHS[0])) == first
    assert not read
    estimator.inherited(ARCHS[1])
    assert read


def test_the_supernet_is_left_as_it_was(supernet: Supernet, data: ImageData) -> None:
    before, modes = state(supernet), [module.training for module in supernet.modules()]
    estimator = judge(supernet, data)
    estimator.inherited(ARCHS[0])
    estimator.fine_tuned(ARCHS[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert [module.training for module in supernet.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in supernet.parameters())


class Reports:
    """What was reported, and whether that ended the estimate."""

    def __init__(self, prune: bool = False):
        self.prune, self.seen = prune, list[tuple[int, float]]()

    def __call__(self, step: int, accuracy: float) -> bool:
        self.seen.append((step, accuracy))
        return self.prune


def test_with_select_the_first_grade_is_told_before_the_second_is_paid(supernet: Supernet, data: ImageData) -> None:
    plain = judge(supernet, data)
    inherited, tuned = plain.inherited(ARCHS[0]), plain.fine_tuned(ARCHS[0])
    reports = Reports()
    estimate = make_estimate(judge(supernet, data, select=True), ARCHS[0], reports)
    assert reports.seen == [(0, inherited)]
    assert (estimate.state, estimate.accuracy, estimate.fidelity) == ("complete", tuned, "fine-tuned")
    assert estimate.curve == (inherited,)


def test_pruned_there_it_ends_with_the_first_grade(supernet: Supernet, data: ImageData) -> None:
    inherited = judge(supernet, data).inherited(ARCHS[0])
    read.clear()
    estimate = make_estimate(judge(supernet, data, select=True), ARCHS[0], Reports(prune=True))
    assert (estimate.state, estimate.accuracy, estimate.fidelity) == ("pruned", inherited, "inherited")
    assert read.count("train") == len(data.train) // 64, "calibrated, not trained"


def test_without_select_or_fine_tuning_nothing_is_reported(supernet: Supernet, data: ImageData) -> None:
    tuned, inherited = judge(supernet, data), judge(supernet, data, None, select=True)
    assert tuned(ARCHS[0], no_report) == tuned.fine_tuned(ARCHS[0])
    assert tuned.fidelity == "fine-tuned"
    assert inherited(ARCHS[0], no_report) == tuned.inherited(ARCHS[0])
    assert inherited.fidelity == "inherited"


def test_fine_tuning_that_diverges_fails_alone(supernet: Supernet, data: ImageData) -> None:
    wild = judge(supernet, data, SHORT.model_copy(update={"lr": 1e30, "clip_norm": 1e30, "warmup": 0.0}))
    before = state(supernet)
    estimate = make_estimate(wild, ARCHS[0], never)
    assert (estimate.state, estimate.accuracy, estimate.fidelity) == ("failed", None, "fine-tuned")
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert wild.inherited(ARCHS[0]) == judge(supernet, data).inherited(ARCHS[0])


# --- by a short training, and what any estimate becomes


def test_a_short_training_tells_each_epoch(data: ImageData) -> None:
    estimator = TrainEstimator(trainer(data, 16), SHORT.model_copy(update={"epochs": 3}))
    reports = Reports()
    estimate = make_estimate(estimator, ARCHS[0], reports)
    assert [step for step, _ in reports.seen] == [1, 2, 3]
    assert (estimate.state, estimate.fidelity) == ("complete", "trained")
    assert estimate.curve == tuple(reached for _, reached in reports.seen)
    assert "test" not in read


class Given:
    """An estimator that reports and gives what it was told to."""

    fidelity = "given"
    images: int | None = None

    def __init__(self, reported: Sequence[float], value: float):
        self.reported, self.value = reported, value

    def __call__(self, arch: Architecture, report: Report) -> float:
        for step, reached in enumerate(self.reported, start=1):
            report(step, reached)
        return self.value


def test_an_estimate_ends_where_it_is_pruned() -> None:
    estimate = make_estimate(Given([0.1, 0.2, 0.3], 0.9), ARCHS[0], lambda step, reached: step == 2)
    assert (estimate.state, estimate.accuracy, estimate.curve) == ("pruned", 0.2, (0.1, 0.2))
    assert estimate.seconds >= 0
