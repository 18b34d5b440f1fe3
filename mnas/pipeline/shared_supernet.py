"""A supernet that another run trained: used as it is for the same images, adapted to others."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.data.division import DIVISION_FILE, Division, read_division
from mnas.errors import BadInput
from mnas.io.files import write_atomic
from mnas.nn.origin import Origin
from mnas.nn.weights import read_safetensors
from mnas.run import Run
from mnas.space.schema import SpaceFile

log = logging.getLogger("mnas")

FREE = ("name", "reference", "resolution", "bn_eps")
"""Of a space's file, what weights do not depend on, or take from their own."""
ADAPTED = 3
"""A supernet is adapted to other images in this part of its recipe's epochs, at half the rate."""


def source_of(path: str | Path) -> Run:
    """The run, or the folder of `mnas supernet`, whose supernet is to be used. Raises BadInput where it has none."""
    run = Run.open(Path(path))
    if not run.supernet_weights.exists():
        raise BadInput(
            f"{path}: has no trained supernet ({run.supernet_weights.name}): expected the folder of `mnas supernet`, "
            "or a run whose log says that its supernet is trained"
        )
    return run


def check_space(path: str | Path, space: SpaceFile) -> None:
    """Raise BadInput, naming the first difference, where the weights of a supernet are not those of `space`."""
    theirs = source_of(path).config().space_file
    ours = space.model_dump(mode="json")
    for key in ours:
        if key not in FREE and ours[key] != theirs[key]:
            difference = _difference(key, theirs[key], ours[key])
            raise BadInput(
                f"{path}: its supernet is of another space than '{space.name}': {difference}; leave --space out, or "
                "train a supernet of this one (mnas supernet)"
            )


def _difference(key: str, theirs: Any, ours: Any) -> str:
    if isinstance(theirs, list) and isinstance(ours, list) and key == "stages":
        for number, (their, our) in enumerate(zip(theirs, ours, strict=False), 1):
            for name in our:
                if their[name] != our[name]:
                    return f"stage {number}, {name}: {their[name]} there, {our[name]} here"
    return f"{key}: {theirs} there, {ours} here"


def sharing(config: RunConfig, shared: RunConfig) -> RunConfig:
    """The configuration of a search in the supernet of the run that `shared` is of.

    Candidates are estimated in it, whatever the number of steps; contenders go on from its weights for a third of the
    recipe's epochs, unless these or a time budget are stated.
    """
    changes: dict[str, Any] = {"space_file": {**config.space_file, "bn_eps": shared.space_file["bn_eps"]}}
    if config.objective.accuracy == "auto":
        changes["objective"] = config.objective.model_copy(update={"accuracy": "supernet"})
    if config.budget_s is None and config.recipe.epochs == Recipe().epochs:
        changes["recipe"] = config.recipe.model_copy(update={"epochs": config.recipe.epochs // ADAPTED})
    return config.model_copy(update=changes)


def adopt(run: Run, config: RunConfig) -> None:
    """Copy the supernet that a run is to use into its folder, once, and its division where the images are the same."""
    if config.shared_supernet is None or run.given_supernet.exists():
        return
    source = source_of(config.shared_supernet)
    division, own = source.folder / DIVISION_FILE, run.folder / DIVISION_FILE
    if _names_same_images(config, source.config()) and division.exists() and not own.exists():
        write_atomic(own, division.read_bytes())
    read_safetensors(source.supernet_weights)  # a damaged one is no start
    _copy(source.supernet_weights, run.given_supernet)


def with_shared_supernet(run: Run, config: RunConfig) -> RunConfig:
    """The configuration of a run that uses another one's supernet: as it is for the same images, else adapted.

    Decided once, so that a resume needs the other run no more.
    """
    if config.shared_supernet is None:
        return config
    state = run.state()
    if state.adapts is None:
        theirs, ours = read_division(source_of(config.shared_supernet).folder), read_division(run.folder)
        same = theirs is not None and ours is not None and _digest(theirs) == _digest(ours)
        if same:
            _copy(run.given_supernet, run.supernet_weights)
        run.update_state(adapts=not same)
        state = run.state()
    if not state.adapts:
        log.info("supernet: that of %s is used as it is: it was trained on the same images", config.shared_supernet)
        return config
    recipe = adapted(config.supernet)
    log.info(
        "supernet: that of %s is adapted to these images, for %d epochs with a learning rate of %g",
        config.shared_supernet, recipe.epochs, recipe.lr,
    )  # fmt: skip
    return config.model_copy(update={"supernet": recipe})


def _copy(weights: Path, target: Path) -> None:
    """Copy a file of weights, its checksum first: with it, the copy is whole or refused."""
    content = weights.read_bytes()
    digest = f"{hashlib.sha256(content).hexdigest()}  {target.name}\n"
    write_atomic(target.with_name(f"{target.name}.sha256"), digest)
    write_atomic(target, content)


def _digest(division: Division) -> tuple[Any, ...]:
    return division.sha256, division.labels_sha256, division.classes, division.reading


def _names_same_images(one: RunConfig, other: RunConfig) -> bool:
    ours, theirs = ((config.data, config.labels, config.group_by, config.channels) for config in (one, other))
    return ours == theirs


def with_published_supernet(config: RunConfig, origins: Sequence[Origin]) -> RunConfig:
    """The configuration of a run that starts from a published supernet, which only has to adapt to its images."""
    origin = next(iter(origins), None)
    if origin is None or origin.supernet is None:
        return config
    recipe = adapted(config.supernet)
    log.info(
        "supernet: that of %s has only to adapt to these images: %d epochs with a learning rate of %g", origin.name,
        recipe.epochs, recipe.lr,
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
