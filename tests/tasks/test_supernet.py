"""What a supernet under a head learns: the task's loss of each of its subnets, at the size of each."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from dense_tasks import QUICK, small_task

from mnas.config import SupernetRecipe
from mnas.nn.dense_supernet import DenseSupernet
from mnas.space.space import load_space
from mnas.tasks.dense import RECIPE
from mnas.training.guard import ABSURD
from mnas.training.loop import Setting

SMALL, LARGE = 32, 64


@pytest.mark.parametrize(("name", "head"), [("segmentation", "lraspp"), ("detection", "ssdlite")])
def test_each_subnet_has_the_loss_of_its_network(name: str, head: str) -> None:
    task, space = small_task(name, head, size=LARGE), load_space("v3_small").with_resolutions((SMALL, LARGE))
    torch.manual_seed(0)
    supernet, rng = task.supernet(space, False).train(), random.Random(0)
    assert isinstance(supernet, DenseSupernet)
    setting = Setting(LARGE, torch.device("cpu"), 0, task.head.num_classes)
    lessons = task.supernet_lessons(SupernetRecipe(**RECIPE), setting)
    assert len(lessons) == task.images
    raw, known = next(iter(lessons.batches(np.arange(4), 4)))
    images, targets = lessons.augmented(raw, known, {SMALL, LARGE}, 0)
    subnets = [(space.sample(rng), size) for size in (LARGE, SMALL)]
    losses = list(lessons.losses(supernet, images, targets, subnets))
    alone = task.lessons(QUICK, setting)
    for (arch, size), loss in zip(subnets, losses, strict=True):
        expected = alone.loss(supernet.extract(arch), images[size], targets[size])
        torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
        assert 0.2 * lessons.guessing < float(loss.detach()) < ABSURD * lessons.guessing, "no collapse"


def test_windows_are_the_same_at_every_size() -> None:
    task = small_task("segmentation", "lraspp", size=LARGE)
    setting = Setting(LARGE, torch.device("cpu"), 0, task.head.num_classes)
    lessons = task.supernet_lessons(SupernetRecipe(**RECIPE), setting)
    raw, known = next(iter(lessons.batches(np.arange(8), 8)))
    _, masks = lessons.augmented(raw, known, {SMALL, LARGE}, 3)
    assert [masks[size].shape for size in (SMALL, LARGE)] == [(8, SMALL, SMALL), (8, LARGE, LARGE)]
    agree = (masks[LARGE][:, ::2, ::2] == masks[SMALL]).float().mean()
    assert agree > 0.93  # by the nearest pixel: borders differ
    _, others = lessons.augmented(raw, known, {SMALL}, 4)
    assert (others[SMALL] == masks[SMALL]).float().mean() < agree
