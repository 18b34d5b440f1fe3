"""Inputs near valid ones: bytes, texts and data with a few changes."""

from __future__ import annotations

import copy
import math
from typing import Any

from hypothesis import strategies as st

MOST_CHANGES = 4
WORDS = st.sampled_from([
    *("", "~", "null", "yes", "1e3", "-1", "0x1F", ".inf", "nan", "2026-01-31", "!!binary a", "&a", "*a", "<<"),
    *("[", "{", "- ", "? ", "|", "\t", "\0", "\ufeff", "\ud7ff", "\u2028", "'", '"', "#", "%", "../../x", "${HOME}"),
    *("[" * 100_000, "{a: " * 20_000, '{"a":' * 20_000, "x" * 1_100_000),
])  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.sampled_from([2**31, 2**63, -(2**64), 10**40]),
    st.floats(allow_nan=True, allow_infinity=True), WORDS, st.text(max_size=20),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@st.composite
def changed_bytes(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with bytes changed, lost, repeated or cut off."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, MOST_CHANGES))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["flip", "cut", "lose", "repeat", "insert", "extreme"])):
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[at:]
            case "lose":
                del content[at : at + length]
            case "repeat":
                content[at:at] = content[at : at + length] * draw(st.integers(1, 4))
            case "insert":
                content[at:at] = draw(st.binary(max_size=16))
            case _:
                content[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"]))
    return bytes(content)


@st.composite
def changed_text(draw: st.DrawFn, seeds: tuple[str, ...]) -> str:
    """A seed with words put in, and parts lost or repeated."""
    text = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, MOST_CHANGES))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(1, 40))
        match draw(st.sampled_from(["insert", "lose", "repeat", "any"])):
            case "insert":
                text = text[:at] + draw(WORDS) + text[at:]
            case "lose":
                text = text[:at] + text[at + length :]
            case "repeat":
                text = text[:at] + text[at : at + length] * draw(st.integers(2, 30)) + text[at + length :]
            case _:
                text = text[:at] + draw(st.text(max_size=8)) + text[at:]
    return text


@st.composite
def changed_data(draw: st.DrawFn, seeds: tuple[Any, ...]) -> Any:
    """A seed, mappings and lists inside each other, with values replaced, lost, doubled, or put in."""
    data = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, MOST_CHANGES))):
        places = _places(data)
        inside, key = draw(st.sampled_from(places)) if places else (None, None)
        match draw(st.sampled_from(["replace", "replace", "near", "lose", "put in", "deep"])):
            case "replace" if inside is not None:
                inside[key] = draw(VALUES)
            case "near" if inside is not None and isinstance(inside[key], int | float):
                inside[key] = draw(st.sampled_from([0, -inside[key], inside[key] + 1, 1000 * inside[key], math.inf]))
            case "lose" if inside is not None:
                del inside[key]
            case "deep" if inside is not None:
                for _ in range(draw(st.sampled_from([2, 40]))):
                    inside[key] = [inside[key]]
            case _ if isinstance(inside, dict):
                inside[draw(st.text(max_size=8))] = draw(VALUES)
            case _ if isinstance(inside, list):
                inside.insert(key, draw(VALUES))
    return data


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every mapping or list inside `data` with each of its keys; not those that are very deep."""
    found, open_ = list[tuple[Any, Any]](), [(data, 0)]
    while open_:
        part, depth = open_.pop()
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        found += [(part, key) for key in keys]
        open_ += [(part[key], depth + 1) for key in keys if depth < 12]
    return found
