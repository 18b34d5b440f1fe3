"""What `mnas config` prints: every setting of a search with its default and its description."""

from __future__ import annotations

from typing import Any

import pydantic
import yaml

from mnas.config import RunConfig, Target, load_objective

WIDTH = 100


def default_config() -> RunConfig:
    """The configuration of `mnas search --latency-ms 15`."""
    return RunConfig(
        space="v3_large", targets=(Target(latency_ms=15.0),), objective=load_objective("mnasnet_hard")
    )


def commented(config: RunConfig) -> str:
    """YAML with a comment above each key; equal comments, as in several recipes, appear once."""
    return "\n".join(_lines(config, "", set())) + "\n"


def _lines(model: pydantic.BaseModel, indent: str, described: set[tuple[str, str]]) -> list[str]:
    lines = []
    for name, field in type(model).model_fields.items():
        description = field.description or ""
        if (name, description) not in described:
            described.add((name, description))
            lines += [f"{indent}# {line}" for line in description.splitlines()]
        value = getattr(model, name)
        if isinstance(value, pydantic.BaseModel):
            lines += [f"{indent}{name}:", *_lines(value, f"{indent}  ", described)]
        elif isinstance(value, tuple) and value and isinstance(value[0], pydantic.BaseModel):
            lines.append(f"{indent}{name}:")
            for item in value:
                first, *others = _lines(item, f"{indent}  ", described)
                lines += [f"{indent}-", first, *others]
        else:
            lines.append(f"{indent}{name}: {_scalar(value)}")
    return lines


def _scalar(value: Any) -> str:
    """A plain value on one line of YAML."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=WIDTH).removesuffix("...\n").strip()
