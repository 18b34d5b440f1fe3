"""A search space: its networks sampled, varied, enumerated, counted, and as choices."""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from mnas.errors import BadInput
from mnas.io.presets import find_preset
from mnas.io.size import Size, checked_sizes, in_order, size_of
from mnas.io.strict_yaml import load_yaml, validate
from mnas.space.architecture import Architecture
from mnas.space.choices import Choices, Option
from mnas.space.count import count_networks
from mnas.space.dense import LAST_STRIDE, LOW_STRIDES, DenseHead, Outputs
from mnas.space.layer import IMAGE_CHANNELS, Layer
from mnas.space.narrowing import adapted, called, narrowed
from mnas.space.recognise import recognise
from mnas.space.schema import SpaceFile
from mnas.space.walk import Walk, paths, plain_name
from mnas.space.zoo import NETWORKS, kind_of, load_architecture


class SuggestsCategorical(Protocol):
    """The part of an Optuna trial that `SearchSpace.suggest` uses."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any: ...


class SearchSpace:
    """Every network that a search may choose. Choices have names such as `stage3.layer2.kernel`."""

    def __init__(self, file: SpaceFile):
        self.file = file
        self._walk = Walk(file)

    @property
    def name(self) -> str:
        """The space's name, as its file states it, with what is left out: `v3_large without se, kernel7`."""
        return called(self.file.name, self.file.without)

    @property
    def reference(self) -> str:
        """The name of the reference network that results are compared with."""
        return self.file.reference

    @property
    def resolutions(self) -> tuple[Size, ...]:
        """Input sizes in pixels: all squares, or all rectangles of about one shape."""
        return self.file.resolution

    @property
    def largest_resolution(self) -> Size:
        """The largest input size."""
        return in_order(self.resolutions)[-1]

    def with_resolutions(self, resolutions: Iterable[Size]) -> SearchSpace:
        """The same space at other input sizes in pixels. Raises BadInput."""
        sizes = [size if isinstance(size, int) else size_of(size) for size in resolutions]
        return SearchSpace(self.file.model_copy(update={"resolution": checked_sizes(sizes, "--resolution")}))

    def with_width(self, width: float) -> SearchSpace:
        """The same space at one width multiplier."""
        return SearchSpace(self.file.model_copy(update={"width": (width,)}))

    def without(self, names: str | Iterable[str]) -> SearchSpace:
        """The same space without some choices, "se,kernel7": see `mnas.space.narrowing`. Raises BadInput."""
        names = [name.strip() for name in (names.split(",") if isinstance(names, str) else names) if name.strip()]
        return SearchSpace(narrowed(self.file, names)) if names else self

    @property
    def channels(self) -> int:
        """Of the images: 3, or 1 for grey ones."""
        return self.file.image_channels

    def with_channels(self, channels: int) -> SearchSpace:
        """The same space for images of so many channels. Raises BadInput."""
        if channels not in IMAGE_CHANNELS:
            raise BadInput(f"--channels {channels}: expected 3, or 1 for grey images")
        return SearchSpace(self.file.model_copy(update={"image_channels": channels}))

    def with_bn_eps(self, eps: float) -> SearchSpace:
        """The same space with another eps of batch normalisation, that of given weights. Raises BadInput."""
        if not 0 < eps < 1:
            raise BadInput(f"bn_eps {eps}: expected a small number above 0, such as 0.001")
        return SearchSpace(self.file.model_copy(update={"bn_eps": eps}))

    def published(self, name: str) -> Architecture:
        """The network of a name in the zoo, for the images of this space, and of its largest size if none is stated.

        One of the reference's kind has the space's eps of batch normalisation. Raises BadInput.
        """
        arch = load_architecture(name, self.largest_resolution, self.channels)
        of_kind = NETWORKS.path(name) is None and re.split("[@:]", name)[0] in kind_of(self.reference)
        return replace(arch, bn_eps=self.file.bn_eps) if of_kind else arch

    def rival(self, name: str) -> tuple[str, Architecture]:
        """The network of a name in the zoo without the choices that the space leaves out, which its new name says.

        It is the published one where it has none of them. Raises BadInput.
        """
        arch, had = adapted(self.published(name), self.file)
        return called(name, had), arch

    # --- architectures from choices, and back

    def sample(self, rng: random.Random) -> Architecture:
        """A random architecture, each choice drawn uniformly."""
        return self._walk(lambda name, options: rng.choice(options))

    def suggest(self, trial: SuggestsCategorical) -> Architecture:
        """The architecture that an Optuna trial proposes; only choices that exist in it become parameters."""
        return self._walk(trial.suggest_categorical)

    def mutate(self, arch: Architecture, rng: random.Random, rate: float = 0.1) -> Architecture:
        """`arch` with each choice drawn again with probability `rate`; choices that it did not have are drawn too."""

        def drawn(name: str, had: Option | None, options: list[Option]) -> Option:
            if rng.random() >= rate and had is not None and had in options:
                return had
            return rng.choice(options)

        return self.changed(arch, drawn)

    def changed(self, arch: Architecture, choose: Callable[[str, Option | None, list[Option]], Option]) -> Architecture:
        """`arch` with each choice that `choose` makes by its name, what `arch` has there or None, and the options."""
        choices = self.encode(arch)
        return self._walk(lambda name, options: choose(name, choices.get(name), options))

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once; for small spaces."""
        seen: set[Architecture] = set()
        for arch in paths(self._walk):
            if arch not in seen:  # two widths may round to the same channels
                seen.add(arch)
                yield arch

    def encode(self, arch: Architecture) -> Choices:
        """The choices that make `arch`: decode(encode(arch)) == arch. Raises BadInput where it is not in the space."""
        choices = recognise(self._walk, arch)
        if choices is None:
            raise BadInput(f"the architecture {arch.id} is not in space '{self.name}'")
        return choices

    def decode(self, choices: Mapping[str, Option]) -> Architecture:
        """The architecture of these choices; those that do not exist in it are ignored. Raises BadInput."""

        def choose(name: str, options: list[Option]) -> Option:
            if choices.get(name) not in options:
                raise BadInput(f"choice '{name}': expected one of {options}, got {choices.get(name)!r}")
            return choices[name]

        return self._walk(choose)

    def __contains__(self, arch: object) -> bool:
        return isinstance(arch, Architecture) and recognise(self._walk, arch) is not None

    # --- what the space holds

    @functools.cached_property
    def size(self) -> int:
        """The number of different networks."""
        return count_networks(self._walk)

    def choices(self) -> dict[str, list[Option]]:
        """Name -> options of every choice in the deepest network at full width."""

        def choose(name: str, options: list[Option]) -> Option:
            if name.endswith("operator"):
                return "mbconv" if "mbconv" in options else options[-1]
            return max(options) if name.endswith(("width", "depth")) else options[0]

        return self.options(self._walk(choose))

    def options(self, arch: Architecture) -> dict[str, list[Option]]:
        """Name -> options of every choice that exists in `arch`."""
        choices = self.encode(arch)
        options_of: dict[str, list[Option]] = {}

        def choose(name: str, options: list[Option]) -> Option:
            options_of[name] = [*options]
            return choices[name]

        self._walk(choose)
        return options_of

    def layers(self, num_classes: Outputs = 1000) -> set[Layer]:
        """Every layer that a network of the space can have, with a classifier or under a head."""
        layers = self._heads(num_classes) if isinstance(num_classes, DenseHead) else set[Layer]()
        for index in range(1, len(self.file.stages) + 1):
            deciding = (f"stage{index}.", f"stage{index - 1}.channels", "resolution", "width")

            def varies(name: str, deciding: tuple[str, ...] = deciding) -> bool:
                return name.startswith(deciding) and not name.endswith(".depth")

            def deepest(name: str, options: list[Option]) -> Option:
                return max(options) if name.endswith(".depth") else options[0]

            for arch in self._walk.alike(varies, deepest):
                layers.update(arch.layers(num_classes))
        return layers

    def _heads(self, head: DenseHead) -> set[Layer]:
        """The head's layers behind every combination of the feature maps that it reads."""
        stem, strides = self.file.stem.stride, [stage.stride for stage in self.file.stages]
        at = [*itertools.accumulate(strides, int.__mul__, initial=stem)][1:]  # each stage's stride in the image
        low, deep = (at.index(stride) + 1 if stride in at else 0 for stride in (LOW_STRIDES["lraspp"], LAST_STRIDE))
        deciding = {"resolution", "width"} | {f"stage{number}.channels" for number in (low, deep - 1, deep)}
        deciding |= {f"stage{number}.channels" for number, stride in enumerate(at, start=1) if stride == LAST_STRIDE}

        def varies(name: str) -> bool:
            name = plain_name(name)
            expands = name.startswith(f"stage{deep}.") and name.endswith((".operator", ".expansion"))
            return name in deciding or expands

        return {arch.layers(head)[-1] for arch in self._walk.alike(varies, lambda name, options: options[0])}

    # --- extremes

    def argmin(self, f: Callable[[Architecture], float]) -> Architecture:
        """The architecture of smallest f(architecture), by descent: one stage or layer is varied at a time.

        A local search, not a proof: for a sum over layers it rarely misses the minimum, and then by little.
        """
        best = next(self.enumerate())
        smallest = f(best)
        while True:
            start = best
            groups: list[tuple[str, ...]] = [("resolution",)]
            for index, stage in enumerate(start.stages, start=1):
                groups += [("width", f"stage{index}.")] + [(f"stage{index}.layer{n + 1}.",) for n in range(len(stage))]
            for group in groups:
                for arch in self._variants(best, group):
                    value = f(arch)
                    if value < smallest:
                        best, smallest = arch, value
            if best == start:
                return best

    def argmax(self, f: Callable[[Architecture], float]) -> Architecture:
        """The architecture of largest f(architecture); see `argmin`."""
        return self.argmin(lambda arch: -f(arch))

    def _variants(self, arch: Architecture, prefixes: tuple[str, ...]) -> Iterator[Architecture]:
        """`arch` with every combination of the choices whose names have one of these prefixes."""
        choices = {plain_name(name): option for name, option in self.encode(arch).items()}

        def keep(name: str, options: list[Option]) -> Option:
            option = choices.get(plain_name(name))
            return option if option in options else options[0]

        return self._walk.alike(lambda name: name.startswith(prefixes), keep)


def load_space(name: str | Path) -> SearchSpace:
    """A shipped space by name, or a space's YAML file by path. Raises BadInput."""
    path = find_preset("search_spaces", name)
    file = validate(SpaceFile, load_yaml(path), str(path))
    return SearchSpace(file).without(file.without)
