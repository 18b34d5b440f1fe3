"""Measuring every layer of a latency table on this machine."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from mnas.errors import BadInput
from mnas.latency.conditions import Conditions
from mnas.latency.machine import measuring
from mnas.latency.runtimes import Runtime, get_runtime
from mnas.latency.table.provenance import provenance_here, today
from mnas.latency.table.table import LatencyTable, differences
from mnas.latency.timing.frame import frame, input_shape, timed_module
from mnas.latency.timing.rounds import Inference
from mnas.latency.timing.sections import LEAST_MS, reason, sections
from mnas.space.layer import Layer
from mnas.version import __version__

SAVE_EVERY_S = 5.0
SLOW_S = 5.0
"""Preparing that takes longer is shown, such as quantising a section's hundred layers."""
ROUNDS, LEAST_ROUNDS, MANY = 36, 12, 800
"""Above MANY layers each is timed in fewer rounds: errors of single layers cancel in the sum over a network's 50."""


def build_table(
    layers: Iterable[Layer], conditions: Conditions, *, rng: random.Random, table: LatencyTable | None = None,
    rounds: int | None = None, save: Callable[[LatencyTable], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyTable:  # fmt: skip
    """A table with all of `layers`, each timed about `rounds` times; layers that `table` has are not measured again.

    The default is ROUNDS, or fewer where there are many layers.
    All times are scaled to the machine's speed when the first of them were taken.
    A layer on which the runtime fails is recorded in `failed`, and the others are measured.
    `save` is called with the unfinished table every few seconds, and when the build is interrupted.
    """
    adapter = get_runtime(conditions.runtime)
    table = _start(adapter, conditions, table)
    todo = table.missing(layers)
    if todo:
        table = table.uncalibrated()
    rounds = rounds or max(LEAST_ROUNDS, min(ROUNDS, ROUNDS * MANY // max(1, len(todo))))
    saved, saved_at = 0, time.perf_counter()
    count = 0
    shown = _Shown(progress, len(todo))
    with measuring(adapter, conditions.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(63))
        try:
            for section in sections(
                todo, lambda group: _prepared(adapter, group, conditions, shown), rounds=rounds, rng=rng,
                timer=adapter.timed_ms, timed_ms=table.entries,
                frame_of=frame if adapter.framed else lambda layer: None,
            ):  # fmt: skip
                ms = {layer: max(round(ms, 6), LEAST_MS) for layer, ms in section.ms.items()}
                failed = {layer: why for layer, why in table.failed.items() if layer not in ms} | section.failed
                provenance = replace(table.provenance, date=today(), mnas_version=__version__)
                table = replace(table, entries=table.entries | ms, failed=failed, provenance=provenance)
                count += len(section.ms) + len(section.failed)
                if save is not None and time.perf_counter() - saved_at > SAVE_EVERY_S:
                    saved, saved_at = count, time.perf_counter()
                    save(table)
                shown.timed(count)
        finally:
            if save is not None and saved < count:
                save(table)
    return table


def _start(adapter: Runtime, conditions: Conditions, table: LatencyTable | None) -> LatencyTable:
    """The table to fill: an empty one, or `table` if it was measured under the same conditions."""
    if table is None:
        return LatencyTable(conditions, provenance_here(adapter))
    differ = differences(table, conditions)
    if differ:
        raise BadInput(f"the table to extend was measured with {'; '.join(differ)}: build a new table")
    return table


class _Shown:
    """Progress in layers that were timed, and where preparing takes long, in those that are ready to be."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int):
        self._progress, self._total = progress, total
        self._count = self._told = 0
        self._since = time.perf_counter()

    def timed(self, count: int) -> None:
        """So many layers were timed."""
        self._count, self._since = count, time.perf_counter()
        self._tell(count)

    def ready(self, count: int) -> None:
        """So many of the next layers are ready."""
        if time.perf_counter() - self._since > SLOW_S:
            self._tell(min(self._count + count, self._total - 1))

    def _tell(self, count: int) -> None:
        """Never less than before: some layers are prepared several times, and frames and links besides."""
        if self._progress is not None and count > self._told:
            self._told = count
            self._progress(count, self._total)


def _prepared(
    adapter: Runtime, layers: Sequence[Layer], conditions: Conditions, shown: _Shown
) -> dict[Layer, Inference | str]:
    """Each layer with random weights. All read the same memory, so that inputs are in the cache, as in a network."""
    shapes = {layer: input_shape(layer, conditions.batch, in_frame=adapter.framed) for layer in layers}
    scratch = torch.rand(max(map(prod, shapes.values()), default=0))
    inferences: dict[Layer, Inference | str] = {}
    for layer, shape in shapes.items():
        example: Tensor = scratch[: prod(shape)].view(shape)
        if adapter.channels_last and len(shape) == 4:
            b, c, h, w = shape
            example = example.view(b, h, w, c).permute(0, 3, 1, 2)
        try:
            module = timed_module(layer, conditions.batch, in_frame=adapter.framed)
            inferences[layer] = adapter.prepare(module, example, conditions.threads)
        except Exception as error:  # whatever a runtime raises, the other layers are measured
            inferences[layer] = reason(error)
        shown.ready(len(inferences))
    return inferences
