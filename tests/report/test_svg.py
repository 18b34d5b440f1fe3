"""Elements are escaped; axes have round numbers; points are where they belong."""

from __future__ import annotations

import pytest

from mnas.report.svg import BOTTOM, LEFT, RIGHT, TOP, Axis, Frame, tag


def test_texts_and_attributes_are_escaped() -> None:
    made = tag("text", "<b>&", class_='a"b', aria_label="<script>", x=1.25, y=None)
    assert made == '<text class="a&#34;b" aria-label="&lt;script&gt;" x="1.2">&lt;b&gt;&amp;</text>'
    assert tag("g", made) == f"<g>{made}</g>", "an element is not escaped again"


@pytest.mark.parametrize(("low", "high", "ticks"), [
    (0, 10, [0, 2, 4, 6, 8, 10]), (0.3, 1.1, [0.4, 0.6, 0.8, 1.0]), (96.2, 96.9, [96.2, 96.4, 96.6, 96.8]),
    (-3, 40, [0, 10, 20, 30, 40]),
])  # fmt: skip
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert Axis("", low, high).ticks() == pytest.approx(ticks)


def test_whole_numbers_have_whole_ticks() -> None:
    assert Axis.over("epoch", [1, 2, 3], whole=True).ticks() == [1, 2, 3]


@pytest.mark.parametrize("values", [[], [5.0], [5.0, 5.0], [0.0, 0.0]])
@pytest.mark.parametrize("whole", [False, True])
def test_an_axis_of_one_value_has_a_width(values: list[float], whole: bool) -> None:
    axis = Axis.over("", values, whole)
    assert axis.high - axis.low >= 0.1 and len(axis.ticks()) == len({f"{tick:.6g}" for tick in axis.ticks()})


def test_no_axis_goes_above_its_most() -> None:
    assert Axis.over("accuracy", [90.0, 100.0], most=100).high == 100
    assert Axis.over("accuracy", [100.0], most=100).low == 90


def test_points_lie_in_the_frame() -> None:
    frame = Frame(Axis("", 0, 10), Axis("", 0, 1), 500, 300)
    assert frame.at(0, 0) == (LEFT, 300 - BOTTOM)
    assert frame.at(10, 1) == (500 - RIGHT, TOP)
