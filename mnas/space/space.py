"""A search space: choices that make an architecture, and the walk that makes it."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mnas.errors import BadInput
from mnas.io.presets import find_preset
from mnas.io.strict_yaml import load_yaml, validate
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.choices import (
    LAYER_CHOICES,
    Choose,
    Genes,
    Option,
    cached_block,
    distinct_options,
    exists,
    first_fitting,
    hidden_channels,
)
from mnas.space.layer import Layer, round_channels
from mnas.space.schema import SpaceFile, Stage
from mnas.space.walk import paths, pick, plain_name


class Trial(Protocol):
    """What `suggest` needs of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any: ...


class SearchSpace:
    """Every network that may be found. Choices have names such as `stage3.layer2.kernel`."""

    def __init__(self, file: SpaceFile):
        self.file = file
        self._own = tuple(choice for choice in LAYER_CHOICES if choice not in file.shared)
        # what `distinct_options` said of a layer's choice: few questions, asked anew for every network
        self._offers: dict[tuple[Any, ...], tuple[str, list[Option]]] = {}

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def reference(self) -> str:
        """The name of the zoo's network to compare with."""
        return self.file.reference

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Input sizes in pixels."""
        return self.file.resolution

    def with_resolutions(self, resolutions: tuple[int, ...]) -> SearchSpace:
        """The same space at other input sizes."""
        if not resolutions or len(set(resolutions)) != len(resolutions) or min(resolutions) < 8:
            sizes = ",".join(map(str, resolutions))
            raise BadInput(f"--resolution {sizes}: expected different sizes of at least 8 pixels, such as 160,192,224")
        return SearchSpace(self.file.model_copy(update={"resolution": tuple(resolutions)}))

    # --- architectures out of choices

    def decode(self, genes: Mapping[str, Option]) -> Architecture:
        """The architecture of these choices; choices that do not exist in it are ignored."""

        def read(name: str, options: list[Option]) -> Option:
            if genes.get(name) not in options:
                raise BadInput(f"choice '{name}': expected one of {options}, got {genes.get(name)!r}")
            return genes[name]

        return self._walk(read)

    def suggest(self, trial: Trial) -> Architecture:
        """The architecture that an Optuna trial proposes; only choices that exist become its parameters."""
        return self._walk(trial.suggest_categorical)

    def sample(self, rng: random.Random) -> Architecture:
        """A random architecture, each choice drawn uniformly."""
        return self._walk(lambda name, options: rng.choice(options))

    def mutate(self, arch: Architecture, rng: random.Random, rate: float = 0.1) -> Architecture:
        """`arch` with each choice drawn anew with probability `rate`; what newly exists is drawn at random."""
        genes = self.encode(arch)

        def vary(name: str, options: list[Option]) -> Option:
            keep = rng.random() >= rate and genes.get(name) in options
            return genes[name] if keep else rng.choice(options)

        return self._walk(vary)

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once; for small spaces."""
        seen: set[Architecture] = set()
        for arch in paths(self._walk):
            if arch not in seen:  # two widths may round to the same channels
                seen.add(arch)
                yield arch

    def encode(self, arch: Architecture) -> Genes:
        """The choices that make `arch`, so that decode(encode(arch)) == arch; BadInput where it is not in the space."""
        for width in self.file.width:
            genes = self._genes(arch, width)
            if genes is not None:
                return genes
        raise BadInput(f"the architecture is not in space '{self.name}'")

    def __contains__(self, arch: object) -> bool:
        try:
            return isinstance(arch, Architecture) and bool(self.encode(arch) or True)
        except BadInput:
            return False

    def fastest(self, latency: Callable[[Architecture], float], slowest: bool = False) -> Architecture:
        """The architecture of least (or greatest) latency, improving a stage or a layer at a time until none helps.

        A search, not a proof: where a latency is a sum over layers it is rarely missed, and then by little.
        """
        sign = -1 if slowest else 1
        best = next(self.enumerate())
        best_ms = sign * latency(best)
        while True:
            before = best
            groups: list[tuple[str, ...]] = [("resolution",)]
            for index, row in enumerate(before.stages, start=1):
                groups += [("width", f"stage{index}.")] + [(f"stage{index}.layer{n + 1}.",) for n in range(len(row))]
            for group in groups:
                for other in self._varied(best, group):
                    other_ms = sign * latency(other)
                    if other_ms < best_ms:
                        best, best_ms = other, other_ms
            if best == before:
                return best

    def _varied(self, arch: Architecture, group: tuple[str, ...]) -> Iterator[Architecture]:
        """`arch` with every combination of the choices whose names start so."""
        known = {plain_name(name): option for name, option in self.encode(arch).items()}

        def keep(name: str, options: list[Option]) -> Option:
            return known[plain_name(name)] if known.get(plain_name(name)) in options else options[0]

        return self._alike(lambda name: name.startswith(group), keep)

    def _alike(self, varies: Callable[[str], bool], answer: Choose) -> Iterator[Architecture]:
        """Every architecture over the choices that vary, each stage's layers alike; `answer` decides the others."""

        def walk(choose: Choose) -> Architecture:
            answers: dict[str, Option] = {}

            def alike(name: str, options: list[Option]) -> Option:
                if not varies(name):
                    return answer(name, options)
                # layers with other options, as the first may have, answer for themselves
                key = f"{name.partition('.')[0]}.{plain_name(name).rpartition('.')[2]}{options}"
                if key not in answers:
                    answers[key] = choose(name, options)
                return answers[key]

            return self._walk(alike)

        return paths(walk)

    # --- what the space holds

    @functools.cached_property
    def size(self) -> int:
        """The number of different networks."""
        total = 0
        alike: dict[tuple[int, Head], frozenset[float]] = {}
        for width in self.file.width:
            ends = (round_channels(self.file.stem.channels * width), self._head(width))
            alike[ends] = alike.get(ends, frozenset()) | {width}
        for (stem, _), widths in alike.items():
            # ways to reach each number of channels after the stages so far, with the widths that give these channels
            ways = {(stem, widths): 1}
            for index, stage in enumerate(self.file.stages, start=1):
                after: dict[tuple[int, frozenset[float]], int] = {}
                for (channels, able), count in ways.items():
                    reached: dict[int, frozenset[float]] = {}
                    for width, wide in itertools.product(able, stage.channels):
                        out = round_channels(wide * width)
                        reached[out] = reached.get(out, frozenset()) | {width}
                    for state in reached.items():
                        rows = sum(self._stage_size(index, channels, state[0], depth) for depth in stage.depth)
                        after[state] = after.get(state, 0) + count * rows
                ways = after
            total += sum(ways.values())
        return total * len(self.file.resolution)

    def choices(self) -> dict[str, list[Option]]:
        """Name -> options of every choice in the deepest network at full width."""

        def richest(name: str, options: list[Option]) -> Option:
            if name.endswith("operator"):
                return "mbconv" if "mbconv" in options else options[-1]
            return max(options) if name.endswith(("width", "depth")) else options[0]

        return self.options(self._walk(richest))

    def layers(self, num_classes: int = 1000) -> set[Layer]:
        """Every layer that a network of the space can have."""
        found: set[Layer] = set()
        for index in range(1, len(self.file.stages) + 1):
            mine = (f"stage{index}.", f"stage{index - 1}.channels", "resolution", "width")

            def varies(name: str, mine: tuple[str, ...] = mine) -> bool:
                return name.startswith(mine) and not name.endswith(".depth")

            def deepest(name: str, options: list[Option]) -> Option:
                return max(options) if name.endswith(".depth") else options[0]

            for arch in self._alike(varies, deepest):
                found.update(arch.layers(num_classes))
        return found

    # --- the walk

    def _walk(self, choose: Choose) -> Architecture:
        """One architecture, asking `choose` for each choice that exists in it."""
        space = self.file
        resolution = int(pick(choose, "resolution", "", [*space.resolution]))
        width = float(pick(choose, "width", "", [*space.width]))
        channels = round_channels(space.stem.channels * width)
        stem = Block("conv", space.stem.kernel, space.stem.stride, channels, space.stem.activation)
        stages = []
        for index, stage in enumerate(space.stages, start=1):
            name = f"stage{index}"
            wide: dict[Option, int] = {c: round_channels(c * width) for c in stage.channels}
            out = wide[pick(choose, f"{name}.channels", *distinct_options(wide))]
            depth = int(pick(choose, f"{name}.depth", "", [*stage.depth]))
            inputs = (channels,) + (out,) * (depth - 1)
            strides = (int(stage.stride),) + (1,) * (depth - 1)
            common = self._ask(choose, name, index, space.shared, inputs, strides, out)
            blocks = []
            for number in range(depth):
                layer, at = f"{name}.layer{number + 1}", slice(number, number + 1)
                genes = self._ask(choose, layer, index, self._own, inputs[at], strides[at], out, common)
                blocks.append(self._block(stage, genes, inputs[number], strides[number], out))
            stages.append(tuple(blocks))
            channels = out
        return Architecture(resolution, stem, tuple(stages), self._head(width), space.gate, space.bn_eps)

    def _ask(
        self, choose: Choose, prefix: str, index: int, which: tuple[str, ...], inputs: tuple[int, ...],
        strides: tuple[int, ...], out: int, known: Mapping[str, Option] | None = None,
    ) -> Genes:  # fmt: skip
        """Choices `which` for layers of these input channels and strides, beside those already known."""
        genes: Genes = dict(known or {})
        for choice in LAYER_CHOICES:
            if choice in which and exists(choice, genes):
                question = (index, choice, float(genes.get("expansion", 1)), inputs, strides, out)
                if question not in self._offers:
                    self._offers[question] = distinct_options(self._effects(*question))
                genes[choice] = pick(choose, f"{prefix}.{choice}", *self._offers[question])
        return genes

    def _effects(
        self, index: int, choice: str, expansion: float, inputs: tuple[int, ...], strides: tuple[int, ...], out: int
    ) -> dict[Option, Any]:
        """Option -> what it makes of the layers; options of equal effect are one choice."""
        stage = self.file.stages[index - 1]
        options: tuple[Option, ...] = getattr(stage, choice)
        if choice == "operator" and {"sepconv", "mbconv"} <= set(options):
            flat = all(hidden_channels(c, expansion) == c for c in inputs for expansion in stage.expansion)
            return {option: "sepconv" if option == "mbconv" and flat else option for option in options}
        if choice == "expansion":
            hidden_of = {option: tuple(hidden_channels(c, float(option)) for c in inputs) for option in options}
            # beside sepconv, an mbconv that does not expand is not a choice of its own
            wider = {option: hidden for option, hidden in hidden_of.items() if hidden != inputs}
            return wider if wider and "sepconv" in stage.operator else hidden_of
        if choice == "se":
            hidden = [hidden_channels(c, expansion) for c in inputs]
            return {option: self._squeezed(float(option), inputs, hidden) for option in options}
        if choice == "skip":
            same = any(stride == 1 and c == out for c, stride in zip(inputs, strides, strict=True))
            return {option: "none" if option == "identity" and not same else option for option in options}
        return {option: option for option in options}

    def _squeezed(self, ratio: float, inputs: Sequence[int], hidden: list[int]) -> list[int]:
        if self.file.se_of == "input":
            return [round(c * ratio) for c in inputs]
        return [round_channels(c * ratio) if ratio else 0 for c in hidden]

    def _block(self, stage: Stage, genes: Genes, channels: int, stride: int, out: int) -> Block:
        operator: Any = genes["operator"]
        hidden = hidden_channels(channels, float(genes.get("expansion", 1))) if operator == "mbconv" else 0
        se = self._squeezed(float(genes.get("se", 0)), [channels], [hidden or channels])[0]
        activation: Any = genes["activation"]
        skip: Any = genes["skip"]
        kernel, output = int(genes["kernel"]), stage.output_activation
        return cached_block(operator, kernel, stride, out, activation, hidden, se, skip, output)

    def _head(self, width: float) -> Head:
        head = self.file.head
        channels = head.channels
        if head.channels and head.scale != "fixed":
            scaled = round_channels(head.channels * width)
            channels = max(head.channels, scaled) if head.scale == "wider_only" else scaled
        return Head(channels, head.hidden, head.activation)

    # --- the inverse

    def _genes(self, arch: Architecture, width: float) -> Genes | None:
        """The choices that make `arch` at this width, or None."""
        genes: Genes = {}

        def recognise(name: str, options: list[Option]) -> Option:
            found = self._recognise(arch, width, name, options)
            if found is None:
                raise BadInput(name)
            genes[name] = found
            return found

        try:
            return genes if self._walk(recognise) == arch else None
        except (BadInput, IndexError):
            return None

    def _recognise(self, arch: Architecture, width: float, name: str, options: list[Option]) -> Option | None:
        """The option of choice `name` that `arch` shows."""
        if name == "resolution":
            return arch.resolution if arch.resolution in options else None
        if name.startswith("width"):
            return width if width in options else None
        stage_name, _, rest = plain_name(name).partition(".")
        index = int(stage_name.removeprefix("stage")) - 1
        blocks = arch.stages[index]
        if rest == "depth":
            return len(blocks) if len(blocks) in options else None
        if rest == "channels":
            return first_fitting(options, lambda option: round_channels(float(option) * width) == blocks[-1].channels)
        layer, _, choice = rest.rpartition(".")
        # a shared choice is the option that fits every layer of the stage
        numbers = [int(layer.removeprefix("layer")) - 1] if layer else range(len(blocks))
        before = arch.stages[index - 1][-1].channels if index else arch.stem.channels
        shown = [(blocks[n], blocks[n - 1].channels if n else before) for n in numbers]
        stage = self.file.stages[index]
        if choice == "operator":  # an mbconv may show as a sepconv, and is not meant where sepconv is an option
            options = sorted(options, key=lambda option: option == "mbconv")
        return first_fitting(options, lambda option: all(self._fits(stage, choice, option, *block) for block in shown))

    def _fits(self, stage: Stage, choice: str, option: Option, block: Block, channels: int) -> bool:
        """Whether a block with this many input channels may come of an option."""
        match choice:
            case "operator":
                flat = any(hidden_channels(channels, expansion) == channels for expansion in stage.expansion)
                return option == block.operator or (option == "mbconv" and block.operator == "sepconv" and flat)
            case "expansion":
                return hidden_channels(channels, float(option)) == (block.hidden or channels)
            case "se":
                return self._squeezed(float(option), [channels], [block.hidden or channels])[0] == block.se
            case "skip":
                same = block.stride == 1 and channels == block.channels
                return bool(block.skip == ("none" if option == "identity" and not same else option))
            case other:
                return bool(getattr(block, other) == option)

    def options(self, arch: Architecture) -> dict[str, list[Option]]:
        """Name -> options of every choice that exists in `arch`."""
        genes = self.encode(arch)
        seen: dict[str, list[Option]] = {}

        def note(name: str, options: list[Option]) -> Option:
            seen[name] = [*options]
            return genes[name]

        self._walk(note)
        return seen

    def _stage_size(self, index: int, channels: int, out: int, depth: int) -> int:
        """The number of different stages of this depth between these channels."""
        stage = self.file.stages[index - 1]
        inputs = (channels,) + (out,) * (depth - 1)
        strides = (int(stage.stride),) + (1,) * (depth - 1)

        def count(which: tuple[str, ...], at: slice, known: Mapping[str, Option]) -> Iterator[Genes]:
            return paths(lambda choose: self._ask(choose, "", index, which, inputs[at], strides[at], out, known))

        total = 0
        for common in count(self.file.shared, slice(None), {}):
            total += math.prod(sum(1 for _ in count(self._own, slice(i, i + 1), common)) for i in range(depth))
        return total


def load_space(name: str | Path) -> SearchSpace:
    """A shipped space by name, or the path of a YAML file of one's own."""
    path = find_preset("search_spaces", name)
    return SearchSpace(validate(SpaceFile, load_yaml(path), str(path)))
















