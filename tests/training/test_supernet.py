"""A supernet's training: its steps, its losses, its average, and how it goes on after a kill."""

from __future__ import annotations

import copy
import itertools
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import KINDS, damage
from PIL import Image
from torch import Tensor
from trainers import trainer

from mnas.config import SupernetRecipe
from mnas.data import loader
from mnas.data.images import BrokenImages
from mnas.data.sources import load_data
from mnas.data.splits import ArraySplit, FolderSplit, Split
from mnas.errors import BadInput
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.space import SearchSpace, load_space
from mnas.training import supernet as supernet_training
from mnas.training.loop import accuracy, recalibrate
from mnas.training.sandwich import sandwich
from mnas.training.supernet import Interval, SupernetTraining

CPU = torch.device("cpu")
DIGITS = load_data("digits")
FEW = DIGITS.train.subset(np.arange(100))
RECIPE = SupernetRecipe(epochs=2, batch_size=16, lr=0.1, subnets=1, dropout=0.2)
"""On FEW 2 epochs of 6 steps."""


@pytest.fixture
def space(tiny: Path) -> SearchSpace:
    return load_space(tiny)


def two_sizes(arch: Architecture) -> int:
    return arch.resolution // 4


def training(
    space: SearchSpace, recipe: SupernetRecipe = RECIPE, split: Split = FEW, *, seed: int = 0, weights: int = 0,
    size: int | None = None, checkpoint: Path | None = None,
    kind: type[SupernetTraining] = SupernetTraining,
) -> SupernetTraining:  # fmt: skip
    """A training whose supernet begins with the weights of the seed `weights`."""
    torch.manual_seed(weights)
    return kind(
        Supernet(space, 10), recipe, trainer(DIGITS, size or two_sizes, train=split, seed=seed), checkpoint=checkpoint
    )


def shown(intervals: list[Interval]) -> list[tuple[int, dict[str, float], float]]:
    """What repeats of them: all but the speed."""
    return [(interval.step, interval.losses, interval.lr) for interval in intervals]


def assert_same_weights(one: SupernetTraining, other: SupernetTraining) -> None:
    theirs = other.supernet.state_dict()
    differ = [name for name, tensor in one.supernet.state_dict().items() if not torch.equal(tensor, theirs[name])]
    assert not differ


# --- the order of the images


class Reading(SupernetTraining):
    """Learns nothing, and notes which images its steps are given."""

    def _train_step(self, raw: Tensor, labels: Tensor) -> Tensor:
        self.seen = [*getattr(self, "seen", []), raw[:, 0, 0, 0].tolist()]
        self.step += 1
        return torch.ones(3)


