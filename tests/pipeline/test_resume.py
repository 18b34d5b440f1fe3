"""A search that was interrupted goes on where it stopped; tests/faults/ has those that were killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_search import QUICK, TINY_SPACE, milliseconds, no_onnx

import mnas
from mnas.monitor.tensorboard import TensorBoard
from mnas.training import supernet as supernet_training

SMALL: dict[str, Any] = {
    "estimator": "supernet", "trials": 3, "latency": milliseconds, "latency_ms": 0.6,
    "baseline": ["mobilenet_v3_small@0.35"], "set": {**QUICK, "recipe.epochs": 1, "recipe.images": 100,
            "references": 1, "supernet.batch_size": 32, "precision": "float32"},
}  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(few: mnas.ImageData, tmp_path_factory: pytest.TempPathFactory) -> mnas.Result:
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    with no_onnx():
        return mnas.search(**SMALL, space=folder / "tiny.yaml", data=few, run=folder / "run")


@pytest.mark.usefixtures("without_onnx")
@pytest.mark.parametrize("phase", ["supernet", "search", "race"])
def test_interrupted_in_any_phase(
    unbroken: mnas.Result, few: mnas.ImageData, phase: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernet_training, "INTERVAL", 2)
    monkeypatch.setattr(supernet_training, "CHECKPOINT_S", 0.0)
    run, calls = tmp_path / "run", list[Any]()

    def interrupted(*args: Any, **options: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if phase != "search":
            patch.setattr(TensorBoard, "supernet" if phase == "supernet" else "training", interrupted)
        mnas.search(
            **SMALL, space=tiny, data=few, run=run, callbacks=[interrupted] if phase == "search" else []
        )  # fmt: skip
    assert (run / "checkpoints" / "supernet.pt").exists() == (phase == "supernet")
    before = (run / "trials.jsonl").read_bytes() if phase != "supernet" else b""
    result = mnas.search(**SMALL, space=tiny, data=few, run=run)
    went_on = {
        "supernet": "supernet: continuing after step 4 of ", "search": "supernet: loaded",
        "race": "supernet: loaded",
    }  # fmt: skip
    assert went_on[phase] in (run / "run.log").read_text()
    assert (run / "trials.jsonl").read_bytes().startswith(before)

    evaluated = [trial.architecture for trial in result.trials if trial.evaluated]
    assert len(set(evaluated)) == len(evaluated) == 3, "none twice"
    alike = ["checkpoints/supernet.safetensors"]
    if phase != "search":  # what is proposed after it depends on what was known when it went on
        assert [trial.to_json() | {"seconds": 0} for trial in result.trials] == [
            trial.to_json() | {"seconds": 0} for trial in unbroken.trials
        ]
        assert result.winner.architecture == unbroken.winner.architecture
        alike.append("winner/weights.safetensors")
    for file in alike:
        assert (run / file).read_bytes() == (unbroken.folder / file).read_bytes(), f"{file}, as if it was not cut off"
