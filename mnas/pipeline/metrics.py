"""The winner beside the baselines: accuracy, cost, and the latency on every device, as metrics.json holds them."""

from __future__ import annotations

import datetime
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from mnas.config import Recipe
from mnas.data.splits import limited
from mnas.errors import BadInput
from mnas.export.folder import write_metrics, write_model
from mnas.io.files import write_atomic
from mnas.io.versions import versions
from mnas.latency.conditions import Conditions
from mnas.latency.machine import measuring
from mnas.latency.measure import measure
from mnas.latency.model import DeviceLatency, LatencyModel, keeps, with_budget
from mnas.latency.runtimes import get_runtime
from mnas.latency.timing.rounds import RoundLimits
from mnas.monitor.tensorboard import markdown_table
from mnas.pipeline.context import Context, size_notes
from mnas.space.cost import cost
from mnas.training.trainer import Trained, Trainer, test_accuracy

log = logging.getLogger("mnas")


def rows_of(
    trained: Sequence[Trained], role: Literal["winner", "baseline", "trained"], trainer: Trainer
) -> list[dict[str, Any]]:
    """One row a network, without latencies; reads the test split."""
    rows = []
    for network in trained:
        arch = network.architecture
        counted = cost(arch, trainer.data.num_classes)
        rows.append({
            "name": network.name, "role": role, "test_accuracy": test_accuracy(network, trainer),
            "val_accuracy": network.val_accuracy, "madds": counted.madds, "params": counted.params,
            "activation_mb": counted.activation_mb,
            "resolution": arch.resolution, "accuracy_resolution": trainer.sizes.of(arch), "weights": network.weights,
            "epochs": network.epochs,
        })  # fmt: skip
    return rows


# --- latencies


def add_all_latencies(
    rows: Sequence[dict[str, Any]], trained: Sequence[Trained], folder: Path, latency: LatencyModel, seed: int
) -> None:
    """Add each network's latency on each device: measured on this machine, predicted or given for another one."""
    for device in latency.devices:
        if device.how == "measured":
            add_latencies(rows, trained, folder, device.conditions, seed=seed, budget_ms=device.budget_ms)
        else:
            _add_predicted(rows, trained, device)
        _warn_over_budget(rows[0]["latencies"][-1])


def add_latencies(
    rows: Sequence[dict[str, Any]], trained: Sequence[Trained], folder: Path, conditions: Conditions, *, seed: int,
    budget_ms: float | None = None,
) -> None:  # fmt: skip
    """Measure the networks here, and the exported file of the first one, all in the same rounds."""
    adapter, threads = get_runtime(conditions.runtime), conditions.threads
    sizes = [network.architecture.resolution for network in trained]
    examples = [torch.rand(conditions.batch, 3, size, size) for size in sizes]
    with measuring(adapter, threads):
        exported = _exported_file(trained[0], examples[0], folder, conditions.runtime)
        inferences: dict[int, Callable[[], object]] = {
            i: adapter.prepare(network.network.to("cpu").eval(), example, threads)
            for i, (network, example) in enumerate(zip(trained, examples, strict=True))
        }
        inferences[-1] = adapter.prepare_file(exported, examples[0], threads)
        rng = random.Random(seed)
        measured = measure(inferences, RoundLimits(50), threads=threads, rng=rng, timer=adapter.timed_ms)
    where = {"device": adapter.device_name(), **vars(conditions)}
    for i, row in enumerate(rows):
        add_latency(row, where, measured[i].median_ms, measured[i].spread_ms, budget_ms, "measured")
    of_file = measured[-1]
    file = {"exported_file": exported.name, "exported_latency_ms": of_file.median_ms}
    rows[0]["latencies"][-1] |= file | {
        "exported_spread_ms": of_file.spread_ms,
        "exported_keeps": None if budget_ms is None else keeps(of_file.median_ms, of_file.spread_ms, budget_ms),
    }
    if len(rows[0]["latencies"]) == 1:
        rows[0] |= file


WRITTEN = {".pt2": "model.py", ".onnx": "model.onnx"}
"""The files that a winner's folder has in any case, by the suffix of the runtimes that run them."""


def _exported_file(trained: Trained, example: torch.Tensor, folder: Path, runtime: str) -> Path:
    """The file of a written network that a runtime runs; made here if it is for a single input shape."""
    adapter = get_runtime(runtime)
    path = folder / WRITTEN.get(adapter.suffix, f"model{adapter.suffix}")
    if adapter.suffix not in WRITTEN:
        write_atomic(path, adapter.artifact(trained.network.to("cpu").eval(), example))
    return path


