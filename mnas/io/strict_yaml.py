"""Strict YAML to validated, frozen models."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import stat
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import pydantic
import yaml

from mnas.errors import BadInput, nearest

MAX_YAML_BYTES = 1_000_000
MAX_YAML_DEPTH = 32

Model = TypeVar("Model")


class Strict(pydantic.BaseModel):
    """Base of every configuration: frozen, no unknown keys, no silent conversion."""

    model_config: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


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


def read_text(path: str | Path, max_bytes: int = MAX_YAML_BYTES) -> str:
    """The text of a UTF-8 file. Raises BadInput if it is missing, unreadable, too large or not text."""
    path = Path(path)
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


def load_yaml(path: str | Path, max_bytes: int = MAX_YAML_BYTES) -> Any:
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


Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


NonNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


Count = Annotated[int, pydantic.Field(ge=1)]
