"""What training needs to know of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnas.config import Recipe, SupernetRecipe
from mnas.data.common import Images
from mnas.io.size import Size
from mnas.nn.origin import Origin
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs
from mnas.space.space import SearchSpace
from mnas.training.lessons import Lessons, SupernetLessons

if TYPE_CHECKING:
    from mnas.training.loop import Setting

Part = Literal["train", "val", "test"]
"""A split of the data."""


class Place(NamedTuple):
    """Where a network is judged, and at which size."""

    size: Size
    """Of its input, in pixels."""
    device: torch.device


class Grade(NamedTuple):
    """How a network does on the search-validation split."""

    correct: NDArray[np.bool_]
    """Whether each image is right, (n,), where the figure is a mean over images; empty elsewhere."""
    weights: NDArray[np.float64] | None = None
    """Of each image, (n,), where they do not count alike; their mean is 1."""
    value: float | None = None
    """The figure (0..1) where it is no mean over images."""
    parts: NDArray[np.float64] | None = None
    """Its pseudo-values by groups of images, (groups,), then: see `mnas.metrics.jackknife`."""


class Task(Protocol):
    """Data in three splits, a head, a loss and a metric: all in which tasks differ."""

    @property
    def name(self) -> str:
        """Such as classification."""

    @property
    def figure(self) -> str:
        """The name of the value (0..1) by which networks are ranked: accuracy, miou, map."""

    @property
    def usual(self) -> Mapping[str, Any]:
        """The keys in which the default of its recipes differs from that of `mnas.config.Recipe`."""

    @property
    def probed(self) -> bool:
        """Whether a linear classifier on features from trained weights says how good a network becomes."""

    @property
    def data(self) -> Images:
        """The images."""

    @property
    def counted(self) -> int | None:
        """Search-validation images of which the figure is a share; None where it is none."""

    @property
    def outputs(self) -> Outputs:
        """What networks give: scores of so many classes for an image, or what a head gives."""

    @property
    def images(self) -> int:
        """In the training split."""

    def limited(self, *, train: int | None = None, val: int | None = None, seed: int) -> Task:
        """The same task on at most these numbers of images."""

    def build(self, arch: Architecture, dropout: float, origin: Origin | None) -> nn.Module:
        """A network for the data, with an origin's weights or fresh ones, by torch's generator."""

    def pixels(self, images: int, place: Place, seed: int) -> Tensor:
        """At most this number of training images in the size of the network's input, uint8 (n, 3, h, w)."""

    def lessons(self, recipe: Recipe, setting: Setting) -> Lessons:
        """What a training learns from."""

    def supernet(self, space: SearchSpace, kernel_transforms: bool) -> Supernet:
        """A supernet for the data with fresh weights, by torch's generator."""

    def supernet_lessons(self, recipe: SupernetRecipe, setting: Setting) -> SupernetLessons:
        """What a supernet learns from."""

    def recalibrate(self, network: nn.Module, images: int, place: Place) -> None:
        """Set batch normalisation's statistics from this number of training images."""

    def value(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> float:
        """The figure (0..1) on a split; `exact` in float32, as the exported network computes."""

    def grade(self, network: nn.Module, place: Place) -> Grade:
        """How a network does on the search-validation split, exactly."""
