"""`mnas supernet`, and `mnas search --supernet`, as they are typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command import Mnas

from mnas.monitor.tensorboard import TensorBoard

TRAINED = [
    arg for value in ("supernet.epochs=1", "supernet.images=80", "supernet.batch_size=16", "supernet.subnets=1")
    for arg in ("--set", value)
]  # fmt: skip
SEARCHED = [
    arg for value in ("recipe.epochs=1", "recipe.images=64", "finetune_epochs=0", "references=0", "finalists=2",
                      "max_table_error=1.0") for arg in ("--set", value)
]  # fmt: skip


def test_once_for_two_searches(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    train = ["supernet", "--space", tiny, "--resolution", "32", "-o", "shared", *TRAINED, "--json"]
    done = mnas(*train)
    assert done.code == 0, done.err
    facts = done.json
    assert facts["steps"] == 5 and facts["folder"] == "shared" and 0 <= facts["accuracy_smallest"] <= 1
    assert mnas(*train).json == facts
    assert mnas("resume", "shared").code == 2

    for name, runtime, images in (("first", "torch", "digits"), ("second", "onnxruntime", None)):
        data = ["--data", images] if images else []
        wanted = ["--latency-ms", "50", "--runtime", runtime, "--trials", "2", "--run", name]
        done = mnas("search", "--supernet", "shared", *data, *wanted, *SEARCHED, "--json")
        assert done.code == 0, done.err
        assert done.json["networks"][0]["weights"] in ("inherited", "scratch")
        assert "is used as it is" in done.err

    shutil.rmtree("shared")
    assert mnas("resume", "first").code == 0
    done = mnas("search", "--supernet", "shared", "--latency-ms", "50", "--run", "third")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert not (tmp_path / "third").exists()


def test_interrupted_and_continued(mnas: Mnas, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnas.training.supernet.INTERVAL", 2)
    monkeypatch.setattr("mnas.training.supernet.CHECKPOINT_S", 0.0)
    train = ["supernet", "--space", tiny, "--resolution", "32", "-o", "shared", *TRAINED]

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TensorBoard, "supernet", interrupt)
        done = mnas(*train)
    assert done.code == 130 and "continues the training in shared" in done.err
    assert mnas("search", "--supernet", "shared", "--latency-ms", "50").code == 2
    done = mnas(*train)
    assert done.code == 0 and "continuing after step 2 of 5" in done.err, done.err


@pytest.mark.parametrize("args", [
    ["--space", "nowhere"], ["--data", "nowhere"], ["--budget", "30"], ["--set", "supernet.x=1"], ["--budget", "1ms"],
    ["--pretrained", "--no-pretrained"],
])  # fmt: skip
def test_bad_input_is_one_line(mnas: Mnas, args: list[str], tmp_path: Path) -> None:
    done = mnas("supernet", "-o", "shared", *args)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert not (tmp_path / "shared").exists()


def test_a_budget_for_less_than_an_epoch(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    done = mnas("supernet", "--space", tiny, "-o", "shared", "--budget", "0.001s", *TRAINED)
    assert done.code == 2 and "--budget" in done.err.splitlines()[-1]
    assert not (tmp_path / "shared").exists()
