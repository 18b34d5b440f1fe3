"""A supernet that another run trained: used as it is for the same images, adapted to others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnas.config import RunConfig, SupernetRecipe
from mnas.data.division import DIVISION_FILE, Division, read_division, write_division
from mnas.data.reading import FOUND_OUT, reading_of
from mnas.errors import BadInput
from mnas.io.checksum import write_with_sum
from mnas.io.size import Size, in_order, shown
from mnas.monitor.figures import count
from mnas.nn.origin import Origin
from mnas.nn.weights import is_whole, read_safetensors
from mnas.pipeline.context import space_of
from mnas.pipeline.supernet_source import has_images_of, source_of
from mnas.run import Run
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")

ADAPTED = 3
"""A supernet is adapted to other images in this part of its recipe's epochs, at half the rate."""


def adopt(run: Run, config: RunConfig) -> None:
    """Copy the supernet that a run is to use into its folder, once, and its division where the images are the same."""
    if config.shared_supernet is None or is_whole(run.given_supernet):
        return
    source = source_of(config.shared_supernet)
    division, theirs = read_division(source.folder), source.config()
    if division is not None:
        same = (config.labels, config.group_by) == (theirs.labels, theirs.group_by)
        if same and has_images_of(source, config) and not (run.folder / DIVISION_FILE).exists():
            fit = division.reading.fit if config.fit == FOUND_OUT else reading_of(config.fit).fit
            reading = replace(division.reading, fit=fit)
            write_division(run.folder, division.model_copy(update={"reading": reading}))
        write_division(run.given_supernet.parent, division)
    read_safetensors(source.supernet_weights)  # a damaged one is no start
    write_with_sum(run.given_supernet, source.supernet_weights.read_bytes())


def with_shared_supernet(run: Run, config: RunConfig, space: SearchSpace) -> RunConfig:
    """The configuration of a run that uses another one's supernet: as it is for the same images, else adapted.

    Decided once, so that a resume needs the other run no more. Raises BadInput where images that are to judge the
    networks were among those that the supernet was trained on.
    """
    if config.shared_supernet is None:
        return config
    if run.state().adapts is None:
        theirs, ours = read_division(run.given_supernet.parent), read_division(run.folder)
        same = theirs is not None and ours is not None and _digest(theirs) == _digest(ours)
        if theirs is not None and ours is not None and (known := _trained_on(theirs, ours)):
            raise BadInput(
                f"--supernet {config.shared_supernet}: it was trained on {known} of the images that are to judge the "
                "networks here; leave --data, --labels and --group-by out, so that they are divided as there, or train "
                "another supernet"
            )
        if same:
            _log_sizes(source_of(config.shared_supernet), space)
        run.update_state(adapts=not same)
    if not run.state().adapts:
        log.info("supernet: that of %s is used as it is: it was trained on the same images", config.shared_supernet)
        return config
    recipe = adapted(config.supernet)
    log.info(
        "supernet: that of %s is adapted to these images, for %s with a learning rate of %g",
        config.shared_supernet, count(recipe.epochs, "epoch"), recipe.lr,
    )  # fmt: skip
    return config.model_copy(update={"supernet": recipe})


def use_as_it_is(run: Run) -> None:
    """Make a given supernet that needs no training that of the run."""
    if run.state().adapts is False and not is_whole(run.supernet_weights):
        write_with_sum(run.supernet_weights, run.given_supernet.read_bytes())


def _digest(division: Division) -> tuple[Any, ...]:
    return division.sha256, division.labels_sha256, division.classes, division.reading


def _trained_on(theirs: Division, ours: Division) -> int:
    """How many validation and test images of one division are training images of the other."""
    judges = ("val", "test")
    if ours.root is not None and ours.root == theirs.root:
        return len(theirs.files["train"].keys() & {path for kind in judges for path in ours.files[kind]})
    same = ours.labels_sha256 and (ours.labels_sha256, ours.images) == (theirs.labels_sha256, theirs.images)
    if not same or not theirs.rows or not ours.rows:
        return 0
    trained = theirs.rows.get("train", ())
    return len({*trained} & {row for kind in judges for row in ours.rows.get(kind, ())})


def _log_sizes(source: Run, space: SearchSpace) -> None:
    """Say where the supernet is searched at other input sizes than it was trained at."""
    config = source.config()
    trained: Sequence[Size] = config.resolution or source.state().resolutions or space_of(config, None).resolutions
    others = [size for size in in_order(space.resolutions) if size not in trained]
    if others:
        log.warning(
            "supernet: it was trained at %s px, and is searched at %s px too: its accuracies there say less",
            ", ".join(map(shown, trained)), ", ".join(map(shown, others)),
        )  # fmt: skip


# --- recipes


def with_published_supernet(config: RunConfig, origins: Sequence[Origin]) -> RunConfig:
    """The configuration of a run that starts from a published supernet, which only has to adapt to its images."""
    origin = next(iter(origins), None)
    if origin is None or origin.supernet is None:
        return config
    recipe = adapted(config.supernet)
    log.info(
        "supernet: that of %s has only to adapt to these images: %s with a learning rate of %g", origin.name,
        count(recipe.epochs, "epoch"), recipe.lr,
    )  # fmt: skip
    return config.model_copy(update={"supernet": recipe})


def adapted(recipe: SupernetRecipe) -> SupernetRecipe:
    """The recipe that adapts a trained supernet to other images; what was stated, other than the default, is kept."""
    default = SupernetRecipe()
    changes: dict[str, Any] = {}
    if recipe.epochs == default.epochs:
        changes["epochs"] = max(1, recipe.epochs // ADAPTED)
    if recipe.lr == default.lr:
        changes["lr"] = recipe.lr / 2
    return recipe.model_copy(update=changes)
