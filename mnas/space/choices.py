"""The choices of a layer: which exist, what an option makes of the layer, and which options differ."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mnas.space.architecture import Block, Head
from mnas.space.layer import round_channels
from mnas.space.schema import SpaceFile, Stage

Option = int | float | str

Choices = dict[str, Option]
"""An architecture as its choices: name -> chosen option, for the choices that exist in it."""

Choose = Callable[[str, list[Option]], Option]
"""Makes one choice: (name, options) -> one of the options."""

LAYER_CHOICES = ("operator", "kernel", "expansion", "se", "activation", "skip")
"""In the order in which they are made: whether one exists depends on those before it."""

_block = functools.cache(Block)  # equal blocks as one object, which is hashed once


class LayerGroup(NamedTuple):
    """The layers that one choice decides: a single layer, or all layers of a stage where they share the choice."""

    stage: int  # index from 0
    in_channels: tuple[int, ...]
    strides: tuple[int, ...]
    out_channels: int

    def layer(self, number: int) -> LayerGroup:
        """The layer at index `number`, alone."""
        at = slice(number, number + 1)
        return LayerGroup(self.stage, self.in_channels[at], self.strides[at], self.out_channels)


def exists(choice: str, choices: Mapping[str, Option]) -> bool:
    """Whether a layer of these choices has `choice`: only an mbconv expands; a conv has no squeeze-and-excitation."""
    operator = choices.get("operator")
    return not ((choice == "expansion" and operator != "mbconv") or (choice == "se" and operator == "conv"))


def effects(space: SpaceFile, group: LayerGroup, choice: str, expansion: float) -> dict[Option, Any]:
    """Option -> what it makes of the layers; options with equal effects make equal networks."""
    stage = space.stages[group.stage]
    inputs, strides, out = group.in_channels, group.strides, group.out_channels
    options: tuple[Option, ...] = getattr(stage, choice)
    if choice == "operator" and {"sepconv", "mbconv"} <= set(options):
        flat = all(hidden_channels(c, expansion) == c for c in inputs for expansion in stage.expansion)
        return {option: "sepconv" if option == "mbconv" and flat else option for option in options}
    if choice == "expansion":
        hidden_of = {option: tuple(hidden_channels(c, float(option)) for c in inputs) for option in options}
        # an mbconv that does not expand is a sepconv, so it is left out where sepconv is an option
        wider = {option: hidden for option, hidden in hidden_of.items() if hidden != inputs}
        return wider if wider and "sepconv" in stage.operator else hidden_of
    if choice == "se":
        return {option: [squeezed_channels(space, float(option), c, hidden_channels(c, expansion)) for c in inputs]
                for option in options}  # fmt: skip
    if choice == "skip":
        same_shape = any(stride == 1 and c == out for c, stride in zip(inputs, strides, strict=True))
        return {option: "none" if option == "identity" and not same_shape else option for option in options}
    return {option: option for option in options}


def distinct_options(effects: Mapping[Option, Any]) -> tuple[str, list[Option]]:
    """The options that differ in effect, and a suffix of the choice's name: the options, where some were left out.

    Optuna needs the suffix: a name must always have the same options.
    """
    options: list[Option] = []
    for option, effect in effects.items():
        if all(effect != effects[other] for other in options):
            options.append(option)
    return "" if len(options) == len(effects) else f"[{'|'.join(map(str, options))}]", options


def hidden_channels(channels: int, expansion: float) -> int:
    """An mbconv's expanded channels; an expansion by 1 keeps the channels, also where they are no multiple of 8."""
    return channels if expansion == 1 else round_channels(channels * expansion)


def squeezed_channels(space: SpaceFile, ratio: float, in_channels: int, hidden: int) -> int:
    """The squeezed channels of squeeze-and-excitation at this ratio; 0 is none."""
    if space.se_of == "input":
        return round(in_channels * ratio)
    return round_channels(hidden * ratio) if ratio else 0


def build_block(space: SpaceFile, layer: LayerGroup, choices: Mapping[str, Option]) -> Block:
    """The block of one layer."""
    channels, stage = layer.in_channels[0], space.stages[layer.stage]
    hidden = hidden_channels(channels, float(choices.get("expansion", 1))) if choices["operator"] == "mbconv" else 0
    se = squeezed_channels(space, float(choices.get("se", 0)), channels, hidden or channels)
    operator: Any = choices["operator"]
    activation: Any = choices["activation"]
    skip: Any = choices["skip"]
    return _block(
        operator, int(choices["kernel"]), layer.strides[0], layer.out_channels, activation, hidden, se, skip,
        stage.output_activation,
    )  # fmt: skip


def build_head(space: SpaceFile, width: float) -> Head:
    """The head at this width."""
    head = space.head
    channels = head.channels
    if head.channels and head.scale != "fixed":
        scaled = round_channels(head.channels * width)
        channels = max(head.channels, scaled) if head.scale == "wider_only" else scaled
    return Head(channels, head.hidden, head.activation)


def fits(space: SpaceFile, stage: Stage, choice: str, option: Option, block: Block, in_channels: int) -> bool:
    """Whether `option` can make this block behind this many channels: the inverse of `build_block`."""
    match choice:
        case "operator":
            flat = any(hidden_channels(in_channels, expansion) == in_channels for expansion in stage.expansion)
            return option == block.operator or (option == "mbconv" and block.operator == "sepconv" and flat)
        case "expansion":
            return hidden_channels(in_channels, float(option)) == (block.hidden or in_channels)
        case "se":
            return squeezed_channels(space, float(option), in_channels, block.hidden or in_channels) == block.se
        case "skip":
            same_shape = block.stride == 1 and in_channels == block.channels
            return bool(block.skip == ("none" if option == "identity" and not same_shape else option))
        case other:
            return bool(getattr(block, other) == option)
