"""The configuration of a run, as its config.yaml holds it, and the values that users write."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import pydantic

from mnas.errors import BadInput
from mnas.io.presets import find_preset
from mnas.io.size import Size, SizeField
from mnas.io.strict_yaml import Count, NonNegative, Positive, Strict, load_yaml, parse_yaml, validate

MAX_THREADS = 1024
"""Some runtimes end without an error message where they are given more."""
MAX_BROKEN = 100
"""Images that cannot be decoded and may be skipped, by default."""
MAX_TABLE_ERROR = 0.05
"""Largest mean error of a latency table that a search uses, by default."""


# --- values that users write ------------------------------------------------------------------------------------


def parse_duration(text: str) -> float:
    """Seconds in '90s', '30m', '2h', '1h30m'. Raises BadInput for a number without its unit."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    parts = match.groups() if match else (None, None, None)
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if not 0 < seconds < math.inf:
        raise BadInput(f"budget '{text}': expected a duration above zero with its unit, such as 90s, 30m, 2h or 1h30m")
    return seconds


def positive_ms(value: float) -> float:
    """A latency budget in milliseconds. Raises BadInput unless it is finite and above zero."""
    if not (math.isfinite(value) and value > 0):
        raise BadInput(f"latency budget {value} ms: expected a finite number above zero, such as --latency-ms 15")
    return float(value)


def parse_count(text: str, option: str) -> int:
    """A whole number of at least 1 in '5000000', '5M', '300k', '1.5G', '40e6'."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([kmg])|e\+?(\d{1,2}))?", text.strip().lower())
    count = 0.0
    if match:
        number, unit, exponent = match.groups()
        count = float(number) * ({"k": 1e3, "m": 1e6, "g": 1e9}[unit] if unit else 10.0 ** int(exponent or 0))
    if not 1 <= count < 2**63:
        raise BadInput(f"{option} {text}: expected a number of at least 1, such as 5000000, 5M, 5e6 or 1.5G")
    return round(count)


# --- the run ----------------------------------------------------------------------------------------------------


class Documented(Strict):
    """A part of the configuration; the docstring of each field is its description in `mnas config`."""

    model_config: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(use_attribute_docstrings=True)


class Recipe(Documented):
    """How a network is trained."""

    epochs: Count = 30
    """Passes over the training split."""
    batch_size: Annotated[int, pydantic.Field(ge=2)] = 64
    """Images in a training step."""
    lr: Positive = 0.2
    """Peak learning rate for a batch of 128; scaled linearly with the batch size."""
    weight_decay: NonNegative = 0.0001
    """Factor of the L2 penalty on the weights."""
    momentum: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD (Nesterov's)."""
    warmup: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.15
    """Part of the steps in which the learning rate rises linearly; a half cosine to zero follows."""
    label_smoothing: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.05
    """Part of the label's weight that is spread over all classes."""
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.1
    """Dropout before the classifier."""
    drop_path: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    """Stochastic depth: probability that the deepest block is left out for its shortcut; less in earlier blocks."""
    crop: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.8
    """Smallest side of a random crop, as a part of the image's side."""
    ratio: Annotated[float, pydantic.Field(ge=1, le=8)] = 1.0
    """Largest aspect ratio of a random crop, wide or tall; 1 crops squares."""
    trivial_augment: bool | None = None
    """TrivialAugment: one random operation on the geometry or the colours of each image; null: from 60 epochs on."""
    mixup: NonNegative = 0.0
    """Mixup: alpha of the Beta distribution that draws the share of one image in a blend of two; 0 blends none."""
    cutmix: NonNegative = 0.0
    """CutMix: alpha of the Beta distribution that draws the area that another image keeps; 0 pastes none."""
    class_weights: Literal["none", "auto"] = "none"
    """Weights of the classes in the loss (--class-weights); auto: balanced, where one has 3 times another's images."""
    clip_norm: Positive = 5.0
    """Largest norm of the gradient."""
    flip: bool | None = None
    """Whether images are mirrored at random (--flip); null: as the data allow (never the digits). The recipe's is that
    of supernet and candidates too, unless they state their own."""
    images: Count | None = None
    """Number of training images, drawn evenly from the classes; null: all."""
    ema: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.99
    """Decay of the moving average of the weights at each step, which is judged and handed over; 0: none."""
    patience: Count | None = None
    """Epochs without a better validation accuracy after which a training ends; null: never."""
    layer_decay: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    """The learning rate of each layer as a part of the next one's: below 1, the first layers change least."""
    classifier_first: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    """Part of the steps in which the classifier alone is trained, before all layers are."""
    min_steps: Annotated[int, pydantic.Field(ge=0)] = 3000
    """Steps that a training gets where the images are few, by more epochs, if their number is the default and a search
    has a --budget of time."""
    max_epochs: Count | None = None
    """Epochs to which a --budget of time prolongs a race where it allows; null: 100, or as many as 10,000 steps take,
    if the number of epochs is the default."""


