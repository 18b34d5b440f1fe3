"""The context of a run: what every step of a search works with, made once from the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna

from mnas.config import Objective, RunConfig, Target
from mnas.data.common import Images
from mnas.data.division import DIVISION_FILE, Division, read_division, write_division
from mnas.data.fitting import with_fit_decided
from mnas.data.loader import cached
from mnas.data.mirroring import with_mirroring_decided
from mnas.data.near_duplicates import warn_of_near_duplicates
from mnas.data.reading import FOUND_OUT, reading_of
from mnas.data.sources import DATA_SETS, ImageData, load_data, warn_of_shape
from mnas.data.summary import log_classes
from mnas.errors import BadInput
from mnas.estimators.factory import EstimatorCallable
from mnas.io.size import Size, shown, sides
from mnas.io.strict_yaml import validate
from mnas.latency.model import LatencyCallable, LatencyModel
from mnas.latency.table.table import load_table
from mnas.monitor.tensorboard import TensorBoard
from mnas.nn.origin import Origin
from mnas.pipeline.quantised import delivers_of
from mnas.run import Run
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace
from mnas.study.constraints import Constraints
from mnas.study.trial import Trial
from mnas.tasks.classification import Classification
from mnas.training.device import pick_device
from mnas.training.distributed import ProcessGroup
from mnas.training.sizes import TrainingSizes, decoded_size, followed_resolutions
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
    storage: str | None = None
    """The URL of the Optuna storage with its password, which no file keeps."""

    def names(self) -> tuple[str, ...]:
        """Which of them are given as objects, except the callbacks."""
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
    def data(self) -> Images:
        return self.trainer.task.data

    def decided(self) -> Context:
        """The context with the estimator and the precision that the plan decided on."""
        state = self.run.state()
        objective = with_estimator(self.config.objective, state.estimator)
        trainer = self.trainer if state.precision is None else replace(self.trainer, precision=state.precision)
        return replace(self, config=self.config.model_copy(update={"objective": objective}), trainer=trainer)


def with_estimator(objective: Objective, estimator: str | None) -> Objective:
    """`objective` with a decided estimator of accuracy; None leaves it as it is."""
    return objective if estimator is None else objective.model_copy(update={"accuracy": estimator})


def space_of(config: RunConfig, override: SearchSpace | None) -> SearchSpace:
    """The space of a run, as it was when the run began."""
    space = override
    if space is None:
        space = SearchSpace(validate(SpaceFile, config.space_file, config.space))
    space = space if config.channels == space.channels else space.with_channels(config.channels)
    return space.with_resolutions(config.resolution) if config.resolution else space


def searched_space(run: Run, config: RunConfig, override: SearchSpace | None, data: Images) -> SearchSpace:
    """The space of a run at the input sizes that suit its images; decided once, so that a resumed run has them too."""
    space, decided = space_of(config, override), run.state().resolutions
    if config.resolution:
        return space
    if decided is None:
        decided = _suitable(config, space, data)
        run.update_state(resolutions=decided)
    return space if decided == space.resolutions else space.with_resolutions(decided)


def _suitable(config: RunConfig, space: SearchSpace, data: Images) -> tuple[Size, ...]:
    squares = tuple(size for size in space.resolutions if isinstance(size, int))
    if squares != space.resolutions:  # rectangles are as they were stated
        return space.resolutions
    followed = followed_resolutions(data.image_size, squares)
    if followed == squares:
        return followed
    tabled = [_tabled_sizes(target) for target in config.targets if target.latency_table]
    if all(set(followed) <= sizes for sizes in tabled):
        log.info(
            "resolutions: %s px, to suit images of %d px, instead of the space's %s (--resolution chooses others)",
            _listed(followed), data.image_size, _listed(space.resolutions),
        )  # fmt: skip
        return followed
    log.info(
        "resolutions: the space's %s px, although the images have %d px: the latency table has none of %s px",
        _listed(space.resolutions), data.image_size, _listed(followed),
    )  # fmt: skip
    return space.resolutions


def _tabled_sizes(target: Target) -> set[Size]:
    """The input sizes of the networks in a target's table."""
    assert target.latency_table is not None
    return {layer.size for layer in load_table(Path(target.latency_table)).entries if layer.takes_images}


def _listed(resolutions: tuple[Size, ...]) -> str:
    return ", ".join(map(shown, resolutions))


def space_like(space: SearchSpace, origins: Sequence[Origin]) -> SearchSpace:
    """`space` with the eps of batch normalisation with which the weights were trained that its networks start from."""
    return space.with_bn_eps(origins[0].architecture.bn_eps) if origins else space


def full_trainer(context: Context) -> Trainer:
    """The trainer of full trainings: each network at its own resolution, from fresh weights if the run states so."""
    trainer = context.trainer.at_full_size()
    return replace(trainer, origins=()) if context.config.from_scratch else trainer


def run_data(run: Run, config: RunConfig, override: ImageData | None, space: SearchSpace | None = None) -> ImageData:
    """The images of a run, in the splits that it wrote down when it began; `space`: one that was given as an object."""
    division = read_division(run.folder)
    data = override or config_data(config, division)
    if override is None and division is None and config.fit == FOUND_OUT:
        data = with_fit_decided(data, space_of(config, space).largest_resolution)
    if data.train.reading.channels != config.channels:
        raise BadInput(
            f"the data are read with {data.train.reading.channels} channels and the network takes {config.channels}: "
            f"mnas.load_data(..., reading=Reading(channels={config.channels})), of mnas.data.reading"
        )
    if data.division is not None and not (run.folder / DIVISION_FILE).exists():
        write_division(run.folder, data.division)
    log.info(
        "data: %s, %d classes, %d train, %d search-validation images of %d px",
        data.name, data.num_classes, len(data.train), len(data.val), data.image_size,
    )  # fmt: skip
    log_classes(data)
    warn_of_shape(data.name, data.train, space_of(config, space).largest_resolution)
    return data


def config_data(config: RunConfig, division: Division | None = None) -> ImageData:
    """The images that a configuration names. Raises BadInput."""
    reading = reading_of(config.fit, config.max_pixels, config.channels)
    return load_data(
        config.data, seed=config.seed, max_broken=config.max_broken, reading=reading, group_by=config.group_by,
        labels=config.labels, division=division,
    )  # fmt: skip


def proxy_sizes(config: RunConfig, space: SearchSpace) -> TrainingSizes:
    """The sizes at which candidates are estimated."""
    base, _ = sides(space.largest_resolution)
    sizes = TrainingSizes(base, min(base, config.proxy_resolution or base))
    if sizes.proxy < base:
        log.info("candidates are estimated at %d/%d of their resolution (--proxy-resolution)", sizes.proxy, base)
    return sizes


def make_trainer(config: RunConfig, space: SearchSpace, data: ImageData) -> Trainer:
    """The trainer of a run, the same in each of its processes; folders of images are decoded here.

    It estimates candidates at the proxy resolution, if the run states one.
    """
    sizes = proxy_sizes(config, space)
    decoded = decoded_size(data.image_size, space.largest_resolution)
    data = replace(data, train=cached(data.train, decoded), val=cached(data.val, decoded))
    if DATA_SETS.path(config.data) is not None:  # not of built-in ones, which nobody can mend
        warn_of_near_duplicates(data.train, data.val, "search-validation")
    if config.recipe.flip is None:
        data = with_mirroring_decided(data)
    task, device = Classification(data, config.metric), pick_device(config.device)
    return Trainer(task, sizes, device, config.seed, delivers=delivers_of(config, data))
