"""What `mnas latency ...` does: measure, build, predict, check."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mnas.config import MAX_TABLE_ERROR
from mnas.errors import BadInput
from mnas.export.folder import ARCHITECTURE_FILE, load_model, model_folder
from mnas.export.formats import FILES
from mnas.io.size import Size, written
from mnas.latency.conditions import Conditions
from mnas.latency.machine import measuring
from mnas.latency.measure import (
    ONE_NETWORK,
    anchor_inferences,
    check_limits,
    instabilities,
    measure,
    measure_networks,
)
from mnas.latency.runtimes import Runtime, check_runs, get_runtime
from mnas.latency.table import calibrate
from mnas.latency.table.cache import cache_path, table_for
from mnas.latency.table.calibration import Calibration
from mnas.latency.table.suggestions import suggestions
from mnas.latency.table.table import LatencyTable, differences, load_table
from mnas.latency.timing.device import clock_mhz
from mnas.latency.timing.rounds import Inference, RoundLimits
from mnas.monitor.console import progress
from mnas.nn.dense import network_for
from mnas.nn.network import Network, build
from mnas.space.architecture import Architecture
from mnas.space.dense import UNDER, DenseHead, Outputs, classes_of, under
from mnas.space.narrowing import WITHOUT
from mnas.space.space import SearchSpace, load_space
from mnas.space.zoo import NETWORKS, load_architecture

log = logging.getLogger("mnas")

MODEL_FILES = {Path(file).suffix for file in FILES.values()} - {".safetensors"}  # which has weights alone


@dataclass(frozen=True)
class SpaceChoice:
    """The layers that a table is about: a space by its preset's name or file, its input sizes, a number of classes."""

    name: str
    num_classes: Outputs = 1000
    """Or the head that its networks are under."""
    resolution: Sequence[Size] | None = None
    """All sizes of the space by default."""
    channels: int | None = None
    """Of the images; those of the space's file by default."""
    without: str = ""
    """Choices that are left out: "se,kernel7"."""

    def load(self) -> SearchSpace:
        space = load_space(self.name).without(self.without)
        space = space if self.channels is None else space.with_channels(self.channels)
        return space.with_resolutions(tuple(self.resolution)) if self.resolution else space


# --- measure ----------------------------------------------------------------------------------------------------


