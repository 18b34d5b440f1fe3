"""A run's folder: whole files, torn lines, locks."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mnas.config import Objective, RunConfig, Target
from mnas.errors import BadInput, RunLocked
from mnas.io.files import write_atomic, write_json
from mnas.io.jsonl import read_records
from mnas.run import Run, RunState


def config(**changes: object) -> RunConfig:
    objective = Objective(name="mnasnet", formula="mnasnet", alpha=-0.07, beta=-0.07)
    return RunConfig(space="v3_large", targets=(Target(latency_ms=15.0),), objective=objective).model_copy(update=changes)  # noqa: E501


def test_config_round_trip(tmp_path: Path) -> None:
    asked = config(resolution=(32, 48), baselines=("mobilenet_v2",))
    run = Run.create(tmp_path / "run", asked, {"versions": {"a": "1"}})
    assert Run.open(run.folder).config() == asked


def test_the_same_configuration_goes_on(tmp_path: Path) -> None:
    Run.create(tmp_path, config(), {})
    assert Run.create(tmp_path, config(), {}).config() == config()


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    Run.create(tmp_path, config(), {})
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(BadInput, match=r"seed: 0 there, 1 "):
        Run.create(tmp_path, config(seed=1), {})
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(BadInput, match=str(tmp_path)):
        Run.create(tmp_path, config(), {})
    with pytest.raises(BadInput, match="nowhere"):
        Run.open(tmp_path / "nowhere")


def test_atomic_write_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "file.txt"
    write_atomic(path, "first")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "second")
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.trials_path.write_text('{"number": 0}\n{"number": 1}')
    assert run.read_trials() == [{"number": 0}, {"number": 1}]
    run.append_trial({"number": 2})
    assert [record["number"] for record in run.read_trials()] == [0, 1, 2]


@pytest.mark.parametrize(("last", "read"), [('{"number": 1}', 2), ('{"number": 1', 1), ("", 1)])
def test_reading_without_repair_changes_nothing(tmp_path: Path, last: str, read: int) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"number": 0}\n' + last)
    assert [record["number"] for record in read_records(path, repair=False)] == list(range(read))
    assert path.read_text() == '{"number": 0}\n' + last


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"elapsed_s": "x"}', '{"elapsed_s": NaN}', '{"elapsed_s": -1}'])
def test_a_damaged_state_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(BadInput, match=r"state\.json"):
        Run(tmp_path).state()


@pytest.mark.parametrize("torn", ['{"number": 2, "acc', "{", '{"number": 2'])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: str) -> None:
    run = Run(tmp_path)
    run.append_trial({"number": 0})
    run.append_trial({"number": 1})
    with run.trials_path.open("a") as file:
        file.write(torn)
    assert run.read_trials() == [{"number": 0}, {"number": 1}]
    run.append_trial({"number": 2})
    assert [record["number"] for record in run.read_trials()] == [0, 1, 2]


def test_a_failed_append_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    run.append_trial({"number": 0})
    whole = run.trials_path.read_text()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            run.append_trial({"number": 1})
    assert run.trials_path.read_text() == whole


def test_a_line_changed_by_hand_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Run(tmp_path)
    run.trials_path.write_text('{"number": 0}\nnonsense\n')
    assert run.read_trials() == [{"number": 0}]
    assert "trials.jsonl: line 2" in caplog.text


def test_state_is_merged(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.state() == RunState()
    run.update_state(elapsed_s=1.5)
    run.update_state(searched=True)
    assert run.state() == RunState(elapsed_s=1.5, searched=True)
    assert json.loads((tmp_path / "state.json").read_text()) == {"elapsed_s": 1.5, "searched": True}


HOLD = """
    import sys, time
    from pathlib import Path
    from mnas.run import Run, RunState
    with Run(Path(sys.argv[1])).lock():
        print("locked", flush=True)
        time.sleep(60)
"""


def test_a_living_owner_is_named_and_a_dead_one_replaced(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "locked\n"
        with pytest.raises(RunLocked, match=f"process {owner.pid} on "), Run(tmp_path).lock():
            pass
        assert json.loads((tmp_path / "owner.json").read_text())["pid"] == owner.pid
    finally:
        owner.kill()
        owner.communicate()
    with Run(tmp_path).lock():
        assert json.loads((tmp_path / "owner.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "owner.json").exists()
