"""The winner beside the baselines: accuracy, cost, and the latency on every device, as metrics.json holds them."""

from __future__ import annotations

import datetime
import logging
import random
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from mnas.config import Recipe
from mnas.data.splits import limited
from mnas.errors import BadInput
from mnas.export.formats import file_name
from mnas.io.files import whole_folder, write_atomic
from mnas.io.size import Size, written
from mnas.io.versions import versions
from mnas.latency.conditions import Conditions
from mnas.latency.machine import measuring
from mnas.latency.measure import measure
from mnas.latency.model import DeviceLatency, LatencyModel, keeps, with_budget
from mnas.latency.runtimes import get_runtime
from mnas.latency.speed import at_table_speed, prepared, speed_of
from mnas.latency.table.anchors import Anchor
from mnas.latency.timing.rounds import Inference, RoundLimits
from mnas.monitor.figures import as_measured, with_spread
from mnas.monitor.tensorboard import markdown_table
from mnas.nn.dense import measured_whole
from mnas.pipeline.context import Context
from mnas.pipeline.kind import J, Judged, SearchKind
from mnas.pipeline.origins import origin_facts
from mnas.pipeline.quantised import FORMATS
from mnas.space.cost import cost
from mnas.space.dense import Outputs
from mnas.training.full import Trained
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")

FILE = "exported file"
"""Among what is measured, beside the numbers of networks."""


class Goal(NamedTuple):
    """Where a winner is written, and the budget that it is to keep."""

    folder: Path
    budget_ms: float | None


def rows_of(
    kind: SearchKind[J], networks: Sequence[Judged[J]], role: Literal["winner", "baseline", "trained"],
    outputs: Outputs,
) -> list[dict[str, Any]]:
    """One row a network, without latencies."""
    rows = []
    for network in networks:
        trained, arch = network.trained, network.trained.architecture
        counted = cost(arch, outputs)
        rows.append({
            "name": trained.name, "role": role, **kind.row(network), "madds": counted.madds, "params": counted.params,
            "activation_mb": counted.activation_mb,
            "resolution": written(arch.resolution), "weights": trained.weights,
            "epochs": trained.epochs, "seconds": round(trained.seconds, 1),
        })  # fmt: skip
    return rows


# --- latencies


def add_all_latencies(
    rows: Sequence[dict[str, Any]], trained: Sequence[Trained], folder: Path, latency: LatencyModel, seed: int
) -> None:
    """Add each network's latency on each device: measured on this machine, predicted or given for another one."""
    for device in latency.devices:
        if device.how == "measured":
            add_latencies(
                rows, trained, folder, device.conditions, seed=seed, budget_ms=device.budget_ms, anchors=device.anchors
            )
        else:
            _add_predicted(rows, trained, device)
        if rows[0]["role"] == "winner":
            _warn_over_budget(rows[0]["latencies"][-1])


def add_latencies(
    rows: Sequence[dict[str, Any]], trained: Sequence[Trained], folder: Path, conditions: Conditions, *, seed: int,
    budget_ms: float | None = None, anchors: Sequence[Anchor] = (),
) -> None:  # fmt: skip
    """Measure the networks here, and the exported file of the first one, all in the same rounds.

    The `anchors` of a table are measured in them too: they give the latencies at the table's speed.
    """
    adapter, threads = get_runtime(conditions.runtime), conditions.threads
    examples = [torch.rand(network.architecture.input_shape(conditions.batch)) for network in trained]
    with measuring(adapter, threads), torch.random.fork_rng(devices=[]):
        # half of the anchors come before the networks: what is prepared later runs up to 2% faster (onnxruntime)
        inferences: dict[Hashable, Inference] = {
            anchor: prepared(anchor, adapter, conditions) for anchor in anchors[::2]
        }
        exported = _exported_file(trained[0], examples[0], folder, conditions.runtime)
        for i, (network, example) in enumerate(zip(trained, examples, strict=True)):
            whole = measured_whole(network.network.to("cpu").eval(), network.architecture)
            inferences[i] = adapter.prepare(whole, example, threads)
        inferences[FILE] = adapter.prepare_file(exported, examples[0], threads)
        inferences |= {anchor: prepared(anchor, adapter, conditions) for anchor in anchors[1::2]}
        rng = random.Random(seed)
        measured = measure(inferences, RoundLimits(50), threads=threads, rng=rng, timer=adapter.timed_ms)
    if anchors:
        speed = speed_of(anchors, [measured[anchor] for anchor in anchors])
        measured = {key: at_table_speed(measurement, speed) for key, measurement in measured.items()}
    where = {"device": adapter.device_name(), **vars(conditions)}
    for i, row in enumerate(rows):
        factor = measured[i].speed_factor if anchors else None
        add_latency(row, where, measured[i].median_ms, measured[i].spread_ms, budget_ms, "measured", factor)
    of_file = measured[FILE]
    file = {"exported_file": exported.name, "exported_latency_ms": of_file.median_ms}
    if anchors:
        file["exported_measured_ms"] = of_file.measured_ms
    rows[0]["latencies"][-1] |= file | {
        "exported_spread_ms": of_file.spread_ms,
        "exported_keeps": None if budget_ms is None else keeps(of_file.median_ms, of_file.spread_ms, budget_ms),
    }
    if len(rows[0]["latencies"]) == 1:
        rows[0] |= file


WRITTEN = {".pt2": "model.py", ".onnx": "model.onnx"}
"""The files that a winner's folder has in any case, by the suffix of the runtimes that run them."""


