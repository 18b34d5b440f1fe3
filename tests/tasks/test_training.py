"""A training of a network with a head: it learns, resumes bit by bit, and is judged in the images' own pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_tasks import ARCH, HEADS, QUICK, SIZE, small_task, small_trainer
from torch import Tensor

import mnas
from mnas.config import Recipe
from mnas.data.dense.samples import MemorySplit
from mnas.errors import BadInput
from mnas.nn.origin import Origin
from mnas.tasks.dense import UNUSED, check_recipe
from mnas.training import full
from mnas.training.full import FullTraining
from mnas.training.loop import Setting, Training

CPU = torch.device("cpu")


def training(folder: Path, task: tuple[str, str], recipe: Recipe = QUICK, **given: Any) -> FullTraining:
    return FullTraining("one", ARCH, recipe, small_trainer(*task, **given), folder)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("task", HEADS)
def test_a_training_in_parts_is_the_training_in_one_go(
    task: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    whole, standing = training(tmp_path / "whole", task).finished()
    assert standing.epochs == 2 and standing.finished
    assert 0 <= standing.accuracy <= 1 and standing.value == standing.accuracy
    monkeypatch.setattr(full, "SAVE_S", 0.0)
    steps, step = [0], Training._train_step

    def dies(self: Training, *args: Any) -> Tensor:
        steps[0] += 1
        if steps[0] == 5:  # the second step of the second epoch
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "_train_step", dies)
        training(tmp_path / "killed", task).finished()
    saved = torch.load(training(tmp_path / "killed", task).file, weights_only=True)
    assert saved["training"]["step"] == 4
    again, continued = training(tmp_path / "killed", task).finished()
    assert same(again, whole)
    assert continued.accuracy == standing.accuracy


@pytest.mark.parametrize("task", HEADS)
def test_the_loss_falls(task: tuple[str, str]) -> None:
    trainer = small_trainer(*task)
    changes = {"segmentation": {"epochs": 6, "lr": 0.4}, "detection": {"epochs": 12, "lr": 2.0}}[task[0]]
    recipe = QUICK.model_copy(update=changes)
    arch = replace(ARCH, resolution=48)
    losses = [epoch.loss for epoch in trainer.fit(trainer.build(arch), arch, recipe)]
    assert losses[-1] < 0.9 * losses[0]


class Oracle(torch.nn.Module):
    """Scores of the right classes, in a smaller size, of images in which each colour is a class."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, :1, ::2, ::2] > 0
        return torch.nn.functional.interpolate(torch.cat([~bright, bright], 1).float(), x.shape[-2:])


def test_masks_are_judged_in_their_own_pixels() -> None:
    """Images of 20 x 10 px through a network for 32 x 32: halves stay halves, and all 200 pixels of each count."""
    mask = torch.zeros(10, 20, dtype=torch.int32)
    mask[:, 10:] = 1
    pixels = (255 * mask).to(torch.uint8).numpy()[..., None].repeat(3, 2)
    task = small_task("segmentation", "lraspp")
    resize = task.data.val._resize  # type: ignore[union-attr]
    split = MemorySplit(pixels[None].repeat(3, 0), [mask] * 3, resize)
    head = replace(task.head, num_classes=2)
    two = replace(task, head=head, data=replace(task.data, val=split, classes=("dark", "bright")))  # type: ignore[arg-type]
    place = mnas.tasks.task.Place(SIZE, CPU)
    scores = two.judge(Oracle(), "val", place, exact=True)
    assert scores.pixel_accuracy == 1 and scores.iou == (1, 1)  # type: ignore[union-attr]


def test_an_origin_fills_the_backbone() -> None:
    torch.manual_seed(5)
    source = mnas.build(ARCH, 10).eval()
    for task in HEADS:
        trainer = small_trainer(*task, origins=(Origin("source", ARCH, source),))
        network = trainer.build(ARCH)
        backbone = network.get_submodule("backbone")
        assert torch.equal(backbone.state_dict()["stem.conv.weight"], source.state_dict()["stem.conv.weight"])
        assert trainer.origin_of(ARCH) is not None


@pytest.mark.parametrize("task", HEADS)
def test_the_head_may_be_trained_first(task: tuple[str, str]) -> None:
    trainer, recipe = small_trainer(*task), QUICK.model_copy(update={"classifier_first": 0.6, "ema": 0.0})
    network = trainer.build(ARCH)
    stem = network.get_parameter("backbone.stem.conv.weight")
    before = stem.detach().clone()
    epochs = trainer.fit(network, ARCH, recipe)
    next(epochs)  # the first half
    assert torch.equal(stem, before)
    next(epochs)
    assert not torch.equal(stem, before)


@pytest.mark.parametrize("task", HEADS)
def test_images_without_any_object(task: tuple[str, str]) -> None:
    """Neither a batch of nothing but ignored pixels, nor one without boxes, spoils the weights."""
    found = small_task(*task)
    setting = Setting(SIZE, CPU, 0, found.head.num_classes)
    lessons = found.lessons(QUICK, setting)
    network = small_trainer(*task).build(ARCH).train()
    x = torch.zeros(2, 3, SIZE, SIZE)
    nothing = {
        "segmentation": torch.full((2, SIZE, SIZE), 255),
        "detection": [one.only(torch.zeros(len(one.labels), dtype=torch.bool)) for one in boxes(found)],
    }[task[0]]
    loss = lessons.loss(network, x, nothing)
    assert loss.item() == 0
    loss.backward()  # type: ignore[no-untyped-call]


def boxes(task: Any) -> list[Any]:
    return task.data.train.targets[:2] if task.name == "detection" else []


@pytest.mark.parametrize("key", UNUSED)
def test_what_a_task_has_no_use_for_is_refused(key: str) -> None:
    value = {"class_weights": "auto", "trivial_augment": True}.get(key, 0.2)
    with pytest.raises(BadInput, match=key):
        check_recipe(QUICK.model_copy(update={key: value}), "segmentation")
    check_recipe(QUICK, "segmentation")
