"""The training loop learns, repeats itself, and says when it cannot go on."""

from __future__ import annotations

import math

import pytest
import torch
from trainers import trainer

import mnas
from mnas.config import Recipe
from mnas.data.augment import normalise
from mnas.data.sources import load_data
from mnas.data.splits import limited
from mnas.estimators import Pruned
from mnas.estimators.train import TrainEstimator
from mnas.training.device import pick_device
from mnas.training.loop import Diverged, Epoch, Setting, accuracy, fit, recalibrate
from mnas.training.precision import training_pass
from mnas.training.recipe import augments_trivially, lengthened, lr_at, optimizer, peak_lr, prolonged

CPU = torch.device("cpu")
DIGITS = load_data("digits")
SMALL = mnas.zoo.get("mobilenet_v3_small", width=0.5, resolution=32)


def trained(recipe: Recipe, seed: int = 0) -> tuple[mnas.Network, list[Epoch]]:
    torch.manual_seed(seed)
    network = mnas.build(SMALL, 10)
    return network, list(fit(network, DIGITS.train, recipe, Setting(32, CPU, seed, 10)))


def test_it_learns() -> None:
    network, epochs = trained(Recipe(epochs=6, batch_size=32, dropout=0.0))
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1].loss < epochs[0].loss / 2
    assert epochs[-1].lr < 1e-9
    assert accuracy(network, DIGITS.val, size=32, device=CPU) > 0.85


