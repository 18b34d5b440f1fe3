"""Full trainings: continued, judged, kept, found again."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import KINDS, damage
from trainers import trainer

import mnas
from mnas.config import Recipe
from mnas.data.sources import ImageData, load_data
from mnas.data.splits import limited
from mnas.training import full
from mnas.training.full import FullTraining, Trained
from mnas.training.loop import Diverged, Training

ARCHS = [mnas.zoo.get("mobilenet_v3_small", width, 32) for width in (0.35, 0.5)]
SHORT = Recipe(epochs=4, batch_size=16, dropout=0.1)


@pytest.fixture(scope="module")
def few() -> ImageData:
    digits = load_data("digits")
    return replace(digits, train=limited(digits.train, 64, 0), val=limited(digits.val, 50, 0))


def training(few: ImageData, folder: Path, recipe: Recipe = SHORT, **given: Any) -> FullTraining:
    return FullTraining("one", ARCHS[0], recipe, trainer(few, 32), folder, **given)


def same(first: Trained, second: Trained) -> bool:
    other = second.network.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.network.state_dict().items())


def test_a_training_in_parts_is_the_training_in_one_go(few: ImageData, tmp_path: Path) -> None:
    whole = training(few, tmp_path / "whole").trained()
    parts = training(few, tmp_path / "parts")
    assert [parts.advance(epochs).epochs for epochs in (1, 2, 2, 1)] == [1, 2, 2, 2], "never trained back"
    assert not parts.advance(3).finished
    assert same(parts.trained(), whole)
    assert parts.advance(4).finished
    assert len(parts.advance(4).correct) == len(few.val)


def test_killed_within_an_epoch(few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = training(few, tmp_path / "whole").trained()
    monkeypatch.setattr(full, "SAVE_S", 0.0)
    steps, step = [0], Training._train_step

    def dies(self: Training, *args: Any) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == 6:  # the second step of the second epoch
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "_train_step", dies)
        training(few, tmp_path / "killed").trained()
    saved = torch.load(training(few, tmp_path / "killed").file, weights_only=True)
    assert saved["training"]["step"] == 5, "nothing of it is lost"
    assert same(training(few, tmp_path / "killed").trained(), whole)


def test_a_finished_training_is_not_trained_again(few: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(7)
    inherited = mnas.build(ARCHS[0], 10)
    first = {
        "inherited": training(few, tmp_path, start=lambda: inherited).trained(),
        "scratch": training(few, tmp_path).trained(),
    }
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(written) == 2
    again = {
        "inherited": training(few, tmp_path, start=lambda: pytest.fail("asked")).trained(),
        "scratch": training(few, tmp_path).trained(),
    }
    for weights, one in first.items():
        assert again[weights].weights == weights
        assert again[weights].val_accuracy == one.val_accuracy
        assert same(again[weights], one)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_training_begins_with_the_inherited_weights(few: ImageData, tmp_path: Path) -> None:
    recipe = SHORT.model_copy(update={"epochs": 1, "ema": 0.0})
    torch.manual_seed(7)
    inherited = mnas.build(ARCHS[0], 10)
    before = {name: tensor.clone() for name, tensor in inherited.state_dict().items()}
    scratch = training(few, tmp_path, recipe).trained()
    started = training(few, tmp_path, recipe, start=lambda: inherited).trained()
    assert [one.weights for one in (scratch, started)] == ["scratch", "inherited"]

    def apart(one: Trained, weights: dict[str, torch.Tensor]) -> float:
        return float((one.network.state_dict()["stem.conv.weight"] - weights["stem.conv.weight"]).abs().mean())

    assert 0 < apart(started, before) < apart(scratch, before) / 5, "a few steps from where it began"
    assert all(torch.equal(before[name], tensor) for name, tensor in inherited.state_dict().items())


def test_the_averaged_weights_are_judged_and_handed_over(few: ImageData, tmp_path: Path) -> None:
    plain = training(few, tmp_path / "plain", SHORT.model_copy(update={"ema": 0.0})).trained()
    averaged = training(few, tmp_path / "averaged").trained()
    assert not same(plain, averaged)
    judged = trainer(few, 32).judge(averaged.network, ARCHS[0], exact=True)
    assert judged.accuracy == averaged.val_accuracy


def test_patience_ends_a_training_and_keeps_its_best_weights(few: ImageData, tmp_path: Path) -> None:
    hopeless = Recipe(epochs=50, batch_size=16, lr=1e-9, patience=3, ema=0.0)
    one = training(few, tmp_path, hopeless)
    standing = one.advance(50)
    assert standing.finished
    assert standing.epochs < 20
    assert one.advance(50).epochs == standing.epochs, "and it is not continued"
    assert one.trained().val_accuracy == standing.accuracy


def test_a_training_that_diverges_is_not_kept(few: ImageData, tmp_path: Path) -> None:
    diverging = SHORT.model_copy(update={"lr": 1e30, "clip_norm": 1e30, "warmup": 0.0})
    with pytest.raises(Diverged, match="epoch"):
        training(few, tmp_path, diverging).advance(4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [*KINDS, "of something else"])
def test_a_damaged_file_is_named_and_the_one_before_it_used(
    kind: str, few: ImageData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unbroken, one = training(few, tmp_path / "unbroken"), training(few, tmp_path / "run")
    for epochs in (1, 2):
        one.advance(epochs)
    if kind == "of something else":
        torch.save({"epochs": 1}, one.file)
    else:
        damage(one.file, kind)
    with caplog.at_level(logging.WARNING, "mnas"):
        assert np.array_equal(one.advance(3).correct, unbroken.advance(3).correct)
    assert kind == "last byte lost" or f"{one.file}: damaged" in caplog.text


def test_a_training_begins_again_where_both_files_are_damaged(few: ImageData, tmp_path: Path) -> None:
    unbroken, one = training(few, tmp_path / "unbroken"), training(few, tmp_path / "run")
    one.advance(1)
    one.advance(2)
    for file in one.folder.iterdir():
        damage(file, "in the middle")
    assert np.array_equal(one.advance(2).correct, unbroken.advance(2).correct)
