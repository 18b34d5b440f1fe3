"""Another run's supernet as a search is given it: whose it is, what it brings along, and whether it can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mnas.config import MAX_BROKEN, Recipe, RunConfig
from mnas.data.division import read_division
from mnas.data.evaluation import is_data_of
from mnas.errors import BadInput
from mnas.nn.supernet import Supernet, has_kernel_transforms
from mnas.nn.weights import read_safetensors
from mnas.pipeline.context import space_like, space_of
from mnas.pipeline.origins import kept_origins
from mnas.run import Run
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace
from mnas.training.recipe import steps_an_epoch

FREE = ("name", "reference", "resolution", "bn_eps", "without")
"""Of a space's file, what weights do not depend on, or take from their own."""
SHORTER = 3
"""Contenders that go on from a supernet's weights train for this part of the recipe's epochs."""
SHORTEST, ENOUGH_STEPS = 6, 1000
"""Where the supernet was trained on the same images: for this part, if that is so many steps or more
(benchmarks/once_for_all.py)."""


def source_of(path: str | Path) -> Run:
    """The run, or the folder of `mnas supernet`, whose supernet is to be used. Raises BadInput where it has none."""
    run = Run.open(Path(path))
    if not run.supernet_weights.exists():
        raise BadInput(
            f"{path}: has no trained supernet ({run.supernet_weights.name}): expected the folder of `mnas supernet`, "
            "or a run whose log says that its supernet is trained"
        )
    return run


def shared_space(source: Run) -> SearchSpace:
    """The space of a run's supernet, with the eps of batch normalisation that it was trained with."""
    space = space_of(source.config().model_copy(update={"resolution": None}), None)
    return space_like(space, kept_origins(source, space))


def shared_data(source: Run) -> str:
    """What the images of a run's supernet are called. Raises BadInput where they were given as an object."""
    config = source.config()
    if "data" in config.custom:
        raise BadInput(f"{source.folder}: its images were given as a Python object: state them again (data=...)")
    return config.data


def sharing(config: RunConfig, source: Run) -> RunConfig:
    """The configuration of a search in the supernet of `source`, which has the space, and of the same images the rest.

    Candidates are estimated in it, whatever the number of steps; contenders go on from its weights for a part of the
    recipe's epochs, unless these or a time budget are stated.
    """
    theirs, same = source.config(), has_images_of(source, config)
    changes: dict[str, Any] = {"space_file": {**config.space_file, "bn_eps": shared_space(source).file.bn_eps}}
    if config.objective.accuracy == "auto":
        changes["objective"] = config.objective.model_copy(update={"accuracy": "supernet"})
    recipe = config.recipe
    if config.budget_s is None and recipe.epochs == Recipe().epochs and not config.from_scratch:
        recipe = recipe.model_copy(update={"epochs": _epochs(recipe, source, same)})
    if same:
        changes |= {
            "labels": config.labels or theirs.labels, "group_by": config.group_by or theirs.group_by,
            "resolution": config.resolution or theirs.resolution,
            "max_broken": theirs.max_broken if config.max_broken == MAX_BROKEN else config.max_broken,
        }  # fmt: skip
        recipe = recipe if recipe.flip is not None else recipe.model_copy(update={"flip": theirs.recipe.flip})
    return config.model_copy(update={**changes, "recipe": recipe})


def _epochs(recipe: Recipe, source: Run, same: bool) -> int:
    """The epochs of contenders; fewer of them on the `same` images as those of the supernet."""
    division, epochs = read_division(source.folder), recipe.epochs // SHORTER
    if division is None or not same:
        return epochs
    enough = -(-ENOUGH_STEPS // steps_an_epoch(recipe, division.train_images))
    return min(epochs, max(recipe.epochs // SHORTEST, enough))


def check_shared(config: RunConfig, space: SearchSpace) -> None:
    """Refuse, before any work, a supernet that a search cannot use. Raises BadInput."""
    path = str(config.shared_supernet)
    source, accuracy = source_of(path), "own" if "estimator" in config.custom else config.objective.accuracy
    if accuracy != "supernet":
        raise BadInput(
            f"--supernet {path}: candidates are estimated in it, and the estimator {accuracy} was asked for; leave one "
            "of the two out"
        )
    if config.init is not None or config.pretrained not in ("auto", "none"):
        other = "--init" if config.init is not None else "--pretrained"
        raise BadInput(f"--supernet and {other} both name the weights to start from: state one of them")
    _check_space(path, shared_space(source).file, space.file)
    _check_weights(source, space)


def _check_space(path: str, theirs: SpaceFile, ours: SpaceFile) -> None:
    """Raise BadInput, naming the first difference, where two spaces do not have the same weights."""
    there, here = theirs.model_dump(mode="json"), ours.model_dump(mode="json")
    for key in here:
        if key not in FREE and here[key] != there[key]:
            difference = _difference(key, there[key], here[key])
            raise BadInput(
                f"{path}: its supernet is of another space than '{ours.name}': {difference}; leave --space "
                "and --without out, or train a supernet of this one (mnas supernet)"
            )


def _difference(key: str, theirs: Any, ours: Any) -> str:
    if isinstance(theirs, list) and isinstance(ours, list) and key == "stages":
        if len(theirs) != len(ours):
            return f"{len(theirs)} stages there, {len(ours)} here"
        for number, (their, our) in enumerate(zip(theirs, ours, strict=True), 1):
            for name in our:
                if their[name] != our[name]:
                    return f"stage {number}, {name}: {their[name]} there, {our[name]} here"
    return f"{key}: {theirs} there, {ours} here"


def _check_weights(source: Run, space: SearchSpace) -> None:
    """Raise BadInput for a file that is damaged, or whose tensors are not those of the space's supernet."""
    path, weights = source.supernet_weights, read_safetensors(source.supernet_weights)
    with torch.device("meta"):
        expected = Supernet(space, 1, has_kernel_transforms(weights)).state_dict()
    last = max(int(name.split(".")[1]) for name in expected if name.startswith("head."))
    classifier = f"head.{last}."
    for name in sorted(expected.keys() | weights.keys()):
        there, here = (tuple(some[name].shape) if name in some else None for some in (weights, expected))
        if name.startswith(classifier) and there is not None and here is not None:
            there, here = there[1:], here[1:]  # it may be for other classes
        if there != here:
            raise BadInput(
                f"{path}: not a supernet of space '{space.name}': {name} is {_shape(there)} there, {_shape(here)} in "
                "the space; train it again (mnas supernet)"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "a number"


def has_images_of(source: Run, config: RunConfig) -> bool:
    """Whether a search names the images on which the supernet was trained, perhaps in another place."""
    theirs, division = source.config(), read_division(source.folder)
    if division is None or "data" in (*config.custom, *theirs.custom):
        return False
    return is_data_of(division, config.data, theirs.data)