def _add_predicted(rows: Sequence[dict[str, Any]], trained: Sequence[Trained], device: DeviceLatency) -> None:
    where = {"device": device.device, **vars(device.conditions)}
    for row, network in zip(rows, trained, strict=True):
        try:
            latency = device.measure([network.architecture])[0]
        except BadInput:
            if row["role"] == "winner" or device.how != "predicted":
                raise
            log.info("%s: no latency on %s: the table lacks some of its layers", network.name, device.device)
            add_latency(row, where, None, 0.0, device.budget_ms, "not in the table")
            continue
        add_latency(row, where, latency.median_ms, latency.spread_ms, device.budget_ms, device.how)


def add_latency(
    row: dict[str, Any], where: Mapping[str, Any], ms: float | None, spread_ms: float, budget_ms: float | None, how: str
) -> None:
    """Add the latency on one more device to a row of metrics.json; None where its table lacks layers."""
    latencies = row.setdefault("latencies", [])
    latencies.append({
        **where, "budget_ms": budget_ms, "latency_ms": ms, "spread_ms": None if ms is None else spread_ms, "how": how,
        "keeps": None if ms is None or budget_ms is None else keeps(ms, spread_ms, budget_ms),
    })  # fmt: skip
    row["latency_ms"], row["latency_spread_ms"] = latencies[0]["latency_ms"], latencies[0]["spread_ms"]
    kept = [latency["keeps"] for latency in latencies]
    row["keeps_budget"] = False if False in kept else None if None in kept else True


def _warn_over_budget(latency: dict[str, Any]) -> None:
    """Warn where the winner, or its exported file, exceeds the budget after all."""
    budget_ms = latency["budget_ms"]
    if latency["keeps"] is False:
        log.warning(
            "the winner takes %.2f +- %.2f ms with %s, over the budget of %g ms: was the machine busy?",
            latency["latency_ms"], latency["spread_ms"], latency["runtime"], budget_ms,
        )  # fmt: skip
    if latency.get("exported_keeps") is False:
        log.warning(
            "%s takes %.2f +- %.2f ms, over the budget of %g ms: was the machine busy?", latency["exported_file"],
            latency["exported_latency_ms"], latency["exported_spread_ms"], budget_ms,
        )  # fmt: skip


# --- metrics.json


def write_winner(
    context: Context, trained: Sequence[Trained], rows: list[dict[str, Any]], folder: Path, budget_ms: float | None,
    recipe: Recipe, search: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write the folder of a winner, the first of `trained`; `rows` get the latencies, which are measured last."""
    winner, trainer, config = trained[0], context.trainer, context.config
    title, notes = f"{context.space.name} {winner.name}", size_notes(trainer)
    size = trainer.sizes.of(winner.architecture)
    write_model(folder, winner, trainer.data, size=size, title=title, notes=notes)
    latency = with_budget(context.latency, budget_ms) if config.budgets_ms else context.latency
    add_all_latencies(rows, trained, folder, latency, config.seed)
    first = rows[0]["latencies"][0]
    constraints = {
        constraint.option.removeprefix("--").replace("-", "_"): constraint.limit
        for constraint in context.constraints.items
    }
    metrics = {
        "title": title, "notes": notes, "networks": rows,
        "latency": {
            "resolution": rows[0]["resolution"],
            **{name: first[name] for name in ("device", "runtime", "threads", "batch", "budget_ms", "how")},
        },
        "limits": constraints,
        "accuracy": accuracy_facts(trainer, recipe, size, config.data, config.max_broken), "search": dict(search),
        "versions": versions(), "date": datetime.date.today().isoformat(),
    }  # fmt: skip
    write_metrics(folder, metrics, trainer.data.classes)
    context.board.text(winner.name, markdown_table(rows[0]) + f"\n```yaml\n{winner.architecture.to_yaml()}```\n")
    log.info("%s: %s", winner.name, folder)


def accuracy_facts(trainer: Trainer, recipe: Recipe, size: int, source: str, max_broken: int) -> dict[str, Any]:
    """How the accuracies were obtained, as metrics.json holds it; `source` is what --data names."""
    data = trainer.data
    return {
        "resolution": size, "data": data.name, "source": source, "seed": trainer.seed, "max_broken": max_broken,
        "train_images": len(limited(data.train, recipe.images, trainer.seed)), "val_images": len(data.val),
        "test_images": len(data.test), "epochs": recipe.epochs,
    }  # fmt: skip
