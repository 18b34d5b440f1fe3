"""The charts of a report: the front, lines over epochs, predicted against measured latency, the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from mnas.monitor.confusion import MOST_NUMBERED, short_names, shown_classes
from mnas.report.latency import Compared
from mnas.report.svg import Axis, Frame, label, picture, tag

COLOURS = 6
"""Line colours of the style sheet; further lines begin again with the first one."""
LEAST_WIDTH = 300
"""Of a confusion matrix, so that one of few classes is not blown up."""
MOST_POINTS = 800
"""Of more trials, those behind the front are drawn at even distances."""


@dataclass(frozen=True)
class Point:
    """A trial in the picture of the front."""

    latency_ms: float
    value: float
    """Accuracy in percent, or a score."""
    kind: str
    """A class of the style sheet: trial, front, reference, chosen, random."""
    words: str
    """What is said of it when it is pointed at."""
    command: str = ""
    """What hands it over."""
    published: bool = False
    """Whether it is a published network, on the front or behind it."""


def front_chart(points: Sequence[Point], budgets_ms: Sequence[float], value_title: str) -> Markup:
    """Every trial by latency and estimate, the front as steps, the budgets as lines."""
    frame = Frame(
        Axis.over("latency in the search (ms)", [*(one.latency_ms for one in points), *budgets_ms]),
        Axis.over(value_title, [one.value for one in points], most=_most(value_title)),
    )
    front = sorted((one for one in points if one.kind == "front"), key=lambda one: one.latency_ms)
    parts = frame.axes()
    for ms in budgets_ms:
        (x, top), (_, low) = frame.at(ms, frame.y.high), frame.at(ms, frame.y.low)
        parts += [tag("path", d=f"M{x:.1f} {top:.1f}V{low:.1f}", class_="budget"),
                  label(x - 4, low - 6, f"{ms:g} ms", "end", "tick")]  # fmt: skip
    if front:
        steps = [(front[0].latency_ms, front[0].value)]
        for one in front[1:]:
            steps += [(one.latency_ms, steps[-1][1]), (one.latency_ms, one.value)]
        parts.append(tag("path", d=frame.path(steps), class_="steps"))
    order = ("random", "trial", "reference", "front")
    parts += [_mark(one, frame) for one in sorted(_thinned(points), key=lambda one: order.index(one.kind))]
    said = f"{len(points)} trials by latency and {value_title}; the {len(front)} on the Pareto front are in the table"
    return picture(frame.width, frame.height, said, parts)


def _most(title: str) -> float:
    """The largest value of an axis."""
    return 100.0 if title.endswith("(%)") else math.inf


def _thinned(points: Sequence[Point]) -> list[Point]:
    behind = [one for one in points if one.kind in ("trial", "random")]
    kept = behind[:: -(-len(behind) // MOST_POINTS) or 1]
    return [*kept, *(one for one in points if one.kind not in ("trial", "random"))]


def _mark(point: Point, frame: Frame) -> Markup:
    x, y = frame.at(point.latency_ms, point.value)
    title, kind = tag("title", "\n".join(filter(None, [point.words, point.command]))), f"point {point.kind}"
    if point.published:
        return tag("path", title, d=f"M{x:.1f} {y - 6.5:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z", class_=kind)
    return tag("circle", title, cx=x, cy=y, r=5.5 if point.kind == "front" else 4, class_=kind)


# --- lines


@dataclass(frozen=True)
class Line:
    """A named line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    drawn: bool = True
    """Whether its points are marked."""


@dataclass(frozen=True)
class Chart:
    """A picture with the names of its lines, each with a class of the style sheet."""

    svg: Markup
    legend: Sequence[tuple[str, str]] = ()


