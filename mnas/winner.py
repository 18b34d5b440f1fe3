"""From finished trials to a network on disk: finalists measured, the winner trained, compared, written."""

from __future__ import annotations

import logging
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import nn

from mnas import objective
from mnas.architecture import Architecture
from mnas.config import Recipe
from mnas.data.augment import MEAN, STD
from mnas.data.loader import default_workers
from mnas.data.sources import ImageData
from mnas.data.splits import limited
from mnas.errors import BadInput, Infeasible
from mnas.export.card import model_card, write_preprocessing
from mnas.export.onnx import export_onnx
from mnas.export.pytorch import export_pytorch
from mnas.latency.measure import measure, on_cores
from mnas.latency.runtimes import get_runtime
from mnas.latency_source import PREDICTED, Measure, keeps
from mnas.limits import Limits
from mnas.monitor import TensorBoard, progress
from mnas.nn.network import Network, build
from mnas.nn.pretrained import check_sum
from mnas.run import write_atomic, write_json
from mnas.space import SearchSpace
from mnas.strict_yaml import read_text
from mnas.training.loop import accuracy, fit, recalibrate
from mnas.training.recipe import flips
from mnas.trial import Trial

log = logging.getLogger("mnas")

CALIBRATION_IMAGES = 4096
WRITTEN = {".pt2": "model.py", ".onnx": "model.onnx"}
"""Of a runtime's own kind of files, what a winner's folder has in any case."""
MOST_OFF = 1.5
"""Measured and predicted latencies that differ by more than this factor were not taken under the same conditions."""

Start = Callable[[], tuple[nn.Module, nn.Module | None]]


@dataclass(frozen=True)
class Trained:
    """A network after full training, with its accuracy on the search-validation split."""

    name: str
    architecture: Architecture
    network: Network
    val_accuracy: float
    weights: Literal["scratch", "inherited"] = "scratch"
    """What its training began from."""
    epochs: int = 0
    """Of its training."""


