"""Published latency tables in the formats of OFA and ProxylessNAS: YAML, one key a layer with its mean latency."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.errors import BadInput
from mnas.io.size import Size, in_order, shown, sides
from mnas.io.strict_yaml import Positive, Strict, load_yaml, validate
from mnas.space.layer import Layer, round_channels

MAX_BYTES = 8_000_000

NOT_STATED = 1.0e-6
"""The value of a pooling layer where the table includes it in another layer or leaves it out."""


@dataclass(frozen=True)
class Dialect:
    """The keys of one family of tables, one template for each part of a network; empty where it has no such part.

    input and output are HxWxC, hidden the expanded channels, ratio these over the input's; skip, se and hs are 0 or 1.
    """

    name: str
    stem: str
    block: str
    head: str
    pool: str
    hidden: str
    classifier: str
    hard_swish: bool
    """Whether its networks use hard_swish."""

    def key(self, layer: Layer) -> str | None:
        """The key of `layer`; None for a classifier, and for layers that the family's networks do not have."""
        row = self._row(layer)
        hidden = layer.hidden or layer.in_channels
        squeezed = (0, round_channels(hidden / 4)) if "{se}" in row else (0,)
        if not row or layer.se not in squeezed or (layer.activation == "hard_swish" and not self.hard_swish):
            return None
        if layer.dilation > 1:
            return None
        return row.format(
            input=_map(layer.size, layer.in_channels), output=_map(layer.out_size, layer.out_channels),
            hidden=hidden, ratio=f"{hidden / layer.in_channels:g}", kernel=layer.kernel, stride=layer.stride,
            skip=int(layer.skip == "identity"), se=int(layer.se > 0), hs=int(layer.activation == "hard_swish"),
        )  # fmt: skip

    def _row(self, layer: Layer) -> str:
        match layer.operator:
            case "sepconv" | "mbconv" if layer.skip != "pool" and layer.output_activation == "none":
                return self.block
            case "conv" if layer.takes_images and layer.kernel == 3:
                return self.stem
            case "conv" if layer.kernel == 1 and layer.skip == "none":
                return self.head
            case "pool":
                return self.pool
            case "linear" if layer.activation != "none":
                return self.hidden
        return ""

    def pattern(self) -> re.Pattern[str]:
        """Matches every key of this family."""
        rows = filter(None, (self.stem, self.block, self.head, self.pool, self.hidden, self.classifier))
        return re.compile("|".join(re.sub(r"\{\w+\}", r"\\d+(x\\d+x\\d+)?", row) for row in rows))

    def classifiers(self, means: Mapping[str, float]) -> Iterator[tuple[Layer, float]]:
        """The classifiers of a table, for any number of classes and any feature map before their pooling."""
        word = self.classifier.partition("-")[0]
        for key, mean in means.items():
            match = re.fullmatch(rf"{word}-input:(?:\d+x\d+x)?(\d+)-output:(\d+)", key)
            if match:
                yield Layer("linear", 1, int(match[1]), int(match[2])), mean


def _map(size: Size, channels: int) -> str:
    """A feature map as height x width x channels."""
    height, width = sides(size)
    return f"{height}x{width}x{channels}"


