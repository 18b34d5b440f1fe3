"""The winner beside the baselines: accuracy, cost, and the latency on every device, as metrics.json holds them."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from mnas.data.sources import ImageData
from mnas.errors import BadInput
from mnas.io.files import write_atomic
from mnas.latency.conditions import Conditions
from mnas.latency.machine import measuring
from mnas.latency.measure import measure
from mnas.latency.model import DeviceLatency, LatencyModel, keeps
from mnas.latency.runtimes import get_runtime
from mnas.latency.timing.rounds import RoundLimits
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.study.constraints import BYTES_IN_MB
from mnas.training.trainer import Trained, test_accuracy

log = logging.getLogger("mnas")






def rows_of(
    trained: Sequence[Trained], role: Literal["winner", "baseline"], *, data: ImageData,
    size_of: Callable[[Architecture], int], device: torch.device,
) -> list[dict[str, Any]]:  # fmt: skip
    """One row a network, without latencies."""
    rows = []
    for one in trained:
        size = size_of(one.architecture)
        counted = cost(one.architecture, data.num_classes)
        rows.append({
            "name": one.name, "role": role,
            "test_accuracy": test_accuracy(one, data, size=size, device=device),
            "val_accuracy": one.val_accuracy, "madds": counted.madds, "params": counted.params,
            "activation_mb": counted.activation_bytes / BYTES_IN_MB,
            "resolution": one.architecture.resolution, "accuracy_resolution": size, "weights": one.weights,
            "epochs": one.epochs,
        })  # fmt: skip
    return rows


def add_all_latencies(
    rows: Sequence[dict[str, Any]], trained: Sequence[Trained], folder: Path, source: LatencyModel, seed: int
) -> None:
    """Each network's latency on each device: measured here, where that can be; else what is stated of it."""
    for one in source.devices:
        if one.how == "measured":
            add_latencies(rows, trained, folder, one.conditions, seed=seed, budget_ms=one.budget_ms)
        else:
            _add_stated(rows, trained, one)
        _warn(rows[0]["latencies"][-1])


def _add_stated(rows: Sequence[dict[str, Any]], trained: Sequence[Trained], source: DeviceLatency) -> None:
    where = {"device": source.device, **vars(source.conditions)}
    for row, one in zip(rows, trained, strict=True):
        try:
            found = source.measure([one.architecture])[0]
        except BadInput:
            if row["role"] == "winner" or source.how != "predicted":
                raise
            log.info("%s: its latency on %s is not known: the table lacks some of its layers", one.name, source.device)
            add_latency(row, where, None, 0.0, source.budget_ms, "not in the table")
            continue
        add_latency(row, where, found.median_ms, found.spread_ms, source.budget_ms, source.how)


def _warn(latency: dict[str, Any]) -> None:
    """Says where the winner, or its file, does not keep the budget after all."""
    budget_ms = latency["budget_ms"]
    if latency["keeps"] is False:
        log.warning(
            "the winner takes %.2f +- %.2f ms with %s, not within the budget of %g ms: was the machine busy?",
            latency["latency_ms"], latency["spread_ms"], latency["runtime"], budget_ms,
        )  # fmt: skip
    if latency.get("exported_keeps") is False:
        log.warning(
            "%s takes %.2f +- %.2f ms, not within the budget of %g ms: was the machine busy?", latency["exported_file"],
            latency["exported_latency_ms"], latency["exported_spread_ms"], budget_ms,
        )  # fmt: skip


WRITTEN = {".pt2": "model.py", ".onnx": "model.onnx"}
"""Of a runtime's own kind of files, what a winner's folder has in any case."""


def add_latencies(
    rows: Sequence[dict[str, Any]], trained: Sequence[Trained], folder: Path, conditions: Conditions, *, seed: int,
    budget_ms: float | None = None,
) -> None:  # fmt: skip
    """Add each network's latency here to its row, and that of the first one's exported file: all in the same rounds."""
    adapter, threads = get_runtime(conditions.runtime), conditions.threads
    sizes = [one.architecture.resolution for one in trained]
    examples = [torch.rand(conditions.batch, 3, size, size) for size in sizes]
    with measuring(adapter, threads):
        exported = _exported(trained[0], examples[0], folder, conditions.runtime)
        runs: dict[int, Callable[[], object]] = {
            i: adapter.prepare(one.network.to("cpu").eval(), example, threads)
            for i, (one, example) in enumerate(zip(trained, examples, strict=True))
        }
        runs[-1] = adapter.prepare_file(exported, examples[0], threads)
        found = measure(runs, RoundLimits(50), threads=threads, rng=random.Random(seed), timer=adapter.timed_ms)
    where = {"device": adapter.device_name(), **vars(conditions)}
    for i, row in enumerate(rows):
        add_latency(row, where, found[i].median_ms, found[i].spread_ms, budget_ms, "measured")
    again = found[-1]
    file = {"exported_file": exported.name, "exported_latency_ms": again.median_ms}
    rows[0]["latencies"][-1] |= file | {
        "exported_spread_ms": again.spread_ms,
        "exported_keeps": None if budget_ms is None else keeps(again.median_ms, again.spread_ms, budget_ms),
    }
    if len(rows[0]["latencies"]) == 1:
        rows[0] |= file


def add_latency(
    row: dict[str, Any], where: Mapping[str, Any], ms: float | None, spread_ms: float, budget_ms: float | None, how: str
) -> None:
    """One more device's latency in a row of metrics.json; None where a table does not tell it."""
    latencies = row.setdefault("latencies", [])
    latencies.append({
        **where, "budget_ms": budget_ms, "latency_ms": ms, "spread_ms": None if ms is None else spread_ms, "how": how,
        "keeps": None if ms is None or budget_ms is None else keeps(ms, spread_ms, budget_ms),
    })  # fmt: skip
    row["latency_ms"], row["latency_spread_ms"] = latencies[0]["latency_ms"], latencies[0]["spread_ms"]
    kept = [one["keeps"] for one in latencies]
    row["keeps_budget"] = False if False in kept else None if None in kept else True


def _exported(trained: Trained, example: torch.Tensor, folder: Path, runtime: str) -> Path:
    """The file of a written network that a runtime runs; one for a single input shape is made of it."""
    adapter = get_runtime(runtime)
    path = folder / WRITTEN.get(adapter.suffix, f"model{adapter.suffix}")
    if adapter.suffix not in WRITTEN:
        write_atomic(path, adapter.artifact(trained.network.to("cpu").eval(), example))
    return path
