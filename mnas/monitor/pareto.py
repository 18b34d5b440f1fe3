"""The picture of a search: accuracy and latency of its trials, with the Pareto front."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MARKERS = "*PXD^vs"
"""Matplotlib's markers of the reference networks; the legend names them, as names beside points would overlap."""


class PlottedTrial(NamedTuple):
    """A finished trial in the picture of the front."""

    accuracy: float
    """0..1, on the search-validation split."""
    latency_ms: float
    name: str
    """A reference network's name, or empty."""
    is_score: bool = False
    """Whether `accuracy` is a score of the untrained network instead."""


def draw_pareto(
    trials: Sequence[PlottedTrial], front: Sequence[tuple[float, float]], budgets_ms: Sequence[float] = (),
    knee: tuple[float, float] | None = None, name: str = "accuracy",
) -> Figure:  # fmt: skip
    """Accuracy, the figure `name` or a score over latency: trials, the front as steps, its knee, references, budgets.

    `front` and `knee` are (accuracy in 0..1, latency in ms); the front goes from fast to slow.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    scored = any(trial.is_score for trial in trials)
    unit = 1 if scored else 100
    unnamed = [trial for trial in trials if not trial.name]
    references = [trial for trial in trials if trial.name]
    axes.scatter([t.latency_ms for t in unnamed], [unit * t.accuracy for t in unnamed], s=18, alpha=0.6, label="trials")
    if front:
        axes.step([ms for _, ms in front], [unit * accuracy for accuracy, _ in front], where="post", label="front")
    if knee is not None:
        axes.scatter([knee[1]], [unit * knee[0]], marker="o", s=90, facecolors="none", edgecolors="red", label="knee")
    for trial, marker in zip(references, itertools.cycle(MARKERS)):
        axes.scatter([trial.latency_ms], [unit * trial.accuracy], marker=marker, s=60, color="black", label=trial.name)
    for budget_ms in budgets_ms:
        axes.axvline(budget_ms, color="red", linestyle="--", linewidth=1, label=f"budget {budget_ms:g} ms")
    axes.set_xlabel("latency (ms)")
    axes.set_ylabel("score without training" if scored else f"{name} on the search-validation split (%)")
    axes.grid(alpha=0.3)
    figure.legend(fontsize=7, loc="outside upper center", ncols=3, frameon=False)
    return figure
