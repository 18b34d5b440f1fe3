"""One proposal of a search and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mnas.errors import BadInput
from mnas.space.architecture import Architecture

ZERO_COST = "zero-cost"


@dataclass(frozen=True)
class Trial:
    """One proposal and what came of it; a line of trials.jsonl."""

    number: int
    """Optuna's, from 0."""
    state: Literal["complete", "pruned", "over_budget", "repeated", "failed"]
    architecture: Architecture
    latency_ms: float
    """By the objective's source of latency, before any final measurement."""
    accuracy: float | None = None
    """On the search-validation split; of a pruned trial, when it was pruned."""
    reward: float | None = None
    seconds: float = 0.0
    curve: tuple[float, ...] = ()
    """Accuracy after each epoch of the estimate."""
    name: str = ""
    """A reference network's name."""
    fidelity: str = ""
    """How its accuracy was obtained: trained, inherited, fine-tuned, zero-cost."""

    @property
    def evaluated(self) -> bool:
        """Whether an estimate was spent on it."""
        return self.state in ("complete", "pruned", "failed")

    @property
    def summary(self) -> str:
        """Its estimate in words; a zero-cost score is no accuracy."""
        if self.accuracy is None:
            return "no accuracy"
        return f"score {self.accuracy:.3f}" if self.fidelity == ZERO_COST else f"accuracy {self.accuracy:.2%}"

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        record["grade"] = record.pop("fidelity")  # the name in files
        return record

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Trial:
        try:
            architecture = Architecture.from_dict(data["architecture"], f"trial {data['number']}")
            fields = {name: value for name, value in data.items() if name != "grade"}
            fields |= {"architecture": architecture, "curve": tuple(data["curve"]), "fidelity": data.get("grade", "")}
            return cls(**fields)
        except (TypeError, KeyError, AttributeError):
            raise BadInput(f"trials.jsonl: {str(data)[:60]!r} is no finished trial; delete that line") from None
