"""The choices of a space: which exist, and which options differ in effect."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from mnas.space.architecture import Block
from mnas.space.layer import round_channels

Option = int | float | str


Genes = dict[str, Option]
"""An architecture as its choices: name -> option, for the choices that exist in it."""


Choose = Callable[[str, list[Option]], Option]
"""Answers one choice: (name, options) -> one of the options."""


LAYER_CHOICES = ("operator", "kernel", "expansion", "se", "activation", "skip")


cached_block = functools.cache(Block)
"""Equal blocks as one object: it is hashed once."""


def distinct_options(effects: Mapping[Option, Any]) -> tuple[str, list[Option]]:
    """Options that differ in effect; a narrowed choice has its options in its name, as Optuna needs."""
    options: list[Option] = []
    for option, effect in effects.items():
        if all(effect != effects[other] for other in options):
            options.append(option)
    return "" if len(options) == len(effects) else f"[{'|'.join(map(str, options))}]", options


def exists(choice: str, genes: Mapping[str, Option]) -> bool:
    operator = genes.get("operator")
    return not ((choice == "expansion" and operator != "mbconv") or (choice == "se" and operator == "conv"))


def hidden_channels(channels: int, expansion: float) -> int:
    # an expansion by 1 keeps the channels as they are, whatever they are a multiple of
    return channels if expansion == 1 else round_channels(channels * expansion)


def first_fitting(options: list[Option], fits: Callable[[Option], bool]) -> Option | None:
    return next((option for option in options if fits(option)), None)
