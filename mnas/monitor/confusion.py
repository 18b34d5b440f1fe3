"""The picture of a confusion matrix: which classes a network takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 50
"""Of more classes, the picture shows those with the most wrong predictions."""
MOST_NUMBERED = 25
"""With more classes the cells are too small for their numbers."""
LONGEST_NAME = 16
LONGEST_LEVEL_NAME = 8
"""Longer names below the picture are written upwards, as they would overlap."""
GAMMA = 0.5
"""Exponent of the shares in the colour scale, so that rare confusions are seen too."""
DARK = 0.4
"""Share of a row from which a cell is so dark that its number is white."""


def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str], title: str = "") -> Figure:
    """Images of each class (row) by their prediction (column), coloured by their share of the row.

    `confusion` has the counts (classes, classes). The row of a class without images is grey.
    """
    import matplotlib
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    shown = shown_classes(confusion)
    counts, n = confusion[np.ix_(shown, shown)], len(shown)
    total = confusion.sum(1)[shown, None]
    shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    names = [short_names(classes)[i] for i in shown]
    upwards = n > 4 or max(map(len, names)) > LONGEST_LEVEL_NAME
    size = 9 if n <= 12 else 7 if n <= MOST_NUMBERED else 6
    side = 3.0 + max(0.17 * n, min(0.42 * n, 6.5))
    figure = Figure(figsize=(side + 0.8, side), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="0.85")
    image = axes.imshow(shares, cmap=colours, norm=PowerNorm(GAMMA, 0, 1))
    axes.set_xticks(range(n), names, rotation=90 if upwards else 0, fontsize=size)
    axes.set_yticks(range(n), names, fontsize=size)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    if n <= MOST_NUMBERED:
        for row, column in np.argwhere(counts).tolist():
            colour = "white" if shares[row, column] > DARK else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=size, color=colour)
    axes.set_xlabel("prediction")
    axes.set_ylabel("class")
    part = f"the {n} of {len(classes)} classes with the most errors" if n < len(classes) else ""
    axes.set_title("\n".join(filter(None, [title.replace("$", r"\$"), part])), fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the class's images", ticks=[0, 0.02, 0.1, 0.25, 0.5, 1])
    return figure


def shown_classes(confusion: NDArray[np.int64]) -> list[int]:
    """The classes in the picture, ascending: all, or MOST_CLASSES with the most errors as class or as prediction."""
    if len(confusion) <= MOST_CLASSES:
        return list(range(len(confusion)))
    errors = confusion.sum(0) + confusion.sum(1) - 2 * np.diag(confusion)
    return sorted(np.argsort(-errors, kind="stable")[:MOST_CLASSES].tolist())


def short_names(names: Sequence[str]) -> list[str]:
    """The names in one line and at most LONGEST_NAME characters, the middle left out; none of them twice."""
    plain = ["".join(c if c.isprintable() else " " for c in name).replace("$", r"\$") for name in names]
    half = (LONGEST_NAME - 1) // 2
    short = [name if len(name) <= LONGEST_NAME else f"{name[:half + 1]}…{name[-half:]}" for name in plain]
    return [f"{i} {name[:LONGEST_NAME - 3]}" if short.count(name) > 1 else name for i, name in enumerate(short)]
