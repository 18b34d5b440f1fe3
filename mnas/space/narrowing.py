"""A space without some of its choices, such as se, hard_swish or kernel7; and reference networks without them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from mnas.errors import BadInput, nearest
from mnas.space.architecture import Architecture, Block
from mnas.space.choices import Option, hidden_channels, squeezed_channels
from mnas.space.layer import Activation
from mnas.space.schema import SpaceFile, Stage

Number = TypeVar("Number", int, float)

WITHOUT = " without "
"""In the name of a space or a network, before what is left out of it."""
KEYS = ("kernel", "expansion", "se", "activation", "skip")
"""Choices of a stage whose options have names to leave them out."""
SUBSTITUTES: tuple[Activation, ...] = ("relu", "relu6", "hard_swish")
"""What takes the place of an activation that is left out: the first of these that the stages have."""


def narrowed(file: SpaceFile, names: Iterable[str]) -> SpaceFile:
    """The space without the choices of these names: se, an activation, kernel7, expand6, pool.

    The stem and the head get another activation where theirs is left out. Raises BadInput for a name that the space
    does not have, and where a stage would have no option left.
    """
    names, known = tuple(names), option_names(file)
    for name in names:
        if name not in known and name not in file.without:
            raise BadInput(f"--without {name}: space '{file.name}' has no such choice{nearest(name, known)}")
    left_out = tuple(dict.fromkeys([*file.without, *names]))
    stages = tuple(
        _without(stage, left_out, f"stage {number} of space '{file.name}'")
        for number, stage in enumerate(file.stages, 1)
    )
    file = file.model_copy(update={"stages": stages, "without": left_out})
    ends = {name: getattr(file, name) for name in ("stem", "head")}
    return file.model_copy(update={
        name: end.model_copy(update={"activation": substitute(end.activation, file)}) for name, end in ends.items()
    })  # fmt: skip


def called(name: str, left_out: Sequence[str]) -> str:
    """The name of a space or a network without some choices: v3_large without se, kernel7."""
    return f"{name}{WITHOUT}{', '.join(left_out)}" if left_out else name


def option_names(file: SpaceFile) -> set[str]:
    """The names of everything that may be left out of a space."""
    fixed = {file.stem.activation, file.head.activation, *(stage.output_activation for stage in file.stages)}
    return (fixed - {"none"}) | {
        name for stage in file.stages for key in KEYS for option in _options(stage, key) if (name := _name(key, option))
    }


def substitute(activation: Activation, space: SpaceFile) -> Activation:
    """The activation, or what takes its place where the space leaves it out."""
    if activation not in space.without:
        return activation
    left = {option for stage in space.stages for option in stage.activation}
    return next((other for other in SUBSTITUTES if other in left), "none")


def _without(stage: Stage, left_out: Sequence[str], where: str) -> Stage:
    if stage.output_activation in left_out:
        raise BadInput(f"--without {stage.output_activation}: {where} has no other output_activation")
    kept: dict[str, tuple[Option, ...]] = {}
    for key in KEYS:
        options = _options(stage, key)
        kept[key] = tuple(option for option in options if _name(key, option) not in left_out)
        if options and not kept[key]:
            names = ",".join(_name(key, option) for option in options)
            raise BadInput(f"--without {names}: {where} has no other {key}; leave it in, or change the space's file")
    return stage.model_copy(update={key: options for key, options in kept.items() if options})


def _options(stage: Stage, key: str) -> tuple[Option, ...]:
    """The options of a stage's choice; none of an expansion without a layer that expands."""
    return () if key == "expansion" and "mbconv" not in stage.operator else getattr(stage, key)


def _name(key: str, option: Option) -> str:
    """The name of an option; empty where it has none: no squeeze-and-excitation, a plain shortcut."""
    match key:
        case "kernel":
            return f"kernel{option}"
        case "expansion":
            return f"expand{option:g}"
        case "se":
            return "se" if option else ""
        case "skip":
            return "pool" if option == "pool" else ""
        case _:
            return "" if option == "none" else str(option)


# --- reference networks


def adapted(arch: Architecture, space: SpaceFile) -> tuple[Architecture, tuple[str, ...]]:
    """`arch` without what the space leaves out, and the names of what it had of that.

    Squeeze-and-excitation is left out; kernels and expansions become the next smaller ones of the space's stage, or
    else the next larger ones; activations become what the stages have: see `substitute`.
    """
    had: set[str] = set()
    channels, stages = arch.stem.channels, []
    for number, row in enumerate(arch.stages):
        options = space.stages[number : number + 1] if len(arch.stages) == len(space.stages) else space.stages
        blocks = []
        for block in row:
            blocks.append(_adapted_block(block, channels, space, options, had))
            channels = block.channels
        stages.append(tuple(blocks))
    changes: dict[str, Any] = {"stages": tuple(stages)}
    for part in ("stem", "head"):
        activation = getattr(arch, part).activation
        if activation in space.without:
            had.add(activation)
            changes[part] = replace(getattr(arch, part), activation=substitute(activation, space))
    names = tuple(name for name in space.without if name in had)
    return (replace(arch, **changes), names) if names else (arch, ())


def _adapted_block(
    block: Block, channels: int, space: SpaceFile, stages: Sequence[Stage], had: set[str]
) -> Block:
    """The block behind this many channels with options of these stages; `had` gets the names of what is left out."""
    changes: dict[str, Any] = {}

    def change(name: str, **values: Any) -> None:
        had.add(name)
        changes.update(values)

    if f"kernel{block.kernel}" in space.without:
        change(f"kernel{block.kernel}", kernel=_next(block.kernel, (k for stage in stages for k in stage.kernel)))
    for key in ("activation", "output_activation"):
        if (activation := getattr(block, key)) in space.without:
            change(activation, **{key: substitute(activation, space)})
    if block.skip == "pool" and "pool" in space.without:
        change("pool", skip="identity")
    left = [float(option) for stage in stages for option in _options(stage, "expansion")]
    expansion = _left_out_expansion(block, channels, left, space.without)
    if expansion is not None and left:
        hidden = hidden_channels(channels, _next(expansion, left))
        change(f"expand{expansion:g}", hidden=hidden)
        ratios = (ratio for stage in stages for ratio in stage.se)
        fitting = (r for r in ratios if squeezed_channels(space, r, channels, block.hidden) == block.se)
        changes["se"] = squeezed_channels(space, next(fitting, block.se / block.hidden), channels, hidden)
    if block.se and "se" in space.without:
        change("se", se=0)
    return replace(block, **changes)


def _left_out_expansion(
    block: Block, channels: int, left: Sequence[float], left_out: Sequence[str]
) -> float | None:
    """The expansion of a block that is left out, where none that is left makes the same block."""
    if block.operator != "mbconv" or any(hidden_channels(channels, option) == block.hidden for option in left):
        return None
    options = [float(name.removeprefix("expand")) for name in left_out if name.startswith("expand")]
    return next((option for option in options if hidden_channels(channels, option) == block.hidden), None)


def _next(value: Number, options: Iterable[Number]) -> Number:
    """The largest option below a value, or else the smallest one."""
    ordered = sorted(options, reverse=True)
    return next((option for option in ordered if option < value), ordered[-1])
