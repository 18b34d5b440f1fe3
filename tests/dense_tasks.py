"""Small tasks with a head, on the built-in shapes, and trainers for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from mnas.config import Recipe
from mnas.data.dense.samples import DenseData
from mnas.data.dense.sources import load_detection, load_segmentation
from mnas.space import zoo
from mnas.tasks.dense import RECIPE, drawn, prepared
from mnas.tasks.kinds import KINDS, DenseTasks
from mnas.training.sizes import FULL_SIZE
from mnas.training.trainer import Trainer

SIZE = 32
ARCH = zoo.get("mobilenet_v3_small", 0.35, SIZE)
HEADS = [("segmentation", "lraspp"), ("segmentation", "deeplabv3"), ("detection", "ssdlite")]
QUICK = Recipe(**{**RECIPE, "epochs": 2, "batch_size": 4})


def few(data: DenseData[Any], images: int) -> DenseData[Any]:
    """At most this number of images in each split."""
    parts = {name: drawn(getattr(data, name), images, 0) for name in ("train", "val", "test")}
    return replace(data, **parts)


def small_task(name: str, head: str, images: int = 12, size: int = SIZE) -> DenseTasks:
    data = {"segmentation": load_segmentation, "detection": load_detection}[name]("shapes")
    return KINDS[name].of(prepared(few(data, images), size), head)


def small_trainer(name: str, head: str, images: int = 12, **given: Any) -> Trainer:
    return Trainer(small_task(name, head, images), FULL_SIZE, torch.device("cpu"), 0, **given)