class SupernetRecipe(Recipe):
    """How a supernet is trained: each batch by the largest network, the smallest, and random ones."""

    epochs: Count = 6
    """Passes over the training split."""
    subnets: Annotated[int, pydantic.Field(ge=1)] = 2
    """Random networks trained on each batch, besides the largest and the smallest."""
    distillation: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    """Weight of the largest network's outputs, against the labels, in the loss of the others."""


class Objective(Documented):
    """The reward's formula and the sources of accuracy and latency (objectives/*.yaml)."""

    name: str
    """The objective's name."""
    formula: Literal["mnasnet", "tunas", "pareto"]
    """The reward: mnasnet (arXiv 1807.11626), tunas (arXiv 2008.06120), or pareto for none: the whole front."""
    alpha: pydantic.FiniteFloat = 0.0
    """MnasNet's exponent within the budget."""
    beta: pydantic.FiniteFloat = 0.0
    """MnasNet's exponent above the budget; TuNAS's factor."""
    accuracy: Literal["auto", "supernet", "train", "probe", "zero_cost"] = "auto"
    """The estimator of accuracy (--estimator); auto: a supernet where it gets enough steps to rank, else probe where
    networks start from trained weights, else zero_cost."""
    latency: Literal["table", "measured"] = "table"
    """How a candidate's latency is found: by the table of its layers, or by timing the whole network."""
    evaluate_up_to: Positive = 1.05
    """Candidates above this multiple of the budget are not trained."""


class Target(Documented):
    """A device, and the latency budget on it."""

    runtime: str = "torch"
    """What executes the network (--runtime)."""
    latency_table: str | None = None
    """Path of the latency table (--latency-table); null: one is measured on this machine."""
    latency_ms: Positive | None = None
    """The budget in milliseconds (--latency-ms)."""


