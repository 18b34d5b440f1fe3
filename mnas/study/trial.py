"""One proposal of a search and its result; a line of trials.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mnas.errors import BadInput
from mnas.space.architecture import Architecture

ZERO_COST = "zero-cost"


def standard_error(accuracy: float, images: int) -> float:
    """Of an accuracy (0..1) that was measured on this number of images: binomial, with one image added either way."""
    smoothed = (accuracy * images + 1) / (images + 2)
    return math.sqrt(smoothed * (1 - smoothed) / images)


@dataclass(frozen=True)
class Evaluation:
    """How a trial's accuracy was estimated."""

    fidelity: str = ""
    """trained, inherited, fine-tuned, zero-cost or own; empty where no estimate was made."""
    seconds: float = 0.0
    curve: tuple[float, ...] = ()
    """Accuracy after each step that the estimator reported."""
    images: int | None = None
    """Images on which the accuracy was measured; None where it is no share of images."""
    error: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class Trial:
    """One proposal of a search and its result."""

    number: int
    """Optuna's, from 0."""
    state: Literal["complete", "pruned", "over_budget", "repeated", "failed"]
    architecture: Architecture
    latency_ms: float
    """As the search's latency model predicts it, before any final measurement."""
    accuracy: float | None = None
    """0..1 on the search-validation split; for a pruned trial the last one before it was pruned."""
    reward: float | None = None
    name: str = ""
    """The reference network's name, if it is one."""
    evaluation: Evaluation = Evaluation()

    @property
    def fidelity(self) -> str:
        """How its accuracy was estimated: trained, inherited, fine-tuned, zero-cost or own."""
        return self.evaluation.fidelity

    @property
    def seconds(self) -> float:
        """Seconds that the estimate took."""
        return self.evaluation.seconds

    @property
    def curve(self) -> tuple[float, ...]:
        """Accuracy after each step that the estimator reported."""
        return self.evaluation.curve

    @property
    def evaluated(self) -> bool:
        """Whether an estimate was made for it."""
        return self.state in ("complete", "pruned", "failed")

    @property
    def spread(self) -> float | None:
        """Half the width of the accuracy's 95% interval, by the number of its images; None where that is not known."""
        images = self.evaluation.images
        return None if self.accuracy is None or not images else 1.96 * standard_error(self.accuracy, images)

    @property
    def summary(self) -> str:
        """`said` of an accuracy."""
        return self.said("accuracy")

    def said(self, figure: str) -> str:
        """Its estimate in words, of that name; a zero-cost score is none."""
        if self.accuracy is None:
            return self.evaluation.error or f"no {figure}"
        if self.fidelity == ZERO_COST:
            return f"score {self.accuracy:.3f}"
        return f"{figure} {self.accuracy:.2%}" + ("" if self.spread is None else f" +- {100 * self.spread:.1f}")

    def to_json(self) -> dict[str, Any]:
        """The line of trials.jsonl; the fidelity is the key "grade" there."""
        return {
            "number": self.number, "state": self.state, "architecture": self.architecture.to_dict(),
            "latency_ms": self.latency_ms, "accuracy": self.accuracy, "reward": self.reward,
            "seconds": self.seconds, "curve": list(self.curve), "name": self.name, "grade": self.fidelity,
            "images": self.evaluation.images,
        } | ({"error": self.evaluation.error} if self.evaluation.error else {})  # fmt: skip

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Trial:
        """The trial of a line of trials.jsonl; BadInput where the line is none."""
        try:
            values = dict(record)
            values["architecture"] = Architecture.from_dict(values["architecture"], f"trial {values['number']}")
            curve = tuple(values.pop("curve"))
            fidelity, seconds = values.pop("grade", ""), values.pop("seconds", 0.0)
            evaluation = Evaluation(fidelity, seconds, curve, values.pop("images", None), values.pop("error", ""))
            return cls(**values, evaluation=evaluation)
        except (TypeError, ValueError, KeyError, AttributeError):
            raise BadInput(
                f"trials.jsonl: {str(record)[:60]!r} is not a finished trial; delete that line to continue"
            ) from None