def test_the_same_seed_gives_the_same_network() -> None:
    recipe = Recipe(epochs=1, batch_size=64)
    (first, a), (second, b), (other, _) = trained(recipe), trained(recipe), trained(recipe, seed=1)
    assert a[0].loss == b[0].loss
    assert all(torch.equal(x, y) for x, y in zip(first.parameters(), second.parameters(), strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(first.parameters(), other.parameters(), strict=True))


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(Diverged, match=r"epoch 1: .*--set recipe\.lr="):
        network = mnas.build(SMALL, 10)
        torch.nn.init.constant_(network.classifier.weight, math.nan)
        list(fit(network, DIGITS.train, Recipe(epochs=1), Setting(32, CPU, 0, 10)))


def test_learning_rate() -> None:
    recipe = Recipe(lr=0.2, batch_size=64, warmup=0.2)
    assert peak_lr(recipe) == 0.1
    assert [lr_at(part, recipe) for part in (0.0, 0.1, 0.2)] == pytest.approx([0.0, 0.05, 0.1])
    assert lr_at(0.6, recipe) == pytest.approx(0.05)
    assert lr_at(1.0, recipe) == pytest.approx(0.0)
    assert lr_at(0.0, Recipe(warmup=0.0)) == peak_lr(Recipe())


def test_biases_and_norms_are_not_decayed() -> None:
    network = mnas.build(SMALL, 10)
    decayed, others = optimizer(network, Recipe()).param_groups
    assert decayed["weight_decay"] > 0 == others["weight_decay"]
    assert all(p.ndim > 1 for p in decayed["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize("size", [32, 96])
def test_the_fused_optimizer_steps_as_pytorchs_plain_one(size: int) -> None:
    """Weights and gradients are walked through in memory order, so both must have one layout."""
    stepped = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = mnas.build(SMALL, 10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optim = optimizer(network, Recipe())
        for group in optim.param_groups:
            assert group["fused"]
            group["fused"] = fused
        x = torch.randn(8, 3, size, size)
        for _ in range(3):
            optim.zero_grad()
            with training_pass(CPU, "float32", size):
                network(x).square().mean().backward()
            optim.step()
        stepped.append(dict(network.named_parameters()))
    for name, weight in stepped[0].items():
        torch.testing.assert_close(weight, stepped[1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_accuracy_counts_rightly() -> None:
    class Always(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.full((len(x),), 3), 10).float()

    assert accuracy(Always(), DIGITS.test, size=8, device=CPU) == pytest.approx((DIGITS.test.labels == 3).mean())


def test_recalibrated_statistics_are_the_means() -> None:
    norm = torch.nn.BatchNorm2d(3)
    count = len(DIGITS.train)
    recalibrate(torch.nn.Sequential(norm), DIGITS.train, images=count, size=8, device=CPU, batch_size=count)
    x = normalise(DIGITS.train.fetch(range(count), 8), 8)
    assert torch.allclose(norm.running_mean, x.mean((0, 2, 3)), atol=1e-3)  # type: ignore[arg-type]
    assert torch.allclose(norm.running_var, x.var((0, 2, 3)), rtol=1e-3)  # type: ignore[arg-type]
    assert norm.momentum == 0.1


def test_estimates_repeat_and_report() -> None:
    recipe = Recipe(epochs=2, batch_size=32, images=300, dropout=0.0)
    estimator = TrainEstimator(trainer(DIGITS, 32), recipe)
    seen: list[tuple[int, float]] = []
    first = estimator(SMALL, lambda step, value: seen.append((step, value)))
    assert [step for step, _ in seen] == [1, 2]
    assert first == seen[-1][1]
    assert estimator(SMALL, lambda step, value: None) == first


def test_a_pruned_estimate_ends_at_once() -> None:
    steps = []

    def report(step: int, value: float) -> None:
        steps.append(step)
        raise Pruned

    recipe = Recipe(epochs=5, batch_size=32, images=100)
    with pytest.raises(Pruned):
        TrainEstimator(trainer(DIGITS, 32), recipe)(SMALL, report)
    assert steps == [1]


def test_limited_keeps_every_class() -> None:
    part = limited(DIGITS.train, 100, 0)
    assert 90 <= len(part) <= 110
    assert set(part.labels) == set(range(10))
    assert limited(DIGITS.train, None, 0) is DIGITS.train
    assert limited(DIGITS.train, 10_000, 0) is DIGITS.train


def test_devices() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(mnas.BadInput, match=r"--device cuda: .*cpu"):
            pick_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_trains_in_bfloat16() -> None:
    device = torch.device("cuda")
    network = mnas.build(SMALL, 10)
    seen = set()
    network.classifier.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    list(fit(network, DIGITS.train, Recipe(epochs=2), Setting(32, device, 0, 10)))
    assert seen == {torch.bfloat16}
    assert accuracy(network, DIGITS.val, size=32, device=device) > 0.1


@pytest.mark.parametrize(("images", "recipe", "epochs"), [
    (640, Recipe(batch_size=64, min_steps=1000), 100), (64_000, Recipe(batch_size=64, min_steps=1000), 30),
    (10, Recipe(batch_size=64, min_steps=100), 100), (640, Recipe(epochs=2, batch_size=64, min_steps=1000), 2),
    (640, Recipe(batch_size=64, min_steps=1000, images=128), 500), (640, Recipe(min_steps=0), 30),
])  # fmt: skip
def test_few_images_are_seen_for_more_epochs(images: int, recipe: Recipe, epochs: int) -> None:
    assert lengthened(recipe, images).epochs == epochs


@pytest.mark.parametrize(("images", "recipe", "epochs"), [
    (640, Recipe(), (300, 1000)), (64_000, Recipe(), (30, 100)), (64_000, Recipe(max_epochs=200), (30, 200)),
    (640, Recipe(epochs=2), (2, 2)), (640, Recipe(epochs=2, max_epochs=9), (2, 9)),
    (640, Recipe(min_steps=20_000), (2000, 2000)),
])  # fmt: skip
def test_what_a_time_budget_may_prolong(images: int, recipe: Recipe, epochs: tuple[int, int]) -> None:
    longer = prolonged(recipe, images)
    assert (longer.epochs, longer.max_epochs) == epochs


@pytest.mark.parametrize(("recipe", "expected"), [
    (Recipe(), False), (Recipe(epochs=60), True), (Recipe(epochs=60, trivial_augment=False), False),
    (Recipe(epochs=1, trivial_augment=True), True),
])  # fmt: skip
def test_trivial_augment_is_for_long_trainings(recipe: Recipe, expected: bool) -> None:
    assert augments_trivially(recipe) == expected