def finalists(
    trials: Sequence[Trial], measure: Measure, budget_ms: float | None, at_once: int
) -> list[Trial]:
    """The most accurate finished candidates whose measured latency keeps the budget: those of the first `at_once` that
    hold one, best first.

    Without a budget: the knee of the front of accuracy and latency. Raises Infeasible where no candidate keeps it.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        which = "" if budget_ms is None else f" within {budget_ms:g} ms"
        raise Infeasible(
            f"no candidate was finished{which}; a new run with more --trials or a longer --budget may find one"
        )
    if budget_ms is None:
        point = objective.knee((trial.accuracy or 0, trial.latency_ms) for trial in complete)
        return [next(trial for trial in complete if (trial.accuracy, trial.latency_ms) == point)]
    complete.sort(key=lambda trial: (-(trial.accuracy or 0), trial.latency_ms))
    closest = math.inf
    for start in range(0, len(complete), at_once):
        some = complete[start : start + at_once]
        measured = measure([trial.architecture for trial in some])
        for trial, latency in zip(some, measured, strict=True):
            log.info(
                "finalist: trial %d, %s, %.2f ms by the search, %.2f +- %.2f ms %s: %s",
                trial.number, trial.told, trial.latency_ms, latency.median_ms, latency.spread_ms,
                "measured" if latency.rounds != PREDICTED else "predicted by a table, not measured",
                "keeps the budget" if keeps(latency.median_ms, latency.spread_ms, budget_ms) else "over the budget",
            )  # fmt: skip
            closest = min(closest, latency.median_ms)
        off = statistics.median(m.median_ms / t.latency_ms for t, m in zip(some, measured, strict=True))
        if not 1 / MOST_OFF < off < MOST_OFF:
            log.warning(
                "measured latencies are %.1f times the predicted ones: the machine was busy during one of them; "
                "mnas latency check judges a table anew, mnas latency build measures one", off,
            )  # fmt: skip
        kept = [
            trial for trial, latency in zip(some, measured, strict=True)
            if keeps(latency.median_ms, latency.spread_ms, budget_ms)
        ]  # fmt: skip
        if kept:
            return kept
    raise Infeasible(
        f"no candidate keeps {budget_ms:g} ms as a whole network, with its uncertainty (the fastest of them takes "
        f"{closest:.2f} ms); if the machine was busy, mnas resume measures again; otherwise a new run with more "
        "--trials, a longer --budget or a larger --latency-ms may find one"
    )


def most_accurate(
    trained: Sequence[Trained], space: SearchSpace, measure: Measure, budget_ms: float | None, limits: Limits
) -> Trained:
    """The best, by full training, of the chosen network (the first) and those baselines that a search could have found.

    A short training may have ranked a reference network too low: what is now known to be worse is not handed over.
    """
    able = [one for one in trained[1:] if one.architecture in space and limits.keeps(one.architecture)]
    rivals = [one for one in able if one.val_accuracy > trained[0].val_accuracy]
    if not rivals or budget_ms is None:
        return trained[0]
    measured = measure([one.architecture for one in rivals])
    kept = [
        one for one, latency in zip(rivals, measured, strict=True)
        if keeps(latency.median_ms, latency.spread_ms, budget_ms)
    ]  # fmt: skip
    return max(kept, key=lambda one: one.val_accuracy, default=trained[0])


def train_fully(
    name: str, arch: Architecture, data: ImageData, recipe: Recipe, *, size: int, device: torch.device, seed: int,
    checkpoints: Path, board: TensorBoard | None = None, start: Start | None = None,
) -> Trained:  # fmt: skip
    """`arch` trained by `recipe` at `size` pixels; a finished training found in `checkpoints` is not repeated.

    `start` gives the network whose weights it begins with, and a teacher whose outputs it learns too where there is
    one; it is called where there is something to train. Without it, it begins with fresh weights.
    """
    weights: Literal["scratch", "inherited"] = "scratch" if start is None else "inherited"
    file = checkpoints / f"{arch.id}-{size}px-{recipe.epochs}epochs-seed{seed}-{weights}.safetensors"
    torch.manual_seed(seed)
    network = build(arch, data.num_classes, recipe.dropout)
    train = limited(data.train, recipe.images, seed)
    workers = 0 if train.in_memory else default_workers()
    reached = 0.0
    if file.exists():
        load_weights(network, file)
        reached = accuracy(network, data.val, size=size, device=device, workers=workers, exact=True)
        log.info("%s: trained before, %.2f%% on the search-validation split", name, 100 * reached)
        return Trained(name, arch, network, reached, weights, recipe.epochs)
    teacher = None
    if start is not None:
        inherited, teacher = start()
        network.load_state_dict(inherited.state_dict())
    with progress(f"train {name}", recipe.epochs) as shown:
        flip = flips(recipe, data.flip)
        for epoch in fit(
            network, train, recipe, size=size, flip=flip, device=device, seed=seed, workers=workers, teacher=teacher
        ):
            reached = accuracy(network, data.val, size=size, device=device, workers=workers)
            shown.update(epoch.number, recipe.epochs, f"loss {epoch.loss:.3f}, validation {reached:.2%}")
            if board is not None:
                figures = {"loss": epoch.loss, "lr": epoch.lr, "images_per_s": epoch.images_per_s, "accuracy": reached}
                board.training(name, epoch.number, figures)
    recalibrate(network, train, images=CALIBRATION_IMAGES, size=size, device=device, workers=workers)
    reached = accuracy(network, data.val, size=size, device=device, workers=workers, exact=True)
    checkpoints.mkdir(parents=True, exist_ok=True)
    network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    write_atomic(file, safetensors.torch.save(network.state_dict()))
    log.info("%s: trained for %d epochs, %.2f%% on the search-validation split", name, recipe.epochs, 100 * reached)
    return Trained(name, arch, network, reached, weights, recipe.epochs)


def test_accuracy(trained: Trained, data: ImageData, *, size: int, device: torch.device) -> float:
    """Accuracy on the test split: read once, when nothing is left to decide."""
    workers = 0 if data.test.in_memory else default_workers()
    return accuracy(trained.network, data.test, size=size, device=device, workers=workers, exact=True)


def write_model(
    folder: Path, trained: Trained, data: ImageData, *, size: int, title: str, notes: Sequence[str] = ()
) -> None:
    """A trained network's files into `folder`: model.py, weights, model.onnx, architecture, preprocessing."""
    folder.mkdir(parents=True, exist_ok=True)
    network = trained.network.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    # model.py speaks of the size at which its weights were trained
    used = replace(trained.architecture, resolution=size)
    export_pytorch(network, used, folder, classes=data.classes, title=title, notes=notes)
    write_atomic(folder / "architecture.yaml", trained.architecture.to_yaml())
    write_preprocessing(folder / "preprocessing.json", resolution=size, classes=data.classes, mean=MEAN, std=STD)
    export_onnx(network, size, folder / "model.onnx")


