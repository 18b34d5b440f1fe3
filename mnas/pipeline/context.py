"""The context of a run: what every step of a search works with, made once from the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import optuna

from mnas.config import RunConfig
from mnas.data.loader import cached
from mnas.data.sources import ImageData, load_data
from mnas.estimators.factory import EstimatorCallable
from mnas.io.strict_yaml import validate
from mnas.latency.model import LatencyCallable, LatencyModel
from mnas.monitor.tensorboard import TensorBoard
from mnas.run import Run
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace
from mnas.study.constraints import Constraints
from mnas.study.trial import Trial
from mnas.training.device import pick_device
from mnas.training.distributed import ProcessGroup
from mnas.training.sizes import TrainingSizes, native_size
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")


@dataclass(frozen=True)
class Overrides:
    """Python objects that a caller of `mnas.search` gives in place of names."""

    space: SearchSpace | None = None
    data: ImageData | None = None
    estimator: EstimatorCallable | None = None
    latency: LatencyCallable | None = None
    sampler: optuna.samplers.BaseSampler | None = None
    callbacks: Sequence[Callable[[Trial], None]] = ()

    def names(self) -> tuple[str, ...]:
        """Which of them are given, but for the callbacks."""
        kinds = ("space", "data", "estimator", "latency", "sampler")
        return tuple(kind for kind in kinds if getattr(self, kind) is not None)


@dataclass(frozen=True)
class Context:
    """One run in its main process."""

    run: Run
    config: RunConfig
    space: SearchSpace
    trainer: Trainer
    group: ProcessGroup
    board: TensorBoard
    latency: LatencyModel
    constraints: Constraints

    @property
    def data(self) -> ImageData:
        return self.trainer.data


def space_of(config: RunConfig, override: SearchSpace | None) -> SearchSpace:
    """The space of a run, as it was when the run began."""
    space = override
    if space is None:
        space = SearchSpace(validate(SpaceFile, config.space_file, config.space))
    return space.with_resolutions(config.resolution) if config.resolution else space


def make_trainer(config: RunConfig, space: SearchSpace, override: ImageData | None) -> Trainer:
    """The trainer of a run, the same in each of its processes; folders of images are decoded here."""
    data = override or load_data(config.data, seed=config.seed, max_broken=config.max_broken)
    base = max(space.resolutions)
    native = native_size(data, base)
    sizes = TrainingSizes(base, min(base, config.proxy_resolution or native))
    log.info(
        "data: %s, %d classes, %d train, %d search-validation images of %d px",
        data.name, data.num_classes, len(data.train), len(data.val), data.image_size,
    )  # fmt: skip
    if sizes.proxy < base:
        log.info(
            "networks are trained at %d px (the images have %d) and their latency is measured at %d px; "
            "--proxy-resolution %d trains them at that size too", sizes.proxy, data.image_size, base, base,
        )  # fmt: skip
    decoded = min(sizes.proxy, native)
    data = replace(data, train=cached(data.train, decoded), val=cached(data.val, decoded))
    return Trainer(data, sizes, pick_device(config.device), config.seed)


def size_notes(trainer: Trainer) -> list[str]:
    """A note on the images' size for readers of the accuracies, if it is below the resolution."""
    sizes = trainer.sizes
    if sizes.proxy >= sizes.base:
        return []
    return [
        f"Trained and tested at {sizes.proxy}/{sizes.base} of its resolution, since the images have "
        f"{trainer.data.image_size} pixels; latency is measured at the full resolution."
    ]
