"""Others' networks for comparison, also beside a build of torch that torchvision's C++ operators don't fit."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

_ops: Any = torch.ops
_library: Any = torch.library.Library


def reference(name: str) -> ModuleType:
    """torchvision, timm or ofa, imported; skips the test where one is absent (they import torchvision)."""
    for needed in ("torchvision", name):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    _declare_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # what they say at import is no failure of ours
        return importlib.import_module(name)


def once_for_all() -> ModuleType:
    """The supernets of once-for-all's package `ofa`, which imports torchvision; skips the test where it is absent."""
    reference("ofa")
    return importlib.import_module("ofa.imagenet_classification.elastic_nn.networks")


@functools.cache
def _declare_operators() -> Any:
    """The operators that `import torchvision` speaks of, declared where its library does not load beside this torch.

    Its networks call none of them but nms. They last as long as the library object, so it is cached.
    """
    spec = importlib.util.find_spec("torchvision")
    assert spec
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    try:
        for path in folder.glob("_C.*"):
            _ops.load_library(path)
            return None
    except OSError:
        pass
    source = (folder / "_meta_registrations.py").read_text(encoding="utf-8")
    library = _library("torchvision", "DEF")
    for name in sorted(set(re.findall(r'register_(?:meta\("|fake\("torchvision::)(\w+)"\)', source))):
        if name != "nms":
            library.define(f"{name}(Tensor a, Tensor b) -> Tensor")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    return library


def _nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Indices of the boxes (n, 4) that are kept, best first: one by one, as the operator is defined."""
    kept: list[int] = []
    corners = boxes.double().numpy()
    for index in scores.argsort(descending=True, stable=True).tolist():
        one, others = corners[index], corners[kept]
        sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
        common = sides.clip(min=0).prod(1)
        areas = (one[2:] - one[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1)
        if not (common > threshold * (areas - common)).any():
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)
