"""Training curves are read back as they were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnas.monitor.curves import training_curves
from mnas.monitor.tensorboard import TensorBoard


def test_curves(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.trial(3, {"trial/accuracy": 0.5})
    for epoch in (1, 2, 3):
        board.training("trial 7", epoch, {"loss": 1 / epoch})
    board.training("trial 7", 3, {"accuracy": 0.75})
    board.training("mobilenet_v3_small@0.5:48", 1, {"loss": 2.0})
    board.close()
    later = TensorBoard(tmp_path)  # a resumed run trained the last epoch again
    later.training("trial 7", 3, {"loss": 0.25})
    later.close()
    curves = training_curves(tmp_path)
    assert set(curves) == {"trial 7", "mobilenet_v3_small@0.5:48"}
    assert curves["trial 7"]["accuracy"] == [(3, 0.75)]
    assert curves["trial 7"]["loss"] == [(1, 1.0), (2, 0.5), (3, 0.25)]


@pytest.mark.parametrize("name", ["nothing", "."])
def test_without_files_there_are_none(tmp_path: Path, name: str) -> None:
    assert training_curves(tmp_path / name) == {}
