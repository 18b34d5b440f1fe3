"""What a run is told: the values that users write, and the models of its config.yaml."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from mnas.errors import BadInput
from mnas.io.strict_yaml import Count, NonNegative, Positive, Strict, parse_yaml, validate

log = logging.getLogger("mnas")


# --- values that users write ------------------------------------------------------------------------------------


def parse_duration(text: str) -> float:
    """Seconds in '90s', '30m', '2h', '1h30m'; a bare number is refused, since it has no unit."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    parts = match.groups() if match else (None, None, None)
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if not 0 < seconds < math.inf:
        raise BadInput(f"budget '{text}': expected a duration above zero with its unit, such as 90s, 30m, 2h or 1h30m")
    return seconds


def positive_ms(value: float) -> float:
    """A latency budget in milliseconds: finite and above zero."""
    if not (math.isfinite(value) and value > 0):
        raise BadInput(f"latency budget {value} ms: expected a finite number above zero, such as --latency-ms 15")
    return float(value)


def parse_count(text: str, what: str) -> int:
    """A number above zero in '5000000', '5M', '300k', '1.5G'."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", text.strip().lower())
    count = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[match[2]] if match else 0.0
    if not 1 <= count < 2**63:
        raise BadInput(f"{what} {text}: expected a number of at least 1, such as 5000000, 5M, 300M or 1.5G")
    return round(count)


# --- the run ----------------------------------------------------------------------------------------------------

MOST_THREADS = 1024
"""More of them end some runtimes without a word."""



class Recipe(Strict):
    """How a network is trained; winner and baselines share one."""

    epochs: Count = 30
    """Passes over the training split."""
    batch_size: Annotated[int, pydantic.Field(ge=2)] = 64
    lr: Positive = 0.2
    """Peak learning rate for a batch of 128; scaled linearly with the batch size."""
    weight_decay: NonNegative = 0.0001
    momentum: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.9
    warmup: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.15
    """Part of the steps in which the rate rises linearly; a half cosine to zero follows."""
    label_smoothing: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.05
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.1
    crop: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.8
    """Smallest side of a random crop, as a part of the image's."""
    clip_norm: Positive = 5.0
    """Largest norm of the gradient."""
    flip: bool | None = None
    """Whether images are mirrored at random; by default as the data allows (never the digits)."""
    images: Count | None = None
    """Train on so many images at most, drawn evenly from the classes; all of them by default."""


class SupernetRecipe(Recipe):
    """How a supernet is trained: each batch by the largest network, the smallest, and random ones."""

    epochs: Count = 6
    subnets: Annotated[int, pydantic.Field(ge=1)] = 2
    """Random networks of each batch."""
    distillation: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    """How far all but the largest network learn the largest's outputs, not the labels."""
    ema: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.99
    """Share that the moving average of the weights keeps at each step."""


class Objective(Strict):
    """The reward's formula and the sources of accuracy and latency (objectives/*.yaml)."""

    name: str
    formula: Literal["mnasnet", "tunas", "pareto"]
    alpha: pydantic.FiniteFloat = 0.0
    """MnasNet's exponent below the budget (arXiv 1807.11626)."""
    beta: pydantic.FiniteFloat = 0.0
    """MnasNet's exponent above the budget; TuNAS's factor (arXiv 2008.06120)."""
    accuracy: Literal["supernet", "train", "zero_cost"] = "supernet"
    """The estimator."""
    latency: Literal["table", "measured"] = "table"
    """Where a candidate's latency comes from: the sum of its layers, or the whole network timed."""
    evaluate_up_to: Positive = 1.05
    """Candidates above this many times the budget are not trained."""


class Target(Strict):
    """A device that the winner runs on, as its latencies are known, and the budget there."""

    runtime: str = "torch"
    latency_table: str | None = None
    """Its table's file; measured on this machine where none is named."""
    latency_ms: Positive | None = None
    """The budget."""


class RunConfig(Strict):
    """Everything that decides a run; written to the run's config.yaml."""

    space: str
    space_file: dict[str, Any] = {}
    """The space as it was when the run began."""
    data: str = "digits"
    max_broken: Annotated[int, pydantic.Field(ge=0)] = 100
    """Images that cannot be decoded are skipped up to so many."""
    targets: Annotated[tuple[Target, ...], pydantic.Field(min_length=1)]
    """The winner keeps the budget of each."""
    budgets_ms: tuple[Positive, ...] = ()
    """Several for the only target, ascending: each gets a winner, and the target's budget is the last of them."""
    objective: Objective
    threads: Annotated[int, pydantic.Field(ge=1, le=MOST_THREADS)] = 1
    batch: Count = 1
    allow_foreign_table: bool = False
    """Take a table's word where the winner cannot be measured."""
    max_table_error: Positive = 0.05
    """Largest mean error of a table, on networks that it was not fitted to."""
    max_params: Count | None = None
    max_madds: Count | None = None
    max_memory_mb: Positive | None = None
    """Peak of the activations at batch 1; 1 MB is 1,000,000 bytes."""
    sampler: str = "predictor"
    trials: Count | None = None
    budget_s: Positive | None = None
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**31)] = 0
    baselines: tuple[str, ...] = ()
    resolution: tuple[Count, ...] | None = None
    proxy_resolution: Count | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    storage: str | None = None
    proxy: Recipe = Recipe(epochs=5, batch_size=32, dropout=0.0)
    """How a candidate is trained for its estimate."""
    recipe: Recipe = Recipe()
    """How the winner and the baselines are trained."""
    supernet: SupernetRecipe = SupernetRecipe()
    """How the supernet is trained."""
    finetune: Recipe = Recipe(epochs=1, lr=0.1, dropout=0.0)
    """How a candidate is trained on from the weights that it inherits."""
    finetune_epochs: NonNegative = 1.0
    """Epochs of that, or a part of one; 0 judges the inherited weights as they are."""
    init: str | None = None
    """A state dict of the space's reference network, or a winner's folder, from which the supernet begins."""
    from_scratch: bool = False
    """Train the winner and the baselines from fresh weights, not from those that they inherit."""
    zero_cost: Literal["naswot", "synflow", "madds", "params"] = "naswot"
    """The score of the zero_cost estimator."""
    custom: tuple[str, ...] = ()
    """What was given from Python as an object, which a file cannot hold: space, data, estimator, latency, sampler."""
    compare_random: bool = False
    """After the search, judge as many random networks, to compare it with."""
    finalists: Count = 5
    """Candidates whose whole network is measured at a time."""

    @property
    def wanted_ms(self) -> tuple[float | None, ...]:
        """The (first) target's budgets, of which each gets a winner; None where there is no budget."""
        return self.budgets_ms or (self.targets[0].latency_ms,)


def changed(model: Any, assignments: Mapping[str, Any]) -> Any:
    """`model` with dotted keys set anew, as --set does: `recipe.epochs` -> 3; text is read as YAML."""
    for path, value in assignments.items():
        model = merged(model, _nested(path, value), f"--set {path}")
    return model


def merged(model: Any, changes: Mapping[str, Any], source: str) -> Any:
    def merge(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        deep = {key: merge(old[key], value) for key, value in new.items()
                if isinstance(value, dict) and isinstance(old.get(key), dict)}
        return old | dict(new) | deep

    return validate(type(model), merge(model.model_dump(mode="json"), changes), source)


def _nested(path: str, value: Any) -> dict[str, Any]:
    """`recipe.epochs` and 3 -> {"recipe": {"epochs": 3}}; text is read as YAML."""
    if isinstance(value, str):
        value = parse_yaml(value, f"--set {path}={value}")
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)
