"""A search that was interrupted or killed goes on where it stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from damage import damage
from made_up_tables import made_up
from small_search import QUICK, TINY_SPACE, milliseconds, no_extras

import mnas
from mnas.monitor.tensorboard import TensorBoard
from mnas.space.cost import layer_madds
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
    with no_extras():
        return mnas.search(**SMALL, space=folder / "tiny.yaml", data=few, run=folder / "run")


WENT_ON = {
    "supernet": "supernet: continuing after step 4 of ", "search": "supernet: loaded", "race": "supernet: loaded",
}  # fmt: skip
"""What the log says when a run goes on that was interrupted in a phase."""


@pytest.mark.usefixtures("without_extras")
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


@pytest.mark.usefixtures("without_extras")
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


SCRIPT = """
import sys, mnas
from mnas.training import speed
sys.argv[0], speed.MEASURED_S = "mnas", 0.0
mnas.search(space=sys.argv[1], latency_table=sys.argv[2], latency_ms=20, trials=4, run=sys.argv[3], estimator="train",
            set={"recipe.epochs": 1, "proxy.epochs": 2, "recipe.images": 100, "proxy.images": 200})
"""


@pytest.mark.usefixtures("without_extras")
def test_killed_at_any_moment_and_resumed(tiny: Path, tmp_path: Path) -> None:
    run, table = tmp_path / "run", tmp_path / "phone.yaml"
    ms = {layer: 0.1 + layer_madds(layer) / 1e6 for layer in mnas.load_space(tiny).layers(10)}
    made_up(ms, device="a phone", runtime="tflite", origin="imported").save(table)
    kept: list[bytes] = []
    for lines in (1, 3):
        command = [sys.executable, "-c", SCRIPT, *map(str, (tiny, table, run))]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        trials = run / "trials.jsonl"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if trials.exists() and trials.read_bytes().count(b"\n") >= lines:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept.append(trials.read_bytes())
    result = mnas.resume(run)
    finished = (run / "trials.jsonl").read_bytes()
    for before in kept:
        assert finished.startswith(before[: before.rfind(b"\n") + 1]), "every finished trial is kept"
    evaluated = [trial for trial in result.trials if trial.evaluated]
    assert len(evaluated) == 4
    assert len({trial.architecture for trial in evaluated}) == 4, "none is run twice"
    assert len({trial.number for trial in result.trials}) == len(result.trials)