def read(space: SearchSpace, count: int, seed: int = 0, epochs: int = 2) -> list[list[int]]:
    """The images of each step, of a split of `count` different ones."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    split = ArraySplit(pixels, np.arange(count) % 10)
    reading = training(space, RECIPE.model_copy(update={"epochs": epochs}), split, kind=Reading, seed=seed)
    for _ in reading.run():
        pass
    assert isinstance(reading, Reading) and len(reading.seen) == reading.steps
    return reading.seen


def test_each_epoch_has_each_image_once_in_a_new_order(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = read(space, 100)
    assert [len(step) for step in seen] == 12 * [16]
    epochs = [list(itertools.chain(*seen[:6])), list(itertools.chain(*seen[6:]))]
    assert epochs[0] != epochs[1] and all(len(set(epoch)) == 96 for epoch in epochs)
    assert read(space, 100, seed=1) != seen
    for interval in (5, 7):
        monkeypatch.setattr(supernet_training, "INTERVAL", interval)
        assert read(space, 100) == seen


def test_fewer_images_than_a_batch_are_one_step(space: SearchSpace) -> None:
    seen = read(space, 7, epochs=3)
    assert [sorted(step) for step in seen] == 3 * [[0, 1, 2, 3, 4, 5, 6]]


# --- the networks of a step


def test_subnets(space: SearchSpace) -> None:
    recipe = RECIPE.model_copy(update={"subnets": 3})
    one, twin, other = training(space, recipe), training(space, recipe, weights=1), training(space, recipe, seed=1)
    madds = [cost(arch).madds for arch in space.enumerate()]
    drawn = set()
    for step in range(4):
        largest, *between, smallest = one.subnets(step)
        assert (cost(largest).madds, cost(smallest).madds) == (max(madds), min(madds))
        assert len(between) == 3 and all(arch in space for arch in between)
        assert twin.subnets(step) == one.subnets(step) != other.subnets(step)
        drawn.add(tuple(between))
    assert len(drawn) == 4


# --- the losses of a step


def step_of(space: SearchSpace, seed: int = 0) -> tuple[dict[int, Tensor], Tensor, list[tuple[Architecture, int]]]:
    """Images, labels and the largest, two random and the smallest subnet, in float64."""
    draw = torch.Generator().manual_seed(seed)
    images = {size: torch.randn(6, 3, size, size, generator=draw, dtype=torch.float64) for size in (8, 12)}
    archs = training(space, RECIPE.model_copy(update={"subnets": 2})).subnets(seed)
    assert {two_sizes(arch) for arch in archs} == {8, 12}
    return images, torch.tensor([0, 3, 3, 9, 1, 5]), [(arch, two_sizes(arch)) for arch in archs]


def fresh(space: SearchSpace) -> Supernet:
    torch.manual_seed(0)
    made = Supernet(space, 10).train().double()
    torch.nn.init.normal_(made.get_parameter("head.3.linear.weight"), std=30)  # far from uniform
    return made


def plain_recipe(**changes: float) -> SupernetRecipe:
    return RECIPE.model_copy(update={"dropout": 0.0} | changes)


@pytest.mark.parametrize("distillation", [0.0, 0.3, 1.0])
def test_losses_and_gradients_are_those_by_hand(space: SearchSpace, distillation: float) -> None:
    images, labels, subnets = step_of(space)
    given = fresh(space)
    supernet = copy.deepcopy(given)
    losses = []
    for loss in sandwich(given, plain_recipe(distillation=distillation, label_smoothing=0.2), images, labels, subnets):
        loss.backward()  # before the next: its graph is not needed any more
        losses.append(loss.detach())

    truth = torch.eye(10, dtype=torch.float64)[labels]
    (largest, size), *others = subnets
    logits = supernet(images[size], largest).float()
    expected = [-((0.8 * truth + 0.2 / 10) * logits.log_softmax(1)).sum(1).mean()]
    expected[0].backward()
    # numbers alone from here on: nothing that the others learn can reach the largest's part of the graph
    taught = torch.from_numpy(logits.softmax(1).detach().numpy().copy()) * distillation + truth * (1 - distillation)
    for arch, size in others:
        expected.append(-(taught * supernet(images[size], arch).float().log_softmax(1)).sum(1).mean())
        expected[-1].backward()

    by_hand_losses = torch.stack([loss.double() for loss in expected])
    torch.testing.assert_close(torch.stack(losses).double(), by_hand_losses, atol=1e-6, rtol=0)
    for (name, found), by_hand in zip(given.named_parameters(), supernet.parameters(), strict=True):
        assert (found.grad is None) == (by_hand.grad is None), name
        if found.grad is not None:
            torch.testing.assert_close(found.grad, by_hand.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_one_graph_at_a_time_is_as_all_at_once(space: SearchSpace) -> None:
    """Losses, gradients and batch normalisation's statistics are those of the graphs of all subnets in one backward."""
    images, labels, subnets = step_of(space)
    recipe = plain_recipe(distillation=0.5)
    together, apart = fresh(space), fresh(space)
    all_losses = torch.stack(list(sandwich(together, recipe, images, labels, subnets)))
    all_losses.sum().backward()
    losses = []
    for loss in sandwich(apart, recipe, images, labels, subnets):
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(torch.stack(losses), all_losses.detach())
    gradients = [[p.grad for p in one.parameters() if p.grad is not None] for one in (apart, together)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    statistics = [dict(one.named_buffers()) for one in (apart, together)]
    assert any(name.endswith("running_var") for name in statistics[0])
    torch.testing.assert_close(*statistics)


def test_the_largest_alone_is_regularised(space: SearchSpace) -> None:
    images, labels, subnets = step_of(space)

    def losses(seed: int, **recipe: float) -> Tensor:
        given = fresh(space)
        torch.manual_seed(seed)
        recipe_of = plain_recipe(distillation=0.0, **recipe)
        return torch.stack([loss.detach() for loss in sandwich(given, recipe_of, images, labels, subnets)])

    plain = losses(0, label_smoothing=0.0)
    for found in (losses(0, label_smoothing=0.5), losses(0, dropout=0.5), losses(1, dropout=0.5)):
        assert torch.equal(found[1:], plain[1:])
        assert abs(found[0] - plain[0]) > 0.01
    assert losses(0, dropout=0.5)[0] != losses(1, dropout=0.5)[0]


# --- the average


class Remembering(SupernetTraining):
    """Keeps the weights of every step."""

    def _train_step(self, raw: Tensor, labels: Tensor) -> Tensor:
        losses = super()._train_step(raw, labels)
        weights = [parameter.detach().clone() for parameter in self.supernet.parameters()]
        self.history = [*getattr(self, "history", []), weights]
        self.buffers = [buffer.clone() for buffer in self.supernet.buffers()]
        return losses


def test_the_trained_supernet_has_the_moving_average(space: SearchSpace) -> None:
    trained = training(space, RECIPE.model_copy(update={"ema": 0.5}), kind=Remembering)
    assert isinstance(trained, Remembering)
    list(trained.run())
    average, *later = trained.history
    for seen, weights in enumerate(later, start=1):
        keep = min(0.5, (1 + seen) / (10 + seen))  # 0.5 from the 8th on
        average = [keep * a + (1 - keep) * w for a, w in zip(average, weights, strict=True)]
    for name, found in trained.supernet.named_parameters():
        torch.testing.assert_close(found.detach(), average.pop(0), atol=1e-6, rtol=1e-5, msg=name)
    assert all(torch.equal(x, y) for x, y in zip(trained.supernet.buffers(), trained.buffers, strict=True))
    last = zip(trained.supernet.parameters(), trained.history[-1], strict=True)
    assert not all(torch.equal(x, y) for x, y in last)


# --- after a kill


def test_a_killed_training_goes_on_exactly(space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernet_training, "INTERVAL", 5)
    unbroken = training(space)
    expected = list(unbroken.run())
    assert [interval.step for interval in expected] == [5, 10, 12]

    seen: list[Interval] = []
    for kill in range(3):  # in the first epoch, in the second, and after the last step
        part = training(space, weights=kill, checkpoint=tmp_path / "supernet.pt")
        torch.manual_seed(kill)
        random.seed(kill)
        seen.append(next(part.run()))
        part.save()
    last = training(space, weights=3, checkpoint=tmp_path / "supernet.pt")
    assert list(last.run()) == []
    assert shown(seen) == shown(expected)
    assert_same_weights(last, unbroken)


def test_what_other_code_draws_does_not_matter(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernet_training, "INTERVAL", 3)
    recipe = RECIPE.model_copy(update={"epochs": 1})
    alone, beside, other = training(space, recipe), training(space, recipe), training(space, recipe, seed=1)
    seen = []
    for interval in beside.run():
        torch.rand(7), random.random(), np.random.default_rng().random()
        seen.append(interval)
    assert shown(seen) == shown(list(alone.run())) != shown(list(other.run()))
    assert_same_weights(beside, alone)


@pytest.mark.parametrize("pause_s", [0.0, 1e6])
def test_checkpoints_are_written_at_intervals_and_not_too_often(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    monkeypatch.setattr(supernet_training, "INTERVAL", 2)
    monkeypatch.setattr(supernet_training, "CHECKPOINT_S", pause_s)
    checkpoint = tmp_path / "supernet.pt"
    running = training(space, checkpoint=checkpoint).run()
    for step in (2, 4):
        next(running)
        written = torch.load(checkpoint)["step"] if checkpoint.exists() else None
        assert written == (None if pause_s else step)


def other_checkpoint(kind: str, space: SearchSpace, path: Path) -> str:
    """Writes another checkpoint than RECIPE's on `space`; what the error should say of it."""
    recipe = RECIPE.model_copy(update={"epochs": 3}) if kind == "steps" else RECIPE
    other = space.file.model_copy(update={"stem": space.file.stem.model_copy(update={"channels": 16})})
    training(SearchSpace(other) if kind == "space" else space, recipe, checkpoint=path).save()
    if kind == "key":
        torch.save({"step": 0, "steps": 12}, path)
    if kind == "steps":
        return "18 steps, expected 12"
    return "of another training"


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    kind: str, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supernet_training, "INTERVAL", 2)
    monkeypatch.setattr(supernet_training, "CHECKPOINT_S", 0.0)
    path = tmp_path / "supernet.pt"
    running = training(space, checkpoint=path).run()
    for _ in (2, 4):
        next(running)
    damage(path, kind)
    with caplog.at_level(logging.INFO, "mnas"):
        assert next(training(space, checkpoint=path).run()).step == (6 if kind == "last byte lost" else 4)
    assert kind == "last byte lost" or f"{path}: damaged" in caplog.text


@pytest.mark.parametrize("kind", ["steps", "space", "key"])
def test_a_checkpoint_of_something_else(space: SearchSpace, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "supernet.pt"
    expected = other_checkpoint(kind, space, path)
    with pytest.raises(BadInput, match=rf"^{path}: .*{expected}"):
        next(training(space, checkpoint=path).run())


# --- what comes of it


def test_it_learns(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernet_training, "INTERVAL", 17)
    recipe = SupernetRecipe(epochs=3, batch_size=64, lr=1.0, subnets=1, distillation=0.0)
    learned = training(space, recipe, DIGITS.train, size=8)
    *_, last = learned.run()
    assert last.step == last.steps == 51
    assert max(last.losses.values()) < 1.9 < np.log(10)
    for arch in (*learned.subnets(0), space.sample(random.Random(2))):
        network = learned.supernet.extract(arch)
        recalibrate(network, DIGITS.train, images=256, size=8, device=CPU)
        assert accuracy(network, DIGITS.val, size=8, device=CPU) > 0.4


@pytest.mark.parametrize("workers", [0, 2])
def test_images_from_files_give_the_same_steps(
    space: SearchSpace, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "default_workers", lambda: workers)
    images, labels = FEW.fetch(range(40), 8).permute(0, 2, 3, 1).numpy(), FEW.labels[:40]
    paths = [str(tmp_path / f"{i}.png") for i in range(40)]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    streamed = training(space, RECIPE, FolderSplit(paths, labels, BrokenImages(0)), size=8)
    indexed = training(space, RECIPE, ArraySplit(images, labels), size=8)
    assert shown(list(streamed.run())) == shown(list(indexed.run()))
    assert_same_weights(streamed, indexed)
