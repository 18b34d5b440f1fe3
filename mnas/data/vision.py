"""The data sets of torchvision that are arrays in memory."""

from __future__ import annotations

import importlib
import inspect
from functools import cache
from typing import Any

import numpy as np

from mnas.data.reading import AS_USUAL, Reading
from mnas.data.splits import ArraySplit, SourceSplits
from mnas.errors import BadInput, MissingDependency, nearest
from mnas.io.files import user_cache

MIRRORED_KEEPS_CLASS = {
    "CIFAR10": True, "CIFAR100": True, "FashionMNIST": True, "STL10": True,
    "KMNIST": False, "MNIST": False, "SVHN": False, "USPS": False,
}  # fmt: skip
"""Name of each data set -> whether a mirrored image keeps its class."""


def open_torchvision(name: str, reading: Reading = AS_USUAL) -> SourceSplits[ArraySplit]:
    """Open a data set, downloaded into the user's cache where missing; its test part is opened on first use.

    Raises BadInput, MissingDependency.
    """
    if name not in MIRRORED_KEEPS_CLASS:
        raise BadInput(
            f"torchvision:{name} is not supported{nearest(name, MIRRORED_KEEPS_CLASS)}; "
            "save other data sets as a folder of class folders."
        )
    try:
        make = getattr(importlib.import_module("torchvision.datasets"), name)
    except (ImportError, RuntimeError) as error:  # a build for another torch fails with RuntimeError
        raise MissingDependency(
            f"torchvision:{name} needs torchvision, which cannot be imported ({error}): pip install torchvision"
        ) from error
    home = user_cache("torchvision")

    @cache
    def part(train: bool) -> Any:
        kind = (
            {"train": train}
            if "train" in inspect.signature(make).parameters
            else {"split": "train" if train else "test"}
        )
        try:
            return make(root=str(home), download=True, **kind)
        except (OSError, RuntimeError) as error:
            raise BadInput(f"torchvision:{name} could not be downloaded into {home} ({error}).") from error

    def split(train: bool) -> ArraySplit:
        return ArraySplit(lambda: _pixels(part(train).data), lambda: _labels(part(train)), reading=reading)

    train = split(True)
    classes = getattr(part(True), "classes", None) or range(int(train.labels.max()) + 1)
    return SourceSplits(tuple(map(str, classes)), train, test=split(False))


def _pixels(data: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    images = np.array(data, dtype=np.uint8)
    if images.ndim == 4 and images.shape[1] == 3 and images.shape[3] != 3:
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return images


def _labels(dataset: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(dataset.targets if hasattr(dataset, "targets") else dataset.labels, dtype=np.int64)
