"""The winner beside the baselines: accuracy, cost, and the latency on every device, as metrics.json holds them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from mnas.architecture import Architecture
from mnas.cost import cost
from mnas.data.sources import ImageData
from mnas.errors import BadInput
from mnas.latency_source import LatencySource, Source
from mnas.limits import BYTES_IN_MB
from mnas.winner import Trained, add_latencies, add_latency, test_accuracy

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
    rows: Sequence[dict[str, Any]], trained: Sequence[Trained], folder: Path, source: LatencySource, seed: int
) -> None:
    """Each network's latency on each device: measured here, where that can be; else what is stated of it."""
    for one in source.each:
        if one.how == "measured":
            add_latencies(
                rows, trained, folder, runtime=one.runtime, threads=one.threads, batch=one.batch, seed=seed,
                budget_ms=one.budget_ms,
            )  # fmt: skip
        else:
            _add_stated(rows, trained, one)
        _warn(rows[0]["latencies"][-1])


def _add_stated(rows: Sequence[dict[str, Any]], trained: Sequence[Trained], source: Source) -> None:
    where = {"device": source.device, "runtime": source.runtime, "threads": source.threads, "batch": source.batch}
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
