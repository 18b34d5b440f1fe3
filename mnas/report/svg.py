"""SVG by hand: elements with escaped texts, and the frame of a chart with its axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 46
"""Margins of a chart's frame."""


def tag(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """An element; `class_` is the attribute class, other underscores are hyphens, None leaves an attribute out."""
    stated = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items() if value is not None
    )  # fmt: skip
    inner = "".join(str(escape(child)) for child in children)
    return Markup(f"<{name}{stated}>{inner}</{name}>" if inner else f"<{name}{stated}/>")


def _short(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


def picture(width: float, height: float, alternative: str, children: Iterable[str], class_: str = "chart") -> Markup:
    """A whole picture, with its alternative in words."""
    return tag(
        "svg", *children, viewBox=f"0 0 {_short(width)} {_short(height)}", role="img", aria_label=alternative,
        class_=class_,
    )  # fmt: skip


def label(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """A text at a point."""
    return tag("text", words, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


@dataclass(frozen=True)
class Axis:
    """One axis: what it says, and the range of its values."""

    title: str
    low: float
    high: float
    whole: bool = False
    """Whether only whole numbers are values."""

    @classmethod
    def over(cls, title: str, values: Sequence[float], whole: bool = False, most: float = math.inf) -> Axis:
        """The axis of these values, with a little room, of which nothing is above `most`."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = 0.0 if whole else 0.06 * (high - low)
        if low == high:
            room = 0.5 if whole or not high else 0.1 * abs(high)
        return cls(title, low - room, max(high, min(high + room, most)), whole)

    def ticks(self, count: int = 5) -> list[float]:
        """About `count` round values."""
        step = 10 ** math.floor(math.log10((self.high - self.low) / count))
        step *= next((by for by in (1, 2, 5) if (self.high - self.low) / (by * step) <= count), 10)
        step = max(1.0, step) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def share(self, value: float) -> float:
        """Where a value is, 0..1."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Frame:
    """A chart's frame: two axes on a canvas."""

    x: Axis
    y: Axis
    width: float = 440
    height: float = 300

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the data is on the canvas."""
        return (
            LEFT + self.x.share(x) * (self.width - LEFT - RIGHT),
            self.height - BOTTOM - self.y.share(y) * (self.height - TOP - BOTTOM),
        )

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """The `d` of a line through points of the data."""
        places = [self.at(*point) for point in points]
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)

    def axes(self) -> list[Markup]:
        """Grid, numbers and titles."""
        left, right, low = LEFT, self.width - RIGHT, self.height - BOTTOM
        parts = []
        for value in self.y.ticks():
            _, y = self.at(self.x.low, value)
            parts += [tag("path", d=f"M{left} {y:.1f}H{right}", class_="grid"),
                      label(left - 6, y + 4.5, f"{value:.6g}", "end", "tick")]  # fmt: skip
        for value in self.x.ticks():
            x, _ = self.at(value, self.y.low)
            parts += [tag("path", d=f"M{x:.1f} {TOP}V{low}", class_="grid"),
                      label(x, low + 17, f"{value:.6g}", "middle", "tick")]  # fmt: skip
        turned = f"translate(12 {(TOP + low) / 2}) rotate(-90)"
        parts += [
            label((left + right) / 2, self.height - 6, self.x.title, "middle", "axis"),
            tag("text", self.y.title, text_anchor="middle", class_="axis", transform=turned),
        ]
        return parts