def lines_chart(lines: Sequence[Line], x_title: str, y_title: str, alternative: str) -> Chart | None:
    """Lines over whole numbers, such as epochs; None where no line has a point."""
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    frame = Frame(
        Axis.over(x_title, [x for line in lines for x, _ in line.points], whole=True),
        Axis.over(y_title, [y for line in lines for _, y in line.points], most=_most(y_title)), height=260,
    )  # fmt: skip
    parts, legend = frame.axes(), []
    for index, line in enumerate(lines):
        colour = f"line{index % COLOURS}"
        legend.append((line.name, colour))
        if len(line.points) > 1:
            parts.append(tag("path", d=frame.path(line.points), class_=f"line {colour}"))
        for x, y in line.points if line.drawn or len(line.points) == 1 else ():
            cx, cy = frame.at(x, y)
            words = f"{line.name}: {y:.4g} at {x_title} {x:g}"
            kind = f"point {colour}"
            parts.append(tag("circle", tag("title", words), cx=cx, cy=cy, r=4, class_=kind))
    return Chart(picture(frame.width, frame.height, alternative, parts), legend)


# --- latency


def compared_chart(rows: Sequence[Compared]) -> Markup | None:
    """Predicted against measured latency, with the line on which both are equal; None without networks."""
    if not rows:
        return None
    ends = [one.measured_ms + sign * one.spread_ms for one in rows for sign in (-1, 1)]
    values = [*(one.predicted_ms for one in rows), *ends]
    frame = Frame(Axis.over("measured (ms)", values), Axis.over("predicted (ms)", values), height=300)
    parts = frame.axes()
    low, high = frame.x.low, frame.x.high
    parts.append(tag("path", d=frame.path([(low, low), (high, high)]), class_="equal"))
    for one in rows:
        x, y = frame.at(one.measured_ms, one.predicted_ms)
        left, _ = frame.at(one.measured_ms - one.spread_ms, 0)
        right, _ = frame.at(one.measured_ms + one.spread_ms, 0)
        words = f"{one.name}: predicted {one.predicted_ms:.3g} ms, measured {one.measured_ms:.3g} ms"
        parts += [
            tag("path", d=f"M{left:.1f} {y:.1f}H{right:.1f}", class_="spread"),
            tag("circle", tag("title", words), cx=x, cy=y, r=5, class_="point front"),
        ]
    return picture(frame.width, frame.height, "predicted against measured latency; the figures are in the table", parts)


# --- the confusion matrix


def confusion_chart(confusion: Mapping[str, Any], classes: Sequence[str]) -> Markup | None:
    """The matrix of metrics.json, coloured by the share of the row; None where it has none."""
    if "matrix" not in confusion:
        return None
    counts = np.asarray(confusion["matrix"], dtype=np.int64)
    chosen = shown_classes(counts)
    totals, names = counts.sum(1), [name.replace(r"\$", "$") for name in short_names(classes)]
    n = len(chosen)
    cell = max(11.0, min(34.0, 420 / n))
    margin = 12 + 7.2 * max((len(names[i]) for i in chosen), default=0)
    side = margin + n * cell + 8
    parts = []
    for place, i in enumerate(chosen):
        middle = margin + (place + 0.5) * cell
        if cell >= 11:
            turned = f"translate({middle + 4:.1f} {margin - 6:.1f}) rotate(-90)"
            parts += [label(margin - 6, middle + 4, names[i], "end", "tick"),
                      tag("text", names[i], transform=turned, class_="tick")]  # fmt: skip
    for row, i in enumerate(chosen):
        for column, j in enumerate(chosen):
            if images := int(counts[i, j]):
                parts += _cell(margin + column * cell, margin + row * cell, cell, images / int(totals[i]), (
                    images, f"{classes[i]} predicted as {classes[j]}: {images}", n
                ))  # fmt: skip
    frame = tag("rect", x=margin, y=margin, width=n * cell, height=n * cell, class_="frame")
    said = f"confusion matrix of {n} classes: rows are the classes, columns the predictions"
    return picture(max(side, LEAST_WIDTH), side, said, [*parts, frame], "chart matrix")


def _cell(x: float, y: float, side: float, share: float, said: tuple[int, str, int]) -> list[Markup]:
    """A cell, stronger with its share of the row, and its number where it fits."""
    images, words, classes = said
    strength = f"{max(0.06, share**0.5):.2f}"  # so that rare confusions are seen too
    parts = [tag("rect", tag("title", words), x=x, y=y, width=side, height=side, class_="cell", fill_opacity=strength)]
    if classes <= MOST_NUMBERED:
        strong = " strong" if share > 0.8 else ""
        parts.append(label(x + side / 2, y + side / 2 + 4, str(images), "middle", f"count{strong}"))
    return parts