DIALECTS = (
    Dialect(
        "OFA",
        stem="Conv-input:{input}-output:{output}",
        block="expanded_conv-input:{input}-output:{output}-expand:{hidden}-kernel:{kernel}-stride:{stride}"
              "-idskip:{skip}-se:{se}-hs:{hs}",
        head="Conv_1-input:{input}-output:{output}",
        pool="AvgPool2D-input:{input}-output:{output}",
        hidden="Conv_2-input:{input}-output:{output}",
        classifier="Logits-input:{input}-output:{classes}",
        hard_swish=True,
    ),
    Dialect(
        "ProxylessNAS",
        stem="Conv-input:{input}-output:{output}",
        block="expanded_conv-input:{input}-output:{output}-expand:{ratio}-kernel:{kernel}-stride:{stride}-idskip:{skip}",
        head="Conv_1-input:{input}-output:{output}",
        pool="",  # in the classifier
        hidden="",
        classifier="Logits-input:{input}-output:{classes}",
        hard_swish=False,
    ),
    # its keys have no activations: in OFA's networks the position decides the activation
    Dialect(
        "MBConv",
        stem="first_conv-input:{input}-output:{output}",
        block="MBConv-input:{input}-output:{output}-expand:{ratio}-kernel:{kernel}-stride:{stride}-idskip:{skip}-se:{se}",
        head="final_expand_layer-input:{input}-output:{output}",
        pool="",
        hidden="feature_mix_layer-input:{input}-output:{output}",
        classifier="classifier-input:{input}-output:{classes}",
        hard_swish=True,
    ),
)  # fmt: skip
_EXAMPLE = Layer("mbconv", 28, 48, 48, kernel=3, hidden=144, activation="relu", skip="identity")


class _Figure(Strict):
    """A table's figures for a layer; only the mean is used."""

    mean: Positive
    count: Any = None
    std: Any = None
    var: Any = None


def read_tables(source: str | Path, layers: Iterable[Layer]) -> dict[Size, dict[Layer, float]]:
    """The figures that published tables have for `layers`, in their own unit, and all their classifiers, by resolution.

    `source` is one file for all resolutions, returned as resolution 0; or a folder with files such as
    224_lookup_table.yaml or .json, of which those for the resolutions of `layers` are read: squares alone.
    """
    layers = list(layers)
    files = _files(Path(source), {layer.size for layer in layers if layer.takes_images})
    return {resolution: dict(_read(path, layers)) for resolution, path in files.items()}


def _files(source: Path, resolutions: set[Size]) -> dict[Size, Path]:
    if not source.is_dir():
        return {0: source}
    names = ((re.fullmatch(r"(\d+)_lookup_table\.(?:ya?ml|json)", path.name), path) for path in source.iterdir())
    files: dict[Size, Path] = {int(name[1]): path for name, path in names if name}
    if not files:
        raise BadInput(f"{source}: has no latency table; expected files such as 224_lookup_table.yaml")
    chosen = {size: files[size] for size in in_order(files) if size in resolutions}
    if not chosen:
        there, wanted = (", ".join(map(shown, in_order(sizes))) for sizes in (files, resolutions))
        raise BadInput(f"{source}: has tables for resolutions {there}, not for {wanted}: choose with --resolution")
    return chosen


def _read(path: Path, layers: list[Layer]) -> Iterator[tuple[Layer, float]]:
    means = _means(path)
    strange = {}
    for dialect in DIALECTS:
        matches = dialect.pattern().fullmatch
        strange[dialect] = [key for key in means if not matches(key)]
    dialect = min(DIALECTS, key=lambda dialect: len(strange[dialect]))
    if strange[dialect]:
        key, example = strange[dialect][0], dialect.key(_EXAMPLE)
        raise BadInput(f"{path}: key '{key}' is not a key of {dialect.name}'s tables; expected one such as '{example}'")
    keys = ((layer, dialect.key(layer)) for layer in layers)
    rows = [(layer, means[key]) for layer, key in keys if key in means]
    yield from rows
    yield from dialect.classifiers(means)
    if rows and not dialect.pool:
        yield from ((layer, NOT_STATED) for layer in layers if layer.operator == "pool")


def _means(path: Path) -> dict[str, float]:
    data = load_yaml(path, MAX_BYTES)
    if not isinstance(data, dict) or not data:
        raise BadInput(f"{path}: not a latency table; expected keys such as '{DIALECTS[0].key(_EXAMPLE)}' with a mean")
    return {str(key): validate(_Figure, figure, f"{path}: key '{key}'").mean for key, figure in data.items()}