def add_latencies(
    rows: Sequence[dict[str, Any]], trained: Sequence[Trained], folder: Path, *, runtime: str, threads: int, batch: int,
    seed: int, budget_ms: float | None = None,
) -> None:  # fmt: skip
    """Add each network's latency here to its row, and that of the first one's exported file: all in the same rounds."""
    adapter = get_runtime(runtime)
    sizes = [one.architecture.resolution for one in trained]
    examples = [torch.rand(batch, 3, size, size) for size in sizes]
    with on_cores(adapter, threads):
        exported = _exported(trained[0], examples[0], folder, runtime)
        runs: dict[int, Callable[[], object]] = {
            i: adapter.prepare(one.network.to("cpu").eval(), example, threads)
            for i, (one, example) in enumerate(zip(trained, examples, strict=True))
        }
        runs[-1] = adapter.prepare_file(exported, examples[0], threads)
        found = measure(runs, threads=threads, rounds=50, rng=random.Random(seed), timer=adapter.timed_ms)
    where = {"device": adapter.device_name(), "runtime": runtime, "threads": threads, "batch": batch}
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


def write_metrics(folder: Path, metrics: dict[str, Any], classes: Sequence[str]) -> None:
    """metrics.json and the model card that tells the same figures."""
    write_json(folder / "metrics.json", metrics)
    files = sorted({path.name for path in folder.iterdir() if not path.name.startswith(".")} | {"README.md"})
    card = model_card(title=metrics["title"], metrics=metrics, classes=classes, files=files)
    write_atomic(folder / "README.md", card)


def load_model(folder: Path, classes: int | None = None) -> tuple[Network, Architecture]:
    """The trained network of a folder that `write_model` wrote."""
    arch_file, weights = folder / "architecture.yaml", folder / "weights.safetensors"
    for path in (arch_file, weights):
        if not path.exists():
            raise BadInput(f"{path}: missing; expected the winner/ folder of a finished run")
    arch = Architecture.from_yaml(read_text(arch_file), str(arch_file))
    check_sum(weights)
    state = _read(weights)
    found = state["classifier.weight"].shape[0] if "classifier.weight" in state else 0
    if classes is not None and found != classes:
        raise BadInput(f"{folder}: the network knows {found} classes, the data has {classes}; they must be the same")
    network = build(arch, found or 1000)
    _fill(network, state, weights)
    return network.eval(), arch


def load_weights(network: Network, path: Path) -> None:
    """Fill `network` from a safetensors file of an equal one."""
    _fill(network, _read(path), path)


def _fill(network: Network, state: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"{path}: does not fit this architecture: {str(error).splitlines()[1].strip()}") from None


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise BadInput(f"{path}: cannot be read as safetensors weights: {error}") from None
