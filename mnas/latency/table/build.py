"""Measuring every layer of a latency table on this machine."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date
from math import prod

import torch
from torch import Tensor

import mnas
from mnas.errors import BadInput
from mnas.latency.measure import on_cores
from mnas.latency.runtimes import Runtime, get_runtime
from mnas.latency.table.table import LatencyTable, differences
from mnas.latency.timing.device import clock_mhz
from mnas.latency.timing.frame import frame, input_shape, timed_module
from mnas.latency.timing.rounds import Run
from mnas.latency.timing.sections import LEAST_MS, reason, sections
from mnas.space.layer import Layer

SAVE_EVERY_S = 5.0
ROUNDS, LEAST_ROUNDS, MANY = 36, 12, 800
"""Above MANY layers each is run fewer times: what is wrong with single ones cancels in the sum over a network's 50."""


def build_table(
    layers: Iterable[Layer], *, runtime: str = "torch", threads: int = 1, batch: int = 1, rng: random.Random,
    table: LatencyTable | None = None, rounds: int | None = None, save: Callable[[LatencyTable], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """A table with all of `layers`, each timed about `rounds` times; those that `table` has are not measured again.

    By default ROUNDS times, or fewer where there are many layers.
    All times are at the machine's speed when the first of them were taken.
    A layer on which the runtime fails is recorded in `failed`; the rest goes on.
    `save` gets the table so far every few seconds, and also when the build is interrupted.
    """
    adapter = get_runtime(runtime)
    table = _begin(adapter, threads, batch, table)
    todo = table.missing(layers)
    if todo:
        table = table.uncalibrated()
    rounds = rounds or max(LEAST_ROUNDS, min(ROUNDS, ROUNDS * MANY // max(1, len(todo))))
    total, saved, saved_at = len(todo), 0, time.perf_counter()
    done = 0
    with on_cores(adapter, threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(63))
        try:
            for part in sections(
                todo, lambda some: _prepared(adapter, some, threads, batch), rounds=rounds, rng=rng,
                timer=adapter.timed_ms, known=table.entries,
                frame_of=frame if adapter.framed else lambda layer: None,
            ):  # fmt: skip
                table.entries.update({layer: max(round(ms, 6), LEAST_MS) for layer, ms in part.ms.items()})
                table.failed = {layer: why for layer, why in table.failed.items() if layer not in part.ms} | part.failed
                table.date, table.mnas_version = date.today().isoformat(), mnas.__version__
                done += len(part.ms) + len(part.failed)
                if save is not None and time.perf_counter() - saved_at > SAVE_EVERY_S:
                    saved, saved_at = done, time.perf_counter()
                    save(table)
                if progress is not None:
                    progress(done, total)
        finally:
            if save is not None and saved < done:
                save(table)
    return table


def _begin(adapter: Runtime, threads: int, batch: int, table: LatencyTable | None) -> LatencyTable:
    """A table to fill: empty, or a copy of `table` if that was measured under the same conditions."""
    if table is None:
        return LatencyTable(
            adapter.device_name(), adapter.name, adapter.version(), threads, batch, "float32",
            date.today().isoformat(), mnas.__version__, framed=adapter.framed, clock_mhz=clock_mhz(),
        )  # fmt: skip
    differ = differences(table, runtime=adapter.name, threads=threads, batch=batch)
    if differ:
        raise BadInput(f"the table to extend was measured with {'; '.join(differ)}: build a new table")
    return replace(table, entries=dict(table.entries), failed=dict(table.failed))


def _prepared(adapter: Runtime, layers: Sequence[Layer], threads: int, batch: int) -> dict[Layer, Run | str]:
    """Each layer with random weights. All read the same memory, so that inputs are in the cache, as in a network."""
    shapes = {layer: input_shape(layer, batch, in_frame=adapter.framed) for layer in layers}
    scratch = torch.rand(max(map(prod, shapes.values()), default=0))
    runs: dict[Layer, Run | str] = {}
    for layer, shape in shapes.items():
        example: Tensor = scratch[: prod(shape)].view(shape)
        if adapter.channels_last and len(shape) == 4:
            b, c, h, w = shape
            example = example.view(b, h, w, c).permute(0, 3, 1, 2)
        try:
            runs[layer] = adapter.prepare(timed_module(layer, in_frame=adapter.framed), example, threads)
        except Exception as error:  # whatever a runtime raises: the rest goes on
            runs[layer] = reason(error)
    return runs
