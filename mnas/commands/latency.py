"""What `mnas latency ...` does: measure, build, check, kit, import."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnas.errors import BadInput
from mnas.export.folder import load_model, model_folder
from mnas.latency.importers import tables as importers
from mnas.latency.kit import kit
from mnas.latency.measure import PRECISION, anchor_runs, doubts, measure, measure_networks, on_cores
from mnas.latency.runtimes import Runtime, get_runtime
from mnas.latency.table import calibrate
from mnas.latency.table.cache import cache_path, table_for
from mnas.latency.table.table import LatencyTable, differences
from mnas.latency.timing.device import clock_mhz
from mnas.latency.timing.rounds import Run
from mnas.monitor.console import progress
from mnas.nn.network import Network, build
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace, load_space
from mnas.space.zoo import load_architecture

log = logging.getLogger("mnas")

MODEL_FILES = (".onnx", ".tflite", ".pte", ".pt2", ".py")


def measure_latency(
    targets: Sequence[str], *, runtime: str, threads: int, batch: int, resolution: int | None, num_classes: int = 1000,
    rounds: int = 200, seconds: float = 60.0, precision: float = PRECISION, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Latency of whole networks in the same rounds: zoo names, architecture files, run folders, model files.

    Ends when every median's 95% interval is within `precision`, after `rounds`, or after `seconds`.
    """
    adapter = get_runtime(runtime)
    version = adapter.version()
    with on_cores(adapter, threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        runs = {target: _run(target, adapter, threads, batch, resolution, num_classes) for target in targets}
        with progress("measure", 1.0) as shown:
            found = measure(
                runs, anchors=anchor_runs(adapter, threads), threads=threads, rounds=rounds, seconds=seconds,
                precision=precision, rng=random.Random(seed), timer=adapter.timed_ms,
                progress=lambda done, total: shown.update(done / total, 1.0, f"{done} rounds"),
            )  # fmt: skip
    return {
        "device": adapter.device_name(), "runtime": runtime, "runtime_version": version, "threads": threads,
        "batch": batch, "clock_mhz": clock_mhz(),
        "networks": [
            {"name": name, "latency_ms": one.median_ms, "spread_ms": one.spread_ms, "rounds": one.rounds,
             "unstable": one.unstable or None}
            for name, one in found.items()
        ],
    }  # fmt: skip


def _run(target: str, adapter: Runtime, threads: int, batch: int, resolution: int | None, num_classes: int) -> Run:
    """What is named, prepared for `adapter`."""
    path = Path(target)
    if path.suffix in MODEL_FILES:
        stated = path.with_name("architecture.yaml")
        own = load_architecture(stated).resolution if stated.exists() else 224
        size = resolution or own
        return adapter.prepare_file(path, torch.rand(batch, 3, size, size), threads)
    network, arch = _network(target, resolution, num_classes)
    return adapter.prepare(network, torch.rand(batch, 3, arch.resolution, arch.resolution), threads)


def _network(target: str, resolution: int | None, num_classes: int) -> tuple[Network, Architecture]:
    """A trained network from its folder, or a fresh one by name or architecture file."""
    if Path(target).is_dir():
        network, arch = load_model(model_folder(Path(target)))
    else:
        arch = load_architecture(target, resolution or 224)
        network = build(arch, num_classes).eval()
    return network, replace(arch, resolution=resolution) if resolution else arch


def build_latency_table(
    space: str, *, runtime: str, threads: int, batch: int, num_classes: int, resolution: Sequence[int] | None,
    output: Path | None, seed: int = 0,
) -> dict[str, Any]:
    """Measure every layer that the space can reach, and calibrate; layers that the table has already are kept."""
    loaded = _space(space, resolution)
    path = output or cache_path(loaded, runtime, threads, batch)
    table = table_for(loaded, num_classes, runtime=runtime, threads=threads, batch=batch, seed=seed, path=output)
    missing = table.missing(loaded.layers(num_classes))
    fastest, slowest = (None, None) if missing else _range_ms(loaded, table, num_classes)
    return {
        "path": str(path), "device": table.device, "runtime": table.runtime, "threads": threads, "batch": batch,
        "layers": len(table.entries), "failed": len(table.failed), "space": loaded.name, "fastest_ms": fastest,
        "slowest_ms": slowest, "calibration": table.calibration and asdict(table.calibration),
    }  # fmt: skip


def check_table(
    path: Path, *, space: str | None, num_classes: int | None, resolution: Sequence[int] | None, networks: int,
    seed: int | None,
) -> dict[str, Any]:
    """How far the table's predictions are from fresh random networks of the space, measured here and now.

    Without `num_classes` the networks have the most classes that the table has a classifier for. `today`: as measured.
    `same_speed`: brought to the machine's speed when the table was made, by the networks of its fit.
    """
    table = LatencyTable.load(path)
    if table.origin == "imported":
        raise BadInput(f"{path}: was imported; it can be checked on its own device alone ({table.device})")
    differ = differences(table, runtime=table.runtime, threads=table.threads, batch=table.batch)
    if differ:
        raise BadInput(f"{path}: cannot be checked here: measured on {'; '.join(differ)}")
    fit = table.calibration
    if fit is None and space is None:
        raise BadInput(f"{path}: says nothing of its space; name it: --space v3_large")
    loaded = _space(space or str(fit and fit.space), resolution or (fit.resolutions if fit else None))
    num_classes = num_classes or max(table.classes(), default=1000)
    rng = random.Random(seed)
    archs = [loaded.sample(rng) for _ in range(networks)]
    predicted = table.predict_many(archs, num_classes)  # what is missing is said before anything is measured
    fitted_on = fit is not None and (loaded.name, tuple(sorted(loaded.resolutions))) == (fit.space, fit.resolutions)
    known = calibrate.networks(loaded)[: fit.networks] if fit and fitted_on else []
    with progress("check", 1.0) as shown:
        found = measure_networks(
            [*archs, *known], runtime=table.runtime, threads=table.threads, batch=table.batch, num_classes=num_classes,
            rounds=calibrate.ROUNDS, seconds=calibrate.SECONDS, rng=rng,
            progress=lambda done, total: shown.update(done / total, 1.0, "whole networks"),
        )  # fmt: skip
    ms = np.array([one.median_ms for one in found[:networks]])
    slower = calibrate.mean_ms(found[networks:]) / fit.anchor_ms if fit and known else None
    return {
        "path": str(path), "device": table.device, "runtime": table.runtime, "space": loaded.name, "networks": networks,
        "classes": num_classes, "stated": asdict(fit) if fit else None,
        "today": asdict(calibrate.fidelity(predicted, ms)),
        "same_speed": asdict(calibrate.fidelity(predicted, ms / slower)) if slower else None, "slower": slower,
        "repeatability": float(np.mean([one.repeatability or 0.0 for one in found])),
        "unstable": doubts(found) or None,
    }  # fmt: skip


def _space(name: str, resolution: Sequence[int] | None) -> SearchSpace:
    loaded = load_space(name)
    return loaded.with_resolutions(tuple(resolution)) if resolution else loaded


def _new(output: Path) -> None:
    """BadInput where the file to write exists."""
    if output.exists():
        raise BadInput(f"{output}: exists; name another file with -o")


def _range_ms(space: SearchSpace, table: LatencyTable, num_classes: int) -> tuple[float, float]:
    """Milliseconds of the fastest and the slowest network of a space."""

    def ms(arch: Architecture) -> float:
        return table.predict(arch, num_classes)

    return ms(space.argmin(ms)), ms(space.argmax(ms))


def make_latency_kit(
    space: str, *, runtime: str, threads: int, batch: int, num_classes: int, resolution: Sequence[int] | None,
    output: Path, seed: int = 0,
) -> dict[str, Any]:
    """Every layer of the space as a model file, in a .zip that measures them where python3 runs it."""
    _new(output)
    with progress("kit") as shown:
        made = kit.make_kit(
            output, _space(space, resolution), runtime=runtime, threads=threads, batch=batch, num_classes=num_classes,
            rng=random.Random(seed), progress=lambda done, total: shown.update(done, total, f"{done} files"),
        )  # fmt: skip
    return {
        "path": str(output), "kit": made["kit"], "space": made["space"], "runtime": runtime, "needs": made["needs"],
        "threads": threads, "batch": batch, "layers": len(made["layers"]), "networks": len(made["networks"]),
        "megabytes": output.stat().st_size / 1e6,
    }  # fmt: skip


def import_kit(source: Path, *, device: str | None, output: Path) -> dict[str, Any]:
    """What a kit measured, as a table in `output`."""
    _new(output)
    table = kit.import_results(source)
    table = replace(table, device=device or table.device)
    table.save(output)
    return {
        "path": str(output), "device": table.device, "runtime": table.runtime, "threads": table.threads,
        "batch": table.batch, "layers": len(table.entries), "failed": len(table.failed),
        "calibration": table.calibration and asdict(table.calibration),
    }  # fmt: skip


def import_table(
    source: Path, *, space: str, device: str, runtime: str, runtime_version: str, threads: int, batch: int,
    num_classes: int, unit: str | None, resolution: Sequence[int] | None, output: Path,
) -> dict[str, Any]:  # fmt: skip
    """What a table of others has of the space's layers, as a table of ours in `output`; what it lacks is logged."""
    _new(output)
    loaded = _space(space, resolution)
    layers = sorted(loaded.layers(num_classes), key=str)
    table = importers.import_table(
        source, layers, device=device, runtime=runtime, runtime_version=runtime_version, threads=threads, batch=batch,
        unit=unit,
    )  # fmt: skip
    missing = table.missing(layers)
    if missing:
        log.warning(
            "%s lacks %d of the %d layers of space '%s' for %d classes, and no network that has one can be predicted: "
            "%s%s", source, len(missing), len(layers), loaded.name, num_classes, "; ".join(map(str, missing[:3])),
            "; ..." * (len(missing) > 3),
        )  # fmt: skip
    table.save(output)
    fastest, slowest = (None, None) if missing else _range_ms(loaded, table, num_classes)
    return {
        "path": str(output), "device": device, "runtime": runtime, "threads": threads, "batch": batch,
        "space": loaded.name, "layers": len(layers) - len(missing), "missing": len(missing),
        "fastest_ms": fastest, "slowest_ms": slowest,
    }  # fmt: skip
