"""What `mnas latency ...` does: measure, build."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mnas.architecture import Architecture
from mnas.commands import model_folder
from mnas.errors import BadInput
from mnas.latency.cache import table_for
from mnas.latency.device import device_name
from mnas.latency.measure import measure
from mnas.latency.runtimes import get_runtime
from mnas.latency.table import cache_path
from mnas.monitor import progress
from mnas.nn.network import Network, build
from mnas.space import load_space
from mnas.winner import load_model
from mnas.workflow import baseline_architecture

log = logging.getLogger("mnas")


def measure_latency(
    targets: Sequence[str], *, runtime: str, threads: int, batch: int, resolution: int | None, num_classes: int = 1000,
    rounds: int = 30, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Latency of whole networks, all in the same rounds: zoo names, architecture files, run folders, .onnx files."""
    adapter = get_runtime(runtime)
    version = adapter.version()
    runs = {}
    with adapter.threads(threads), torch.random.fork_rng(devices=[]):
        for target in targets:
            if target.endswith(".onnx"):
                if runtime != "onnxruntime":
                    raise BadInput(f"{target}: an .onnx file runs with --runtime onnxruntime, not with {runtime}")
                example = torch.rand(batch, 3, resolution or 224, resolution or 224)
                runs[target] = adapter.prepare_file(Path(target), example, threads)
                continue
            network, arch = _network(target, resolution, num_classes)
            runs[target] = adapter.prepare(network, torch.rand(batch, 3, arch.resolution, arch.resolution), threads)
        with progress("measure", rounds) as shown:
            found = measure(runs, rounds=rounds, rng=random.Random(seed), progress=lambda i, n: shown.update(i, n))
    return {
        "device": device_name(), "runtime": runtime, "runtime_version": version, "threads": threads, "batch": batch,
        "networks": [
            {"name": name, "latency_ms": one.median_ms, "spread_ms": one.spread_ms, "rounds": one.rounds}
            for name, one in found.items()
        ],
    }  # fmt: skip


def _network(target: str, resolution: int | None, num_classes: int) -> tuple[Network, Architecture]:
    """A trained network from its folder, or a fresh one by name or architecture file."""
    if Path(target).is_dir():
        network, arch = load_model(model_folder(Path(target)))
    else:
        arch = baseline_architecture(target, resolution or 224)
        network = build(arch, num_classes).eval()
    return network, replace(arch, resolution=resolution) if resolution else arch


def build_latency_table(
    space: str, *, runtime: str, threads: int, batch: int, num_classes: int, resolution: Sequence[int] | None,
    output: Path | None, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Measure every layer that the space can reach; layers that the table has already are kept."""
    loaded = load_space(space)
    if resolution:
        loaded = loaded.with_resolutions(tuple(resolution))
    path = output or cache_path(runtime, threads, batch)
    table = table_for(
        loaded.layers(num_classes), runtime=runtime, threads=threads, batch=batch, seed=seed, path=path
    )
    fastest, slowest = (
        table.predict(loaded.fastest(lambda arch: table.predict(arch, num_classes), slowest=slow), num_classes)
        for slow in (False, True)
    )
    return {
        "path": str(path), "device": table.device, "runtime": table.runtime, "threads": threads, "batch": batch,
        "layers": len(table.entries), "space": loaded.name, "fastest_ms": fastest, "slowest_ms": slowest,
    }  # fmt: skip
