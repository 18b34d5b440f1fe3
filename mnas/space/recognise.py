"""The inverse of the walk: the choices that make an existing architecture."""

from __future__ import annotations

from collections.abc import Callable

from mnas.errors import BadInput
from mnas.io.size import written
from mnas.space.architecture import Architecture
from mnas.space.choices import Choices, Option, fits
from mnas.space.layer import round_channels
from mnas.space.schema import SpaceFile
from mnas.space.walk import Walk, plain_name


def recognise(walk: Walk, arch: Architecture) -> Choices | None:
    """The choices with which `walk` makes `arch`; None where it cannot."""
    for width in walk.space.width:
        choices = _at_width(walk, arch, width)
        if choices is not None:
            return choices
    return None


def _at_width(walk: Walk, arch: Architecture, width: float) -> Choices | None:
    choices: Choices = {}

    def choose(name: str, options: list[Option]) -> Option:
        option = _option(walk.space, arch, width, name, options)
        if option is None:
            raise BadInput(name)
        choices[name] = option
        return option

    try:
        return choices if walk(choose) == arch else None
    except (BadInput, IndexError):
        return None


def _option(space: SpaceFile, arch: Architecture, width: float, name: str, options: list[Option]) -> Option | None:
    """The option of choice `name` that made `arch`."""
    if name == "resolution":
        size = written(arch.resolution)
        return size if size in options else None
    if name.startswith("width"):
        return width if width in options else None
    stage_name, _, rest = plain_name(name).partition(".")
    index = int(stage_name.removeprefix("stage")) - 1
    blocks = arch.stages[index]
    if rest == "depth":
        return len(blocks) if len(blocks) in options else None
    if rest == "channels":
        return _first(options, lambda option: round_channels(float(option) * width) == blocks[-1].channels)
    layer, _, choice = rest.rpartition(".")
    # a shared choice is the option that fits every layer of the stage
    numbers = [int(layer.removeprefix("layer")) - 1] if layer else range(len(blocks))
    before = arch.stages[index - 1][-1].channels if index else arch.stem.channels
    shown = [(blocks[n], blocks[n - 1].channels if n else before) for n in numbers]
    if choice == "operator":  # an mbconv that does not expand is a sepconv, so sepconv is tried first
        options = sorted(options, key=lambda option: option == "mbconv")
    stage = space.stages[index]
    return _first(options, lambda option: all(fits(space, stage, choice, option, *block) for block in shown))


def _first(options: list[Option], fitting: Callable[[Option], bool]) -> Option | None:
    return next((option for option in options if fitting(option)), None)
