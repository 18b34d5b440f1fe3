"""What `mnas latency kit` and `import` do: tables of devices that are elsewhere."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnas.commands.latency import SpaceChoice, about, range_ms
from mnas.errors import BadInput
from mnas.latency.conditions import Conditions
from mnas.latency.importers import tables as importers
from mnas.latency.kit import kit
from mnas.latency.table.suggestions import suggestions
from mnas.monitor.console import progress
from mnas.space.dense import DenseHead

log = logging.getLogger("mnas")


def make_latency_kit(
    choice: SpaceChoice, conditions: Conditions, *, output: str | Path, seed: int = 0
) -> dict[str, Any]:
    """Writes every layer of the space as a model file into a .zip that measures them where python3 runs it."""
    output = _new(output)
    if isinstance(choice.num_classes, DenseHead):
        raise BadInput(f"a kit has no heads, such as {choice.num_classes.name}")
    with progress("kit") as shown:
        manifest = kit.make_kit(
            output, choice.load(), conditions, num_classes=choice.num_classes, rng=random.Random(seed),
            progress=lambda count, total: shown.update(count, total, f"{count} files"),
        )
    return {
        "path": str(output), "kit": manifest["kit"], "space": manifest["space"], "runtime": conditions.runtime,
        "needs": manifest["needs"], "threads": conditions.threads, "batch": conditions.batch,
        "layers": len(manifest["layers"]), "networks": len(manifest["networks"]),
        "megabytes": output.stat().st_size / 1e6,
    }  # fmt: skip


def import_kit(source: str | Path, *, device: str | None, output: str | Path) -> dict[str, Any]:
    """Writes a kit's results as a table."""
    output = _new(output)
    table = kit.import_results(source)
    if device:
        table = replace(table, provenance=replace(table.provenance, device=device))
    table.save(output)
    return {
        "path": str(output), **about(table), "layers": len(table.entries), "failed": len(table.failed),
        "calibration": table.calibration and table.calibration.to_dict(),
        "suggestions": [one.to_dict() for one in suggestions(table)],
    }  # fmt: skip


def import_table(
    source: str | Path, choice: SpaceChoice, conditions: Conditions, *, device: str, runtime_version: str,
    unit: str | None, output: str | Path,
) -> dict[str, Any]:  # fmt: skip
    """Writes those layers of the space that another tool's table has as a table of ours; missing ones are logged."""
    output = _new(output)
    space = choice.load()
    layers = sorted(space.layers(choice.num_classes), key=str)
    table = importers.import_table(
        source, layers, conditions, device=device, runtime_version=runtime_version, unit=unit
    )
    missing = table.missing(layers)
    if missing:
        log.warning(
            "%s lacks %d of the %d layers of space '%s' for %d classes, and networks with such a layer cannot be "
            "predicted: %s%s", source, len(missing), len(layers), space.name, choice.num_classes,
            "; ".join(map(str, missing[:3])), "; ..." * (len(missing) > 3),
        )  # fmt: skip
    table.save(output)
    fastest, slowest = (None, None) if missing else range_ms(space, table, choice.num_classes)
    return {
        "path": str(output), **about(table), "space": space.name, "layers": len(layers) - len(missing),
        "missing": len(missing), "fastest_ms": fastest, "slowest_ms": slowest,
        "suggestions": [one.to_dict() for one in suggestions(table, layers)],
    }  # fmt: skip


def _new(output: str | Path) -> Path:
    """The file to write; BadInput where it exists."""
    if Path(output).exists():
        raise BadInput(f"{output}: exists; name another file with -o")
    return Path(output)
