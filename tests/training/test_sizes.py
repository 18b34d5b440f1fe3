"""The sizes at which architectures are trained."""

from __future__ import annotations

from pathlib import Path

import torch

from mnas.data.sources import load_data
from mnas.pipeline.context import size_notes
from mnas.space.space import load_space
from mnas.training.sizes import TrainingSizes, native_size
from mnas.training.trainer import Trainer

DIGITS = load_data("digits")


def test_sizes_shrink_in_proportion(tiny: Path) -> None:
    archs = list(load_space(tiny).enumerate())
    small, full = TrainingSizes(base=48, proxy=16), TrainingSizes(base=48, proxy=48)
    assert {arch.resolution: small.of(arch) for arch in archs} == {32: 12, 48: 16}
    assert {full.of(arch) for arch in archs} == {32, 48}


def test_a_note_where_they_are_smaller() -> None:
    """And why: the images are small, or --proxy-resolution says so."""
    notes = [
        size_notes(Trainer(DIGITS, TrainingSizes(48, proxy), torch.device("cpu"), 0)) for proxy in (16, 32, 48)
    ]
    assert "16/48" in notes[0][0] and "--proxy-resolution 16" in notes[0][0]
    assert "32/48" in notes[1][0] and "8 px" in notes[1][0]
    assert notes[2] == []


def test_native_size_is_a_multiple_of_32() -> None:
    assert native_size(DIGITS, 224) == 32
    assert native_size(DIGITS, 16) == 16