def measure_latency(
    targets: Sequence[str], conditions: Conditions, limits: RoundLimits = ONE_NETWORK, *,
    resolution: Size | None = None, num_classes: Outputs = 1000, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Latency of whole networks in the same rounds: zoo names, architecture files, run folders, model files.

    Under a head all but model files, in place of their classifier.
    """
    check_limits(limits)
    check_runs(conditions.runtime, num_classes)
    adapter = get_runtime(conditions.runtime)
    version = adapter.version()
    with measuring(adapter, conditions.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inferences = {name: _prepared(name, adapter, conditions, resolution, num_classes) for name in targets}
        with progress("measure", 1.0) as shown:
            measurements = measure(
                inferences, limits, anchors=anchor_inferences(adapter, conditions.threads), threads=conditions.threads,
                rng=random.Random(seed), timer=adapter.timed_ms,
                progress=lambda count, total: shown.update(count / total, 1.0, f"{count} rounds"),
            )  # fmt: skip
    return {
        "device": adapter.device_name(), "runtime": conditions.runtime, "runtime_version": version,
        "threads": conditions.threads, "batch": conditions.batch, "clock_mhz": clock_mhz(),
        "networks": [
            {"name": name, "latency_ms": timed.median_ms, "spread_ms": timed.spread_ms, "rounds": timed.rounds,
             "unstable": timed.unstable or None}
            for name, timed in measurements.items()
        ],
    }  # fmt: skip


def _prepared(
    target: str, adapter: Runtime, conditions: Conditions, resolution: Size | None, num_classes: Outputs
) -> Inference:
    """The network that a command's argument names, prepared for a runtime."""
    path = NETWORKS.path(target)
    if path is not None and path.suffix in MODEL_FILES:
        if isinstance(num_classes, DenseHead):
            raise BadInput(f"{target}: --head is for architectures and runs; a model file has its own head")
        beside = path.with_name("architecture.yaml")
        arch = load_architecture(beside if beside.exists() else "mobilenet_v3_large")
        images = torch.rand(replace(arch, resolution=resolution or arch.resolution).input_shape(conditions.batch))
        return adapter.prepare_file(path, images, conditions.threads)
    network, arch = _network(target, resolution, num_classes)
    images = torch.rand(arch.input_shape(conditions.batch))
    return adapter.prepare(network, images, conditions.threads)


def _network(target: str, resolution: Size | None, num_classes: Outputs) -> tuple[nn.Module, Architecture]:
    """A trained network from its folder, or a fresh one by name or architecture file, perhaps under a head."""
    path = NETWORKS.path(target)
    trained: Network | None = None
    if path is not None and path.is_dir():
        trained, arch = load_model(model_folder(path))
    else:
        arch = load_architecture(target, resolution or 224)
    arch = replace(arch, resolution=resolution) if resolution else arch
    if isinstance(num_classes, DenseHead):
        return network_for(arch, num_classes, trained), arch
    return trained or build(arch, num_classes).eval(), arch


# --- build, predict and check ---------------------------------------------------------------------------------------


def build_latency_table(
    choice: SpaceChoice, conditions: Conditions, *, output: str | Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """Measures every layer of the space, and calibrates; layers that the table has already are kept."""
    check_runs(conditions.runtime, choice.num_classes)
    space = choice.load()
    path = output or cache_path(space, conditions, outputs=choice.num_classes)
    table = table_for(space, choice.num_classes, conditions, seed=seed, path=output)
    layers = space.layers(choice.num_classes)
    fastest, slowest = (None, None) if table.missing(layers) else range_ms(space, table, choice.num_classes)
    return {
        "path": str(path), **about(table), "layers": len(table.entries), "failed": len(table.failed),
        "space": under(space.name, choice.num_classes), "fastest_ms": fastest, "slowest_ms": slowest,
        "calibration": table.calibration and table.calibration.to_dict(),
        "suggestions": [one.to_dict() for one in suggestions(table, layers)],
    }  # fmt: skip


def predict_latency(
    path: str | Path, targets: Sequence[str], *, num_classes: int | None = None, resolution: Size | None = None
) -> dict[str, Any]:
    """Latencies of networks by a table: zoo names, architecture files and runs, at their own size or `resolution`.

    The classifier or head and the classes are those that `check_table` takes.
    """
    table = load_table(path)
    outputs = _outputs_of(table, num_classes)
    archs = [_architecture(target, resolution) for target in targets]
    predicted = table.predict_many(archs, outputs).tolist()
    fit = table.calibration
    return {
        "path": str(path), **about(table), "classes": classes_of(outputs),
        "head": str(outputs) if isinstance(outputs, DenseHead) else None,
        "mean_error": None if fit is None else fit.error.mean_error,
        "networks": [
            {"name": name, "resolution": written(arch.resolution), "latency_ms": ms}
            for name, arch, ms in zip(targets, archs, predicted, strict=True)
        ],
    }  # fmt: skip


def _architecture(target: str, resolution: Size | None) -> Architecture:
    path = NETWORKS.path(target)
    folder = path is not None and path.is_dir()
    arch = load_architecture(model_folder(Path(target)) / ARCHITECTURE_FILE if folder else target, resolution or 224)
    return replace(arch, resolution=resolution) if resolution else arch


def check_table(
    path: str | Path, *, space: str | None, num_classes: int | None, resolution: Sequence[Size] | None, networks: int,
    seed: int | None,
) -> dict[str, Any]:
    """The error of the table's predictions for fresh random networks of the space, measured here and now.

    The networks are under the head that the table was calibrated for, if any. Without `num_classes` they have the most
    classes that the table has a classifier or a head for. `today` is the error
    as measured; `same_speed` the error at the machine's speed when the table was made, which the networks of its
    calibration show; `verdict` is that of `verdict_of`.
    """
    table = LatencyTable.load(path)
    if table.origin == "imported":
        raise BadInput(f"{path}: imported from another device; it can only be checked on that device ({table.device})")
    differ = differences(table, table.conditions)
    if differ:
        raise BadInput(f"{path}: cannot be checked here: measured on {'; '.join(differ)}")
    stated = table.calibration
    if stated is None and space is None:
        raise BadInput(f"{path}: has no calibration that names its space; name it: --space v3_large")
    if not resolution and stated is not None:
        resolution = stated.networks.resolutions
    outputs = _outputs_of(table, num_classes)
    name, _, without = str(stated and stated.networks.space).partition(UNDER)[0].partition(WITHOUT)
    if space is not None and load_space(space).name != name:
        without = ""
    choice = SpaceChoice(space or name, outputs, resolution, without=without)
    loaded = choice.load()
    rng = random.Random(seed)
    archs = [loaded.sample(rng) for _ in range(networks)]
    predicted = table.predict_many(archs, outputs)  # missing layers are reported before anything is measured
    fitted = _fitted_networks(stated, loaded, outputs)
    with progress("check", 1.0) as shown:
        measurements = measure_networks(
            [*archs, *fitted], table.conditions, calibrate.round_limits(), num_classes=outputs, rng=rng,
            progress=lambda count, total: shown.update(count / total, 1.0, "whole networks"),
        )  # fmt: skip
    ms = np.array([measurement.median_ms for measurement in measurements[:networks]])
    slower = calibrate.mean_ms(measurements[networks:]) / stated.networks.anchor_ms if stated and fitted else None
    today = calibrate.table_error(predicted, ms)
    same_speed = calibrate.table_error(predicted, ms / slower) if slower else None
    repeatability = float(np.mean([measurement.repeatability or 0.0 for measurement in measurements]))
    return {
        "path": str(path), "device": table.device, "runtime": table.runtime, "networks": networks,
        "space": under(loaded.name, outputs), "classes": classes_of(outputs),
        "verdict": verdict_of((same_speed or today).mean_error, stated, repeatability),
        "stated": stated and stated.to_dict(), "today": asdict(today),
        "same_speed": same_speed and asdict(same_speed), "slower": slower, "repeatability": repeatability,
        "unstable": instabilities(measurements) or None,
    }  # fmt: skip


def verdict_of(mean_error: float, stated: Calibration | None, repeatability: float) -> str:
    """The verdict on a table by its mean error today.

    inexact: above the limit of a search. worse than stated: above the stated error plus the repeatability of
    today's measurements. good: neither.
    """
    if mean_error > MAX_TABLE_ERROR:
        return "inexact"
    worse = stated is not None and mean_error > stated.error.mean_error + repeatability
    return "worse than stated" if worse else "good"


def _outputs_of(table: LatencyTable, num_classes: int | None) -> Outputs:
    """The head that a table was calibrated for, or its only one, with so many classes; or a number of classes.

    The most that the table has, unless they are stated.
    """
    head = "" if table.calibration is None else table.calibration.networks.space.partition(UNDER)[2]
    heads = [one for one in table.heads() if str(one) == head or not (head or table.classes() or table.calibration)]
    if heads:
        return max(heads, key=classes_of) if num_classes is None else replace(heads[-1], num_classes=num_classes)
    return num_classes or max(table.classes(), default=1000)


def _fitted_networks(stated: Calibration | None, space: SearchSpace, outputs: Outputs) -> list[Architecture]:
    """The networks that the table's correction was fitted on, where it was on this space; else none."""
    if stated is None or not stated.is_of(space, outputs):
        return []
    return calibrate.calibration_networks(space)[: stated.networks.fitted]


def about(table: LatencyTable) -> dict[str, Any]:
    """What was measured, in plain data."""
    return {"device": table.device, "runtime": table.runtime, "threads": table.threads, "batch": table.batch}


def range_ms(space: SearchSpace, table: LatencyTable, num_classes: Outputs) -> tuple[float, float]:
    """Milliseconds of the fastest and the slowest network of a space."""

    def ms(arch: Architecture) -> float:
        return table.predict(arch, num_classes)

    return ms(space.argmin(ms)), ms(space.argmax(ms))
