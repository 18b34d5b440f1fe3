"""Choices that a device refuses or runs slowly, found in its latency table: what to leave out of the search."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mnas.latency.table.table import LatencyTable
from mnas.space.cost import layer_madds
from mnas.space.layer import Layer

SLOWER = 2.0
"""A choice is slow if its layers take this many times the milliseconds per multiply-add of the same layers with a
cheaper option: a smaller kernel or expansion, relu, no squeeze-and-excitation. On an x86 CPU every choice of v3_large
takes 0.8 to 1.5 times as much in torch and ONNX Runtime, and so do all in LiteRT but 7x7, which takes 3.9 times."""


@dataclass(frozen=True)
class Suggestion:
    """A choice that a search on this device may leave out."""

    without: str
    """Its name for --without: kernel7."""
    layers: int
    """How many pairs of layers say so; of a refused choice, how many layers failed."""
    slower: float | None = None
    """Milliseconds per multiply-add as a multiple of the other option's; None where the runtime refused layers."""
    than: str = ""
    """What it was compared with: with kernel5, without it."""
    why: str = ""
    """The runtime's message, where it refused layers."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        if self.slower is None:
            reason = f"the runtime failed on {self.layers} layers with {self.without}: {self.why}"
        else:
            reason = f"a multiply-add takes {self.slower:.1f} times as long with {self.without} as {self.than}"
        return {**asdict(self), "reason": reason}


def suggestions(table: LatencyTable, layers: Iterable[Layer] | None = None) -> list[Suggestion]:
    """What to leave out of a search on the table's device: what it refused first, then what it runs slowly.

    Of all layers of the table, or of these. A choice is said only where the table has the same layers without it.
    """
    wanted = None if layers is None else set(layers)
    ran = {layer: ms for layer, ms in table.entries.items() if wanted is None or layer in wanted}
    failed = {layer: why for layer, why in table.failed.items() if wanted is None or layer in wanted}
    refused = _refused(ran, failed) if ran else []
    return refused + _slow(ran, {one.without for one in refused})


def in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line on suggestions as plain data: `suggestion: --without kernel7 (...)`; empty where there are none."""
    names = ",".join(row["without"] for row in rows)
    return f"suggestion: --without {names} ({'; '.join(row['reason'] for row in rows)})" if rows else ""


# --- the options of a layer, by the names that leave them out

_Rest = tuple[str, Layer]
"""A choice, and a layer without what the choice decides: equal for layers that differ in it alone."""


def _choices(layer: Layer) -> dict[_Rest, float | str]:
    """The options that a layer has: a kernel, squeeze-and-excitation, an activation, an expansion, a shortcut."""
    found: dict[_Rest, float | str] = {("activation", replace(layer, activation="none")): layer.activation}
    if layer.operator in ("conv", "sepconv", "mbconv") and not layer.takes_images:
        found["kernel", replace(layer, kernel=1)] = layer.kernel
        found["skip", replace(layer, skip="none")] = layer.skip
    if layer.operator in ("sepconv", "mbconv"):
        found["se", replace(layer, se=0, gate="sigmoid")] = float(layer.se > 0)
    if layer.operator == "mbconv" and layer.hidden % layer.in_channels == 0:
        found["expansion", replace(layer, hidden=0, se=int(layer.se > 0))] = layer.hidden / layer.in_channels
    return found


def _name(choice: str, option: float | str) -> str:
    """The name of an option, as a space has it; of none, what is said of it."""
    if choice in ("kernel", "expansion"):
        return f"{'expand' if choice == 'expansion' else choice}{option:g}"
    if choice == "se":
        return "se" if option else "none"
    return str(option)


def _cheaper(option: float | str, others: Iterable[float | str]) -> list[float | str]:
    """The options that one is compared with: smaller numbers, plainer activations and shortcuts."""
    if isinstance(option, float | int):
        return [other for other in others if isinstance(other, float | int) and other < option]
    plainer = {"hard_swish": ("relu", "relu6"), "pool": ("identity", "none")}.get(option, ())
    return [other for other in others if other in plainer]


def _grouped(layers: Iterable[Layer]) -> dict[_Rest, dict[float | str, Layer]]:
    """The layers that differ in one choice alone, by their options."""
    groups: dict[_Rest, dict[float | str, Layer]] = defaultdict(dict)
    for layer in layers:
        for rest, option in _choices(layer).items():
            groups[rest][option] = layer
    return groups


# --- slow and refused


def _slow(ran: Mapping[Layer, float], known: set[str]) -> list[Suggestion]:
    """The choices that cost too much beside a cheaper one, the slowest first."""
    pairs: dict[tuple[str, str], list[tuple[Layer, Layer]]] = defaultdict(list)
    for (choice, _), options in _grouped(ran).items():
        for option, layer in options.items():
            for other in _cheaper(option, options):
                pairs[_name(choice, option), _name(choice, other)].append((layer, options[other]))
    compared = []
    for (name, than), both in pairs.items():
        slower = _per_madd(ran, [layer for layer, _ in both]) / _per_madd(ran, [other for _, other in both])
        if slower >= SLOWER and name not in known:
            compared.append((slower, name, "without" if than == "none" else f"with {than}", len(both)))
    worst = {name: Suggestion(name, count, round(slower, 2), than) for slower, name, than, count in sorted(compared)}
    return sorted(worst.values(), key=lambda one: -(one.slower or 0))


def _per_madd(ran: Mapping[Layer, float], layers: Iterable[Layer]) -> float:
    layers = list(layers)
    return sum(ran[layer] for layer in layers) / sum(map(layer_madds, layers))


def _refused(ran: Mapping[Layer, float], failed: Mapping[Layer, str]) -> list[Suggestion]:
    """The fewest choices without which no layer failed, as far as choices explain it."""
    groups = _grouped([*ran, *failed])
    ran_with = Counter(_name(choice, option) for layer in ran for (choice, _), option in _choices(layer).items())
    blamed: dict[str, set[Layer]] = defaultdict(set)
    for layer in failed:
        for rest, option in _choices(layer).items():
            name, others = _name(rest[0], option), [other for other in groups[rest].values() if other != layer]
            # the same layer with another option runs; or no layer with this one does, and there is another option
            if _can_be_left_out(rest[0], option) and (
                any(other in ran for other in others) or (others and name not in ran_with)
            ):
                blamed[name].add(layer)
    found = []
    while any(blamed.values()):
        name = max(blamed, key=lambda one: (len(blamed[one]), -ran_with[one], one))
        layers = blamed.pop(name)
        found.append(Suggestion(name, len(layers), why=failed[min(layers, key=str)]))
        blamed = defaultdict(set, {other: rest - layers for other, rest in blamed.items()})
    return found


def _can_be_left_out(choice: str, option: float | str) -> bool:
    return bool(option) and option not in ("none", "identity") and (choice != "skip" or option == "pool")
