"""Measuring the layers of a latency table under the conditions that they meet inside a network."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from math import prod
from typing import TYPE_CHECKING

import mnas
from mnas.architecture import Layer
from mnas.errors import BadInput
from mnas.latency.device import device_name
from mnas.latency.measure import Run, sample, summary
from mnas.latency.runtimes import Runtime, get_runtime
from mnas.latency.table import LatencyTable

if TYPE_CHECKING:
    from torch import Tensor

# A layer finds its weights as cold as in a network when about a network's other layers ran since its last turn.
# First trials, onnxruntime, sum of layers against networks timed in turn, without settling: -19% for layers alone,
# 0 to +2% in groups of 20, +5% of 32.
GROUP = 20
SECTION = 60
PASSES = 4
SAVE_EVERY_S = 5.0


def build_table(
    layers: Iterable[Layer], *, runtime: str = "torch", threads: int = 1, batch: int = 1, rng: random.Random,
    table: LatencyTable | None = None, rounds: int = 20, save: Callable[[LatencyTable], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """A table with all of `layers`, each run `rounds` times; those that `table` has already are not measured again.

    `save` gets the table so far every few seconds, and also when the build is interrupted.
    """
    import torch

    adapter = get_runtime(runtime)
    table = _begin(adapter, threads, batch, table)
    todo = table.missing(layers)
    rng.shuffle(todo)
    total, done, size = len(todo), 0, GROUP
    saved, saved_at = 0, time.perf_counter()
    with adapter.threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(63))
        try:
            while done < total:
                start = time.perf_counter()
                section = todo[done : done + size]
                others = rng.sample(list(table.entries), min(max(GROUP - len(section), 0), len(table.entries)))
                table.entries.update(_section_ms(adapter, section, others, threads, batch, rounds, rng))
                done += len(section)
                if save is not None and time.perf_counter() - saved_at > SAVE_EVERY_S:
                    saved, saved_at = done, time.perf_counter()
                    save(table)
                if progress is not None:
                    progress(done, total)
                # on a slow device smaller sections, so that little is lost
                size = int(SAVE_EVERY_S * len(section) / (time.perf_counter() - start))
                size = min(max(size, GROUP // 2), SECTION)
        finally:
            if save is not None and saved < done:
                save(table)
    return table


def _begin(adapter: Runtime, threads: int, batch: int, table: LatencyTable | None) -> LatencyTable:
    """A table to fill: empty, or a copy of `table` if that was measured under the same conditions."""
    today = date.today().isoformat()
    fresh = LatencyTable(
        device_name(), adapter.name, adapter.version(), threads, batch, "float32", today, mnas.__version__
    )
    if table is None:
        return fresh
    for name in ("device", "runtime", "runtime_version", "threads", "batch", "dtype"):
        old, new = getattr(table, name), getattr(fresh, name)
        if old != new:
            raise BadInput(f"the table to extend was measured with {name} {old}, now it is {new}: build a new table")
    return replace(fresh, entries=dict(table.entries))


def _section_ms(
    adapter: Runtime, layers: Sequence[Layer], others: Sequence[Layer],
    threads: int, batch: int, rounds: int, rng: random.Random,
) -> dict[Layer, float]:
    """Median milliseconds of each of `layers`, in small groups that are drawn anew in each pass; `others` fill up."""
    runs = _prepared(adapter, [*layers, *others], threads, batch)
    samples: dict[Layer, list[float]] = {layer: [] for layer in runs}
    keys = list(runs)
    parts = max(1, round(len(keys) / GROUP))
    passes = min(PASSES, rounds)
    for done in range(passes):
        rng.shuffle(keys)
        share = rounds * (done + 1) // passes - rounds * done // passes
        for part in range(parts):
            group = {key: runs[key] for key in keys[part::parts]}
            # single runs: a second one in a row would find its weights in the cache
            for layer, times in sample(group, rounds=share, warmup=1, rng=rng, settle=0, sample_us=0).items():
                samples[layer] += times
    return {layer: max(round(summary(samples[layer]).median_ms, 6), 1e-6) for layer in layers}


def _prepared(adapter: Runtime, layers: Sequence[Layer], threads: int, batch: int) -> Mapping[Layer, Run]:
    """Each layer with random weights. All read the same memory, so that inputs are in the cache, as in a network."""
    import torch

    from mnas.nn.network import module_of

    shapes = {layer: _input_shape(layer, batch) for layer in layers}
    scratch = torch.rand(max(map(prod, shapes.values())))

    def example(layer: Layer) -> Tensor:
        return scratch[: prod(shapes[layer])].view(shapes[layer])

    return {layer: adapter.prepare(module_of(layer).eval(), example(layer), threads) for layer in layers}


def _input_shape(layer: Layer, batch: int) -> tuple[int, ...]:
    if layer.operator == "linear":
        return batch, layer.in_channels
    return batch, layer.in_channels, layer.size, layer.size
