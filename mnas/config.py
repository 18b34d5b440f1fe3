"""Strict YAML to validated, frozen models, and where the shipped presets are found."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import stat
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import pydantic
import yaml

from mnas.errors import BadInput, nearest

MAX_YAML_BYTES = 1_000_000
MAX_YAML_DEPTH = 32

Model = TypeVar("Model")


class Strict(pydantic.BaseModel):
    """Base of every configuration: frozen, no unknown keys, no silent conversion."""

    model_config: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


# --- YAML -------------------------------------------------------------------------------------------------------

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FLOAT_LIKE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_BOOL_LIKE = {"yes", "no", "on", "off", "y", "n"}
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,17})")


class _StrictLoader(_Loader):  # type: ignore[misc]
    """PyYAML reads `1e-3` as text, `no` as false and lets a repeated key win: here each is an error."""


def _scalar(loader: Any, node: Any) -> Any:
    if not node.style and node.value.lower() in _BOOL_LIKE:
        raise _at(node, f"'{node.value}' is ambiguous in YAML: write true or false, or quote it")
    if not node.style and node.tag.endswith(":str") and _FLOAT_LIKE.fullmatch(node.value):
        number = float(node.value)
        raise _at(node, f"YAML reads '{node.value}' as text: write {number!r} in full, or with a point as in 1.0e-3")
    if node.tag.endswith(":int") and not _INTEGER.fullmatch(node.value):
        raise _at(node, f"'{node.value[:40]}' is no plain integer: write it in decimal digits, without leading zeros")
    if node.tag.endswith(":int"):
        return int(node.value)
    if node.tag.endswith(":bool"):
        return loader.construct_yaml_bool(node)
    return loader.construct_scalar(node)


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float):
            raise _at(key_node, "a key must be a plain word or number")
        if key in result:
            raise _at(key_node, f"key '{key}' appears twice")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _refuse(loader: Any, node: Any) -> Any:
    raise _at(node, f"'{node.tag.rpartition(':')[2]}' values are not used here: quote it if text is meant")


def _at(node: Any, message: str) -> BadInput:
    return BadInput(f"line {_line(node)}: {message}")


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


_StrictLoader.add_constructor("tag:yaml.org,2002:str", _scalar)
_StrictLoader.add_constructor("tag:yaml.org,2002:bool", _scalar)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _scalar)
_StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping)
for _tag in ("timestamp", "binary", "set", "omap", "pairs", "merge"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _refuse)


def parse_yaml(text: str, source: str, max_bytes: int = MAX_YAML_BYTES) -> Any:
    """The data in `text`; BadInput names `source` and the line for anything unclear, too large or too deep."""
    if len(text) > max_bytes:
        raise BadInput(f"{source}: {len(text):,} bytes; at most {max_bytes:,} are read")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_YAML_DEPTH:
                raise BadInput(f"line {_line(event)}: nested deeper than {MAX_YAML_DEPTH} levels")
            if isinstance(event, yaml.AliasEvent):
                raise BadInput(f"line {_line(event)}: anchors and aliases are not used here: write it out")
        return yaml.load(text, Loader=_StrictLoader)
    except BadInput as error:
        raise BadInput(f"{source}, {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadInput(f"{source}{where}: not valid YAML: {problem}") from None
    except ValueError as error:
        raise BadInput(f"{source}: not valid YAML: {error}") from None


def read_text(path: Path, max_bytes: int = MAX_YAML_BYTES) -> str:
    """A UTF-8 file's text; BadInput where it is missing, unreadable, too large or no text."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise BadInput(f"{path}: not a regular file but a device or a pipe; expected the path of a text file")
        if status.st_size > max_bytes:
            raise BadInput(f"{path}: {status.st_size:,} bytes; at most {max_bytes:,} are read")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a text file in UTF-8") from None


def load_yaml(path: Path, max_bytes: int = MAX_YAML_BYTES) -> Any:
    """The data in a YAML file, read strictly."""
    return parse_yaml(read_text(path, max_bytes), str(path), max_bytes)


def validate(model: type[Model], data: Any, source: str) -> Model:
    """`data` as a `model`; BadInput names source, place, what came, what is allowed and the likeliest meant key."""
    if not isinstance(data, dict):
        raise BadInput(f"{source}: expected a mapping of keys to values, got {_kind(data)}")
    try:
        # by way of JSON: strict, yet a list may fill a tuple and a mapping a dataclass
        valid: Model = _adapter(typing.cast(Hashable, model)).validate_json(json.dumps(data))
        return valid
    except pydantic.ValidationError as error:
        unknown_first = sorted(error.errors(), key=lambda item: not _is_unknown(item))
        raise BadInput(f"{source}: " + "; ".join(_explain(model, item) for item in unknown_first[:3])) from None


@functools.cache
def _adapter(model: Hashable) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(typing.cast(Any, model))


def _explain(model: Any, item: Any) -> str:
    unknown = _is_unknown(item)
    keys = [key for key in item["loc"][: -1 if unknown else None] if _is_place(key)] + list(item["loc"][-1:] * unknown)
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".") or "the file"
    if unknown:
        return f"unknown key '{place}'{nearest(str(item['loc'][-1]), _keys(model, item['loc'][:-1]))}"
    if item["type"] in ("missing", "missing_argument"):
        return f"'{place}' is missing"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{place}: {message}, got {_shown(item['input'])}"


def _is_unknown(item: Any) -> bool:
    return item["type"] in ("extra_forbidden", "unexpected_keyword_argument")


def _is_place(key: Any) -> bool:
    # pydantic adds the names of a union's members to the path; they are not keys of the file
    return isinstance(key, int) or (key.isidentifier() and key not in ("int", "float", "bool", "str"))


def _keys(model: Any, loc: tuple[Any, ...]) -> list[str]:
    for key in loc:
        model = _fields(model).get(key, model)
        while not _fields(model) and (inner := [a for a in typing.get_args(model) if a not in (..., type(None))]):
            model = inner[0]
    return list(_fields(model))


def _fields(model: Any) -> dict[str, Any]:
    if hasattr(model, "model_fields"):
        return {name: field.annotation for name, field in model.model_fields.items()}
    if not dataclasses.is_dataclass(model):
        return {}
    hints = typing.get_type_hints(model)
    return {field.name: hints[field.name] for field in dataclasses.fields(model)}


def _kind(value: Any) -> str:
    names = {type(None): "nothing", str: "text", list: "a list", int: "an integer"}
    return names.get(type(value), f"a {type(value).__name__}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- presets ----------------------------------------------------------------------------------------------------


def preset_folder(kind: Literal["search_spaces", "objectives"]) -> Path:
    """Where shipped presets lie: inside the package when installed, beside it in a clone or an editable install."""
    package = Path(__file__).resolve().parent
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def preset_names(kind: Literal["search_spaces", "objectives"]) -> list[str]:
    return sorted(path.stem for path in preset_folder(kind).glob("*.yaml"))


def find_preset(kind: Literal["search_spaces", "objectives"], name: str | Path) -> Path:
    """The file meant by `name`: a preset's name, or the path of a file of one's own."""
    text = str(name)
    if isinstance(name, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        return Path(name).expanduser()
    if text in preset_names(kind):
        return preset_folder(kind) / f"{text}.yaml"
    word = {"search_spaces": "search space", "objectives": "objective"}[kind]
    raise BadInput(f"unknown {word} '{text}'{nearest(text, preset_names(kind))}, or the path of a .yaml file")


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

Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, pydantic.Field(ge=1)]


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

    epochs: Count = 8
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
    threads: Count = 1
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