class RunConfig(Documented):
    """Everything that decides a run's result; written to the run's config.yaml."""

    space: str
    """The search space: a preset's name or the path of a YAML file (--space)."""
    space_file: dict[str, Any] = {}
    """Content of the space's file when the run began, without the choices left out; filled in by mnas."""
    without: tuple[str, ...] = ()
    """Choices that are left out of the space (--without): se, hard_swish, kernel7, expand6, pool."""
    task: Literal["classification", "segmentation", "detection"] = "classification"
    """What networks are for (--task)."""
    head: Literal["lraspp", "deeplabv3", "ssdlite"] | None = None
    """The head of networks for segmentation or detection (--head); null: a classifier."""
    data: str = "digits"
    """The images: digits, torchvision:NAME, or the path of a folder or an .npz (--data); of other tasks shapes, or the
    path of a folder of masks or boxes."""
    labels: str | None = None
    """Path of a CSV file with the classes of a folder's images (--labels)."""
    max_broken: Annotated[int, pydantic.Field(ge=0)] = MAX_BROKEN
    """Images that cannot be decoded and may be skipped (--max-broken)."""
    fit: Literal["auto", "crop", "pad", "squeeze"] = "auto"
    """How images get the network's shape (--fit): the central part, the whole with borders, or the whole resized; auto:
    the central part, but for long images of which a probe on the validation split knows more otherwise."""
    max_pixels: Count = 400_000_000
    """Pixels of the largest image that is decoded (--max-pixels)."""
    channels: Literal[1, 3] = 3
    """Of the images that the network takes (--channels): 1 for grey ones."""
    group_by: str | None = None
    """Regular expression: images whose paths agree in what it finds stay in one split (--group-by)."""
    targets: Annotated[tuple[Target, ...], pydantic.Field(min_length=1)]
    """The devices; the winner keeps the budget of each."""
    budgets_ms: tuple[Positive, ...] = ()
    """Several budgets of the only device, ascending, with a winner for each (--latency-ms 5,10,15)."""
    objective: Objective
    """What is maximised (--objective)."""
    threads: Annotated[int, pydantic.Field(ge=1, le=MAX_THREADS)] = 1
    """Threads of the runtime while latency is measured (--threads)."""
    batch: Count = 1
    """Images that the network takes at once while latency is measured (--batch)."""
    allow_foreign_table: bool = False
    """Use a table measured on another device (--allow-foreign-table)."""
    max_table_error: Positive = MAX_TABLE_ERROR
    """Largest mean error of a table on whole networks that it was not fitted to; 0.05 is 5%."""
    max_params: Count | None = None
    """Limit on the parameters (--max-params)."""
    max_madds: Count | None = None
    """Limit on the multiply-adds (--max-madds)."""
    max_memory_mb: Positive | None = None
    """Limit on the memory of activations at batch 1, in MB of 1,000,000 bytes (--max-memory-mb)."""
    metric: Literal["accuracy", "balanced"] = "accuracy"
    """What the search and the races go by (--metric): accuracy, or balanced: the mean of the classes' recalls."""
    sampler: str = "predictor"
    """What proposes candidates (--sampler)."""
    trials: Count | None = None
    """Candidates to evaluate (--trials); null: as many as the time budget allows, or 20."""
    budget_s: Positive | None = None
    """Seconds for the whole run (--budget); null: 3600."""
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**31)] = 0
    """Seed of everything random (--seed)."""
    seeds: Count = 1
    """How often the winner and the baselines are trained, each time with another seed (--seeds)."""
    baselines: tuple[str, ...] = ()
    """Networks to compare with (--baseline); none: the best of the reference networks scaled to the budget."""
    resolution: tuple[Annotated[Size, SizeField(1)], ...] | None = None
    """Input sizes to choose from, in pixels (--resolution), of rectangles HEIGHTxWIDTH; null: the space's."""
    proxy_resolution: Count | None = None
    """Largest input size at which candidates are estimated (--proxy-resolution), of rectangles the height."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What trains (--device)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The precision of training: auto measures which is faster. Networks are judged and exported in float32."""
    storage: str | None = None
    """URL of the Optuna storage without its password, or env:NAME (--storage); null: study.db in the run's folder."""
    workers_only: bool = False
    """Leave the trials of a shared study to `mnas worker` processes (--workers-only)."""
    heartbeat_s: Count = 10
    """Seconds between two signs of life of a trial in --storage; one without six of them is run again."""
    patience_s: Positive = 600.0
    """Seconds for which a server of --storage that is away is waited for."""
    proxy: Recipe = Recipe(epochs=5, batch_size=32, dropout=0.0, ema=0.0)
    """How the estimator train trains a candidate."""
    recipe: Recipe = Recipe()
    """How the winner and the baselines are trained."""
    supernet: SupernetRecipe = SupernetRecipe()
    """How the supernet is trained."""
    finetune: Recipe = Recipe(epochs=1, lr=0.1, dropout=0.0, ema=0.0)
    """How a candidate is fine-tuned from the supernet's weights; its length is finetune_epochs."""
    finetune_epochs: NonNegative = 1.0
    """Epochs of fine-tuning, such as 0.5; 0 evaluates a candidate with the supernet's weights as they are."""
    init: str | None = None
    """Path of the weights from which the networks start: the reference network's, or a winner's folder (--init)."""
    pretrained: str = "auto"
    """Published weights from which the networks start (--pretrained): a name that `mnas zoo` lists; none; default:
    those of the space's reference networks; auto: the latter for colour photographs of 64 px and more, else none."""
    shared_supernet: str | None = None
    """Path of a run, or of a folder of `mnas supernet`, whose supernet is used or adapted (--supernet)."""
    supernet_alone: bool = False
    """Whether the folder is that of `mnas supernet`: it ends when the supernet is trained."""
    from_scratch: bool = False
    """Train the winner and the baselines from random weights, not from the supernet's (--from-scratch)."""
    zero_cost: Literal["naswot", "synflow", "madds", "params"] = "naswot"
    """The score of the estimator zero_cost."""
    custom: tuple[str, ...] = ()
    """What was passed from Python as an object: space, data, estimator, latency, sampler; filled in by mnas."""
    compare_random: bool = False
    """Evaluate as many random networks after the search, to compare it with (--compare-random)."""
    finalists: Count | None = None
    """Candidates that are measured as whole networks in one go, and enter the race; by default 3, or 2 where they were
    scored without training and few images are there to tell them apart."""
    references: Annotated[int, pydantic.Field(ge=0)] = 2
    """Reference networks, scaled to the budget, that enter the race."""

    @property
    def wanted_ms(self) -> tuple[float | None, ...]:
        """The budgets, each with a winner of its own, on the (first) device; None stands for no budget."""
        return self.budgets_ms or (self.targets[0].latency_ms,)


