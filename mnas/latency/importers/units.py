"""Checking that an imported table's figures can be milliseconds."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mnas.latency.conditions import Conditions
from mnas.latency.machine import measuring
from mnas.latency.runtimes import Runtime, get_runtime
from mnas.latency.timing.frame import frame, input_shape, timed_module
from mnas.latency.timing.sections import LEAST_MS
from mnas.space.cost import layer_madds
from mnas.space.layer import Layer

COMPARED = 12
IMPLAUSIBLE = 32
"""The unit is doubted where a device seems this many times faster or slower than this machine."""


def unit_doubt(figures: Mapping[Layer, float], conditions: Conditions) -> tuple[str, str] | None:
    """The likely unit of figures that can hardly be milliseconds, and why; None where they can be.

    The layers of most multiply-adds are run on this machine under `conditions` and compared.
    """
    costliest = sorted(figures, key=layer_madds)[-COMPARED:]
    there_ms = sum(figures[layer] for layer in costliest)
    adapter = get_runtime(conditions.runtime)
    with measuring(adapter, conditions.threads), torch.random.fork_rng(devices=[]):
        here_ms = sum(_time_here_ms(layer, adapter, conditions) for layer in costliest)
    if there_ms > IMPLAUSIBLE * here_ms:
        unit, name, compared = "us", "microseconds", f"{there_ms / here_ms:,.0f} times"
    elif there_ms * IMPLAUSIBLE < here_ms:
        unit, name, compared = "s", "seconds", f"1/{here_ms / there_ms:,.0f} of"
    else:
        return None
    return unit, (
        f"as milliseconds its {len(costliest)} costliest layers take {compared} what this machine takes "
        f"({here_ms:.3g} ms): is the table in {name}?"
    )


def _time_here_ms(layer: Layer, adapter: Runtime, conditions: Conditions) -> float:
    """A rough latency of a layer on this machine."""

    def least_ms(timed: Layer) -> float:
        images = torch.zeros(input_shape(timed, conditions.batch, in_frame=adapter.framed))
        inference = adapter.prepare(timed_module(timed, in_frame=adapter.framed), images, conditions.threads)
        return min(adapter.timed_ms(inference, 1) for _ in range(4))

    return max(least_ms(layer) - (least_ms(frame(layer)) if adapter.framed else 0.0), LEAST_MS)