def _exported_file(trained: Trained, example: torch.Tensor, folder: Path, runtime: str) -> Path:
    """The file of a written network that a runtime runs; made here if it is for a single input shape.

    Of a detector that without suppression, whose time depends on what is seen.
    """
    adapter = get_runtime(runtime)
    if runtime in FORMATS:
        return folder / file_name(FORMATS[runtime], "int8")
    raw = folder / f"model_raw{adapter.suffix}"
    if raw.exists():
        return raw
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
    row: dict[str, Any], where: Mapping[str, Any], ms: float | None, spread_ms: float, budget_ms: float | None,
    how: str, speed_factor: float | None = None,
) -> None:  # fmt: skip
    """Add the latency on one more device to a row of metrics.json; None where its table lacks layers.

    With a `speed_factor`, `ms` is at a table's speed, and the row also gets the figure as measured.
    """
    latencies = row.setdefault("latencies", [])
    both = {}
    if ms is not None and speed_factor is not None:
        both = {"measured_ms": ms * speed_factor, "speed_factor": speed_factor}
    latencies.append({
        **where, "budget_ms": budget_ms, "latency_ms": ms, "spread_ms": None if ms is None else spread_ms, "how": how,
        "keeps": None if ms is None or budget_ms is None else keeps(ms, spread_ms, budget_ms), **both,
    })  # fmt: skip
    row["latency_ms"], row["latency_spread_ms"] = latencies[0]["latency_ms"], latencies[0]["spread_ms"]
    if len(latencies) == 1:
        row |= both
    kept = [latency["keeps"] for latency in latencies]
    row["keeps_budget"] = False if False in kept else None if None in kept else True


def _warn_over_budget(latency: dict[str, Any]) -> None:
    """Warn where the winner, or its exported file, exceeds the budget after all."""
    budget_ms = latency["budget_ms"]
    if latency["keeps"] is False:
        log.warning(
            "the winner takes %s ms with %s%s, over the budget of %g ms: was the machine busy?",
            with_spread(latency["latency_ms"], latency["spread_ms"]), latency["runtime"],
            as_measured(latency.get("measured_ms"), latency.get("speed_factor")), budget_ms,
        )  # fmt: skip
    if latency.get("exported_keeps") is False:
        log.warning(
            "%s takes %s ms%s, over the budget of %g ms: was the machine busy?", latency["exported_file"],
            with_spread(latency["exported_latency_ms"], latency["exported_spread_ms"]),
            as_measured(latency.get("exported_measured_ms"), latency.get("speed_factor")), budget_ms,
        )  # fmt: skip


# --- metrics.json


def write_winner(
    kind: SearchKind[J], context: Context, networks: Sequence[Judged[J]], rows: list[dict[str, Any]], goal: Goal,
    recipe: Recipe, search: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write the folder of a winner, the first of `networks`; `rows` get the latencies, which are measured last."""
    folder, budget_ms = goal
    trained = [network.trained for network in networks]
    winner, trainer, config = trained[0], context.trainer.at_full_size(), context.config
    title = f"{context.space.name} {winner.name}"
    with whole_folder(folder) as part:
        kind.write(part, winner, context, title)
        latency = with_budget(context.latency, budget_ms) if config.budgets_ms else context.latency
        add_all_latencies(rows, trained, part, latency, config.seed)
        first = rows[0]["latencies"][0]
        constraints = {
            constraint.option.removeprefix("--").replace("-", "_"): constraint.limit
            for constraint in context.constraints.items
        }
        metrics = {
            "title": title, "networks": rows,
            "latency": {
                "resolution": rows[0]["resolution"],
                **{name: first[name] for name in ("device", "runtime", "threads", "batch", "budget_ms", "how")},
            },
            "limits": constraints,
            "search": dict(search), "pretrained": origin_facts(context.run),
            "versions": versions(), "date": datetime.date.today().isoformat(),
            **kind.facts(context, networks, recipe),
        }  # fmt: skip
        kind.write_metrics(part, metrics, trainer)
    context.board.text(winner.name, markdown_table(rows[0]) + f"\n```yaml\n{winner.architecture.to_yaml()}```\n")
    for one in metrics.get("verdicts", ()):
        log.info("%s and %s on the test split: %s", winner.name, one["baseline"], one["verdict"])
    kind.show(context, networks, metrics)
    log.info("%s: %s", winner.name, folder)


def warn_of_majority(row: Mapping[str, Any], majority_share: float) -> None:
    """Warn where a network is no better than always answering the most frequent class."""
    if row["test_accuracy"] <= majority_share:
        log.warning(
            "%s: accuracy %.2f%%, no better than always answering the most frequent class (%.2f%%); balanced accuracy "
            "%.2f%%. Train longer (--budget), or weight the classes (--class-weights auto)", row["name"],
            100 * row["test_accuracy"], 100 * majority_share, 100 * row["balanced_accuracy"],
        )  # fmt: skip


def accuracy_facts(trainer: Trainer, recipe: Recipe, size: Size) -> dict[str, Any]:
    """How the accuracies were obtained, as metrics.json holds it."""
    data = trainer.data
    return {
        "resolution": written(size), "data": data.name, "seed": trainer.seed,
        "fit": data.train.reading.fit, "channels": data.train.reading.channels,
        "train_images": len(limited(data.train, recipe.images, trainer.seed)), "val_images": len(data.val),
        "test_images": len(data.test), "epochs": recipe.epochs, "precision": trainer.precision,
    }  # fmt: skip
