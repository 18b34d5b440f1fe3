"""What a study shows of itself while it runs."""

from __future__ import annotations

import logging

from mnas.space.architecture import Architecture

log = logging.getLogger("mnas")



DRAW_EVERY_S = 5.0


def describe(arch: Architecture) -> dict[str, str | int]:
    """An architecture in a few words a stage, for tables: kernel, hidden channels, SE, activation of each layer."""
    stages = {
        f"stage{index}": " ".join(
            f"{block.operator}-k{block.kernel}-c{block.channels}" + (f"-h{block.hidden}" if block.hidden else "")
            + ("-se" if block.se else "") + f"-{block.activation}" for block in stage
        )
        for index, stage in enumerate(arch.stages, start=1)
    }  # fmt: skip
    return {"resolution": arch.resolution, "stem": arch.stem.channels, **stages}
