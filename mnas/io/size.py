"""The size of images and feature maps in pixels: a square's side, or a rectangle's height and width."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pydantic
from pydantic_core import CoreSchema, core_schema

from mnas.errors import BadInput

Size = int | tuple[int, int]
"""A square's side, or (height, width) of a rectangle, which differ: equal sizes are equal objects."""

SMALLEST = 8
"""Least side of a network's images."""
ALIKE = 1.05
"""The shapes (height over width) of sizes that are used together differ by no larger factor."""
EXPECTED = "a number of pixels, or HEIGHTxWIDTH, such as 96x160"


def sides(size: Size) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size


def sized(height: int, width: int) -> Size:
    """The size with these sides: a number where they are equal."""
    return height if height == width else (height, width)


def size_of(value: Any) -> Size:
    """The size in 96, "96", "96x160" or [96, 160]. Raises BadInput."""
    if _is_side(value):
        return int(value)
    both = value
    if isinstance(value, str):
        match = re.fullmatch(r"([1-9]\d{0,8})(?:[xX]([1-9]\d{0,8}))?", value.strip())
        both = [int(side or match[1]) for side in match.groups()] if match else value
    if not isinstance(both, list | tuple) or len(both) != 2 or not all(map(_is_side, both)):
        raise BadInput(f"size {value}: expected {EXPECTED}")
    return sized(*both)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def shown(size: Size) -> str:
    """Such as 96, or 96x160 for a height of 96 and a width of 160."""
    return str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"


def written(size: Size) -> int | str:
    """As files have it: a number, or text such as 96x160; `size_of` is the inverse."""
    return size if isinstance(size, int) else shown(size)


def pixels(size: Size) -> int:
    """Height times width."""
    height, width = sides(size)
    return height * width


def strided(size: Size, stride: int) -> Size:
    """The size behind a layer of this stride."""
    if isinstance(size, int):
        return -(-size // stride)
    return sized(-(-size[0] // stride), -(-size[1] // stride))


def in_order(sizes: Iterable[Size]) -> list[Size]:
    """Ascending by height, then width."""
    return sorted(sizes, key=sides)


def checked_sizes(sizes: Iterable[Size], source: str) -> tuple[Size, ...]:
    """Input sizes that networks of one space may have; BadInput, beginning with `source`, for any others."""
    sizes = tuple(sizes)
    text = f"{source} {','.join(map(shown, sizes))}"
    if not sizes or len(set(sizes)) != len(sizes) or min(min(sides(size)) for size in sizes) < SMALLEST:
        raise BadInput(f"{text}: expected different sizes of at least {SMALLEST} pixels, such as 160,192,224")
    shapes = [height / width for height, width in map(sides, sizes)]
    if len({isinstance(size, int) for size in sizes}) > 1 or max(shapes) > ALIKE * min(shapes) * (1 + 1e-9):
        raise BadInput(
            f"{text}: expected either squares alone, such as 160,192, or rectangles of one shape (up to "
            f"{ALIKE - 1:.0%}), such as 96x160,120x200"
        )
    return sizes


class SizeField:
    """Marks a field of a pydantic model or dataclass as a size: a number as everywhere, HEIGHTxWIDTH, or a pair."""

    def __init__(self, least: int | None = None):
        self._least = least

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            self._validated, core_schema.int_schema(ge=self._least),
            serialization=core_schema.plain_serializer_function_ser_schema(written),
        )  # fmt: skip

    def _validated(self, value: Any, square: pydantic.ValidatorFunctionWrapHandler) -> Size:
        if not isinstance(value, list | tuple) and not (isinstance(value, str) and "x" in value.lower()):
            side: int = square(value)
            return side
        try:
            size = size_of(value)
        except BadInput:
            raise ValueError(f"should be {EXPECTED}") from None
        if min(sides(size)) < (self._least or 1):
            raise ValueError(f"should have sides of at least {self._least} pixels")
        return size