def load_objective(name: str | Path) -> Objective:
    """A built-in objective by its name, or one from the path of a YAML file; BadInput where neither is valid."""
    path = find_preset("objectives", name)
    return validate(Objective, load_yaml(path), str(path))


# --- changes ----------------------------------------------------------------------------------------------------

Model = TypeVar("Model", bound=pydantic.BaseModel)


def with_keys(model: Model, assignments: Mapping[str, Any]) -> Model:
    """`model` with other values at dotted keys, as --set states them: {"recipe.epochs": 3}. Text is read as YAML."""
    for key, value in assignments.items():
        content = parse_yaml(value, f"--set {key}={value}") if isinstance(value, str) else value
        for part in reversed(key.split(".")):
            content = {part: content}
        model = updated(model, content, f"--set {key}")
    if isinstance(model, RunConfig):
        return model.model_copy(update=_mirrored_alike(model))
    return model


def _mirrored_alike(config: RunConfig) -> dict[str, Recipe]:
    """The recipes that state no `flip`, with that of the full trainings."""
    parts = {"supernet": config.supernet, "finetune": config.finetune, "proxy": config.proxy}
    return {
        name: part.model_copy(update={"flip": config.recipe.flip}) for name, part in parts.items() if part.flip is None
    }


def recipe_with(class_weights: str | None, usual: Mapping[str, Any] = {}) -> Recipe:
    """The default recipe but for the keys in `usual`, and for the weights of classes that --class-weights states."""
    recipe = Recipe(**usual)
    return recipe if class_weights is None else updated(recipe, {"class_weights": class_weights}, "--class-weights")


def usual_recipe(part: str, usual: Mapping[str, Any]) -> dict[str, Any]:
    """The default of a recipe in RunConfig, such as proxy, but for the keys in `usual`; lr is in proportion."""
    default: Recipe = RunConfig.model_fields[part].default
    factor = usual.get("lr", Recipe().lr) / Recipe().lr
    return {**default.model_dump(), **usual, "lr": default.lr * factor}


def updated(model: Model, changes: Mapping[str, Any], source: str) -> Model:
    """`model` with the values in `changes`, a nested mapping; BadInput names `source` and the key that is wrong."""
    return validate(type(model), _merge(model.model_dump(mode="json"), changes), source)


def _merge(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    nested = {key: _merge(old[key], value) for key, value in new.items()
              if isinstance(value, dict) and isinstance(old.get(key), dict)}
    return old | dict(new) | nested
