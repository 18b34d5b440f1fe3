"""A `mnas train` that is killed in the middle and continued by the same command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command import Mnas
from safetensors.torch import load_file

from mnas.training import full
from mnas.training.loop import Training


def check_continued(
    mnas: Mnas, folder: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], *, step: int, other: str
) -> None:
    """Its weights are those of an unbroken training, bit by bit; with `other`, a --set, it is refused.

    `command` trains for 3 epochs, which no measurement of speed does, and is killed in one of its steps; the working
    directory is `folder`.
    """
    assert mnas(*command, "-o", "whole").code == 0
    train_step = Training._train_step

    def dies(self: Training, *args: Any) -> Any:
        if self.recipe.epochs == 3 and self.step == step:
            raise KeyboardInterrupt
        return train_step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(full, "SAVE_S", 0.0)
        patch.setattr(Training, "_train_step", dies)
        assert mnas(*command, "-o", "killed").code == 130
    assert not (folder / "killed" / "metrics.json").exists()
    refused = mnas(*command, "--set", other, "-o", "killed")
    assert refused.code == 2
    assert "recipe" in refused.err
    assert mnas(*command, "-o", "killed").code == 0
    whole, killed = (load_file(folder / name / "weights.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not (folder / "killed" / ".weights").exists()
