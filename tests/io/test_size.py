"""Sizes: a square is a number, a rectangle (height, width); as options and files write them."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnas.errors import BadInput
from mnas.io.size import (
    Size,
    SizeField,
    checked_sizes,
    in_order,
    pixels,
    shown,
    sides,
    size_of,
    sized,
    strided,
    written,
)
from mnas.io.strict_yaml import Strict, validate

SIDES = st.integers(1, 5000)


@given(SIDES, SIDES)
def test_text_and_pairs_give_it_back(height: int, width: int) -> None:
    size = sized(height, width)
    assert isinstance(size, int) == (height == width)
    assert size == size_of(size) == size_of(shown(size)) == size_of(written(size)) == size_of([height, width])
    assert (sides(size), pixels(size)) == ((height, width), height * width)


@given(SIDES, SIDES, st.sampled_from([1, 2]))
def test_strides_round_up(height: int, width: int, stride: int) -> None:
    assert sides(strided(sized(height, width), stride)) == (-(-height // stride), -(-width // stride))


def test_squares_are_numbers() -> None:
    assert [size_of(value) for value in (96, "96", "96x96", (96, 96), [96, 96])] == [96] * 5
    assert [size_of(value) for value in ("96x160", " 96X160 ", [96, 160], (96, 160))] == [(96, 160)] * 4
    assert (written(96), written((96, 160)), shown(96)) == (96, "96x160", "96")


@pytest.mark.parametrize("value", ["", "x", "96x", "96x160x3", "0", "0x60", "-96x160", "9.5", 9.5, True, None, [96],
                                   [96, 0], [96, 1.5], [96, 160, 3], ["96", 160]])  # fmt: skip
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(BadInput, match="HEIGHTxWIDTH"):
        size_of(value)


def test_order_goes_by_height() -> None:
    assert in_order([(120, 200), 96, (96, 160), 130]) == [96, (96, 160), (120, 200), 130]


@pytest.mark.parametrize("sizes", [(160,), (8, 224), ((96, 160),), ((96, 160), (128, 224)), ((9, 8), (18, 16))])
def test_sizes_that_go_together(sizes: tuple[Size, ...]) -> None:
    assert checked_sizes(sizes, "--resolution") == sizes


@pytest.mark.parametrize(("sizes", "words"), [
    ((), "different sizes of at least 8"), ((7,), "at least 8"), ((7, 100), "at least 8"), (((100, 7),), "at least 8"),
    ((96, 96), "different"), ((96, (96, 160)), "squares alone"), (((96, 160), (160, 96)), "one shape"),
    (((96, 160), (96, 170)), "one shape"),
])  # fmt: skip
def test_sizes_that_do_not(sizes: tuple[Size, ...], words: str) -> None:
    with pytest.raises(BadInput, match=f"^--resolution .*{words}"):
        checked_sizes(sizes, "--resolution")


class Sized(Strict):
    size: Annotated[Size, SizeField(8)]
    others: tuple[Annotated[Size, SizeField()], ...] = ()


@pytest.mark.parametrize("size", [96, (96, 160)])
def test_a_field_is_written_and_read(size: Size) -> None:
    model = Sized(size=size, others=(size, 3))
    for data in (model.model_dump(), model.model_dump(mode="json"), {"size": size, "others": [size, 3]}):
        assert validate(Sized, data, "x") == model
    assert model.model_dump_json() == f'{{"size":{size},"others":[{size},3]}}'.replace("(96, 160)", '"96x160"')


@pytest.mark.parametrize(("size", "words"), [
    (7, "greater than or equal to 8, got 7"), ("96", "valid integer"), (9.5, "valid integer"), ("9x7", "at least 8"),
    ([96], "HEIGHTxWIDTH"), ("x", "HEIGHTxWIDTH"), ([96, None], "HEIGHTxWIDTH"),
])  # fmt: skip
def test_a_field_says_what_is_wrong(size: object, words: str) -> None:
    with pytest.raises(BadInput, match=f"x: size: should be .*{words}|x: size: should have .*{words}"):
        validate(Sized, {"size": size}, "x")
