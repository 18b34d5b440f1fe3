"""Whether an imported table's unit is plausible."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mnas.latency.runtimes import get_runtime
from mnas.latency.timing.frame import frame, input_shape, timed_module
from mnas.latency.timing.sections import LEAST_MS
from mnas.space.cost import layer_madds
from mnas.space.layer import Layer

COMPARED = 12


IMPLAUSIBLE = 32
"""A device that seems so many times faster or slower than this machine makes one doubt the unit."""


def unit_doubt(
    stated: Mapping[Layer, float], batch: int, runtime: str = "torch", threads: int = 1
) -> tuple[str, str] | None:
    """The unit that figures seem to have which can hardly be milliseconds, and why, by what the costliest layers take.

    None where they can.
    """
    costly = sorted(stated, key=layer_madds)[-COMPARED:]
    there_ms = sum(stated[layer] for layer in costly)
    here_ms = sum(_time_here_ms(layer, batch, runtime, threads) for layer in costly)
    if there_ms > IMPLAUSIBLE * here_ms:
        unit, name, compared = "us", "microseconds", f"{there_ms / here_ms:,.0f} times"
    elif there_ms * IMPLAUSIBLE < here_ms:
        unit, name, compared = "s", "seconds", f"1/{here_ms / there_ms:,.0f} of"
    else:
        return None
    return unit, (
        f"as milliseconds its {len(costly)} costliest layers take {compared} what this machine takes "
        f"({here_ms:.3g} ms): is the table in {name}?"
    )


def _time_here_ms(layer: Layer, batch: int, runtime: str, threads: int) -> float:
    """About what a runtime of this machine takes for a layer."""
    adapter = get_runtime(runtime)

    def least_ms(one: Layer) -> float:
        images = torch.zeros(input_shape(one, batch, in_frame=adapter.framed))
        run = adapter.prepare(timed_module(one, in_frame=adapter.framed), images, threads)
        return min(adapter.timed_ms(run, 1) for _ in range(4))

    with adapter.threads(threads), torch.random.fork_rng(devices=[]):
        return max(least_ms(layer) - (least_ms(frame(layer)) if adapter.framed else 0.0), LEAST_MS)
