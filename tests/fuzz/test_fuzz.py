"""A few inputs at every entrance; `python -m tests.fuzz` tries as many as one likes."""

from __future__ import annotations

import pytest
from fuzz.entrances import entrances
from fuzz.harness import tried

INPUTS = 25
MEMORY_MB = 300


@pytest.mark.parametrize("name", ["space", "objective", "configuration", "architecture", "table", "table of others",
                                  "table in CSV", "results.json", "trials.jsonl", "npz", "weights", "safetensors",
                                  "preprocessing", "state", "splits", "labels", "images", "masks", "coco",
                                  "yolo labels", "data.yaml"])  # fmt: skip
def test_inputs_near_valid_ones(name: str) -> None:
    """Each is accepted or refused with one line, in time and in bounded memory."""
    found = tried(entrances()[name], INPUTS)
    assert not found.faults, "\n".join(found.faults.values())
    assert found.accepted + found.refused == INPUTS and found.refused > 0
    assert found.grown_mb < MEMORY_MB


def test_every_entrance_is_tried() -> None:
    assert len(entrances()) == 21


def test_every_valid_file_is_accepted() -> None:
    """Otherwise nothing behind the first check would be tried: some of the inputs are the valid files themselves."""
    binary = ("npz", "images", "masks")
    accepted = {name: tried(one, 60, 1).accepted for name, one in entrances().items() if name in binary}
    assert all(accepted.values()), accepted
