"""A search that was interrupted goes on where it stopped; tests/faults/ has those that were killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import damage
from small_search import QUICK, TINY_SPACE, milliseconds, no_pictures

import mnas
from mnas.monitor.tensorboard import TensorBoard
from mnas.training import supernet as supernet_training
from mnas.training.device import restored_threads

SMALL: dict[str, Any] = {
    "estimator": "supernet", "trials": 3, "latency": milliseconds, "latency_ms": 0.6,
    "baseline": ["mobilenet_v3_small@0.35"], "set": {**QUICK, "recipe.epochs": 1, "recipe.images": 100,
            "references": 1, "supernet.batch_size": 32, "precision": "float32"},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A run takes one thread or all, whichever is faster when it begins; its last bits differ with that."""
    with restored_threads():
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="module")
def unbroken(few: mnas.ImageData, tmp_path_factory: pytest.TempPathFactory) -> mnas.Result:
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    with no_pictures():
        return mnas.search(**SMALL, space=folder / "tiny.yaml", data=few, run=folder / "run")


WENT_ON = {
    "supernet": "supernet: continuing after step 4 of ", "search": "supernet: loaded", "race": "supernet: loaded",
}  # fmt: skip
"""What the log says when a run goes on that was interrupted in a phase."""


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("phases", [("supernet", "race"), ("search",)], ids="-".join)
def test_interrupted_in_any_phase(
    unbroken: mnas.Result, few: mnas.ImageData, phases: tuple[str, ...], tiny: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(supernet_training, "INTERVAL", 2)
    monkeypatch.setattr(supernet_training, "CHECKPOINT_S", 0.0)
    run, before = tmp_path / "run", b""
    for phase in phases:
        _interrupt(phase, monkeypatch, space=tiny, data=few, run=run)
        assert (run / "checkpoints" / "supernet.pt").exists() == (phase == "supernet")
        if phase != "supernet":
            before = (run / "trials.jsonl").read_bytes()
    result = mnas.search(**SMALL, space=tiny, data=few, run=run)
    log = (run / "run.log").read_text()
    assert all(WENT_ON[phase] in log for phase in phases)
    assert before and (run / "trials.jsonl").read_bytes().startswith(before)

    evaluated = [trial.architecture for trial in result.trials if trial.evaluated]
    assert len(set(evaluated)) == len(evaluated) == 3, "none twice"
    assert [trial.to_json() | {"seconds": 0} for trial in result.trials] == [
        trial.to_json() | {"seconds": 0} for trial in unbroken.trials
    ]
    assert result.winner.architecture == unbroken.winner.architecture
    for file in ("checkpoints/supernet.safetensors", "winner/weights.safetensors"):
        assert (run / file).read_bytes() == (unbroken.folder / file).read_bytes(), f"{file}, as if it was not cut off"


FILES = ("trials.jsonl", "races.jsonl", "checkpoints/supernet.safetensors", "checkpoints/*.pt")


@pytest.mark.usefixtures("without_pictures")
def test_a_damaged_run_goes_on(
    unbroken: mnas.Result, few: mnas.ImageData, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the race, then a bit changed in every file that a resume reads: each is named, none is needed."""
    run = tmp_path / "run"
    _interrupt("race", monkeypatch, space=tiny, data=few, run=run)
    damaged = [path for pattern in FILES for path in run.glob(pattern)]
    assert len(damaged) >= len(FILES)
    lines = (run / "trials.jsonl").read_bytes().splitlines(keepends=True)
    for path in damaged:
        damage(path, "near the end" if path.suffix == ".jsonl" else "in the middle")
    result = mnas.search(**SMALL, space=tiny, data=few, run=run)
    said = (run / "run.log").read_text()
    assert all(f"{path}: " in said for path in damaged)
    kept = (run / "trials.jsonl").read_bytes()
    assert kept.startswith(b"".join(lines[:-1])), "every line but the damaged one"
    assert (run / "trials.jsonl.damaged").read_bytes().count(b"\n") == 1
    assert (run / "checkpoints/supernet.safetensors").read_bytes() == (
        unbroken.folder / "checkpoints/supernet.safetensors"
    ).read_bytes(), "trained again"
    evaluated = [trial.architecture for trial in result.trials if trial.evaluated]
    assert len(set(evaluated)) == len(evaluated)
    assert result.winner.architecture in [*evaluated, unbroken.winner.architecture]


def _interrupt(phase: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    """Search, or go on, until Ctrl-C comes at the second step of a phase."""
    calls = list[Any]()

    def interrupted(*args: Any, **options: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if phase != "search":
            patch.setattr(TensorBoard, "supernet" if phase == "supernet" else "training", interrupted)
        mnas.search(**SMALL, **given, callbacks=[interrupted] if phase == "search" else [])
