"""The walk that makes an architecture choice by choice, and every way through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mnas.io.size import size_of, written
from mnas.space.architecture import Architecture, Block
from mnas.space.choices import (
    LAYER_CHOICES,
    Choices,
    Choose,
    LayerGroup,
    Option,
    build_block,
    build_head,
    distinct_options,
    effects,
    exists,
)
from mnas.space.layer import round_channels
from mnas.space.schema import SpaceFile


class Walk:
    """From the input to the head of a space: calls `choose` for each choice that exists on the way."""

    def __init__(self, space: SpaceFile):
        self.space = space
        self.own = tuple(choice for choice in LAYER_CHOICES if choice not in space.shared)
        # the options of a layer's choice: few different ones, needed for every network
        self._options: dict[tuple[LayerGroup, str, float], tuple[str, list[Option]]] = {}

    def __call__(self, choose: Choose) -> Architecture:
        """The architecture that the choices make."""
        space = self.space
        resolution = size_of(_pick(choose, "resolution", "", [*map(written, space.resolution)]))
        width = float(_pick(choose, "width", "", [*space.width]))
        channels = round_channels(space.stem.channels * width)
        stem = Block("conv", space.stem.kernel, space.stem.stride, channels, space.stem.activation)
        stages = []
        for index, stage in enumerate(space.stages):
            name = f"stage{index + 1}"
            rounded: dict[Option, int] = {option: round_channels(option * width) for option in stage.channels}
            out = rounded[_pick(choose, f"{name}.channels", *distinct_options(rounded))]
            depth = int(_pick(choose, f"{name}.depth", "", [*stage.depth]))
            group = self.stage_group(index, channels, out, depth)
            shared = self.layer_choices(choose, name, space.shared, group)
            blocks = []
            for number in range(depth):
                layer = group.layer(number)
                choices = self.layer_choices(choose, f"{name}.layer{number + 1}", self.own, layer, shared)
                blocks.append(build_block(space, layer, choices))
            stages.append(tuple(blocks))
            channels = out
        head = build_head(space, width)
        return Architecture(resolution, stem, tuple(stages), head, space.gate, space.bn_eps, space.image_channels)

    def stage_group(self, index: int, in_channels: int, out_channels: int, depth: int) -> LayerGroup:
        """The layers of the stage at `index`."""
        inputs = (in_channels,) + (out_channels,) * (depth - 1)
        strides = (int(self.space.stages[index].stride),) + (1,) * (depth - 1)
        return LayerGroup(index, inputs, strides, out_channels)

    def layer_choices(
        self, choose: Choose, prefix: str, names: tuple[str, ...], group: LayerGroup,
        made: Mapping[str, Option] | None = None,
    ) -> Choices:  # fmt: skip
        """The choices `names` of a group of layers, beside those already made for them."""
        choices: Choices = dict(made or {})
        for choice in LAYER_CHOICES:
            if choice in names and exists(choice, choices):
                key = (group, choice, float(choices.get("expansion", 1)))
                if key not in self._options:
                    self._options[key] = distinct_options(effects(self.space, *key))
                choices[choice] = _pick(choose, f"{prefix}.{choice}", *self._options[key])
        return choices

    def alike(self, varies: Callable[[str], bool], otherwise: Choose) -> Iterator[Architecture]:
        """Every architecture over the choices that vary, the layers of a stage alike; `otherwise` makes the others."""

        def walk(choose: Choose) -> Architecture:
            chosen: Choices = {}

            def choose_alike(name: str, options: list[Option]) -> Option:
                if not varies(name):
                    return otherwise(name, options)
                # a layer with other options, such as a stage's first, has a choice of its own
                key = f"{name.partition('.')[0]}.{plain_name(name).rpartition('.')[2]}{options}"
                if key not in chosen:
                    chosen[key] = choose(name, options)
                return chosen[key]

            return self(choose_alike)

        return paths(walk)


def paths(walk: Callable[[Choose], Any]) -> Iterator[Any]:
    """The results of `walk` over every combination of options of the choices that it makes."""
    prefix: list[int] = []
    while True:
        taken: list[tuple[int, int]] = []

        def choose(name: str, options: list[Option], prefix: list[int] = prefix, taken: Any = taken) -> Option:
            index = prefix[len(taken)] if len(taken) < len(prefix) else 0
            taken.append((index, len(options)))
            return options[index]

        yield walk(choose)
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        prefix = [index for index, _ in taken]
        prefix[-1] += 1


def plain_name(name: str) -> str:
    """A choice's name without the list of its remaining options."""
    return name.partition("[")[0]


def _pick(choose: Choose, name: str, suffix: str, options: list[Option]) -> Option:
    """Choose where there is more than one option."""
    return options[0] if len(options) == 1 else choose(name + suffix, options)
