"""Two processes under torchrun on the CPU: one supernet, one search, and what happens when one of them ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("two_processes.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TORCHRUN, *args], capture_output=True, text=True, timeout=300, **options)


def script(*args: str | Path) -> list[str | Path]:
    return [SCRIPT, *args]


# --- the supernet


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes saw of 20 steps."""
    from small_search import TINY_SPACE

    folder = tmp_path_factory.mktemp("steps")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    done = torchrun(*script("steps", folder))
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_weights_are_the_same_after_many_steps(stepped: list[dict[str, Any]]) -> None:
    first, second = stepped
    assert first["steps"] == 20
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    assert first["losses"] == second["losses"]


def test_all_draw_the_same_architectures(stepped: list[dict[str, Any]]) -> None:
    first, second = stepped
    assert first["subnets"] == second["subnets"]
    assert len({tuple(step) for step in first["subnets"]}) > 10


def test_gradients_are_the_mean(stepped: list[dict[str, Any]]) -> None:
    first, second = stepped
    apart = max(float((one - other).abs().max()) for one, other in zip(first["own"], second["own"], strict=True))
    assert apart > 1e-3  # of other images
    for mean, one, other in zip(first["mean"], first["own"], second["own"], strict=True):
        assert (mean - (one + other) / 2).abs().max() <= 1e-6


# --- the search


def records(run: Path) -> list[dict[str, Any]]:
    """trials.jsonl, without what time it took."""
    lines = (run / "trials.jsonl").read_text().splitlines()
    return [without_seconds(line) for line in lines]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def without_seconds(line: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(line).items() if key not in ("seconds", "crc32")}


def test_search_is_that_of_one_process(tiny: Path) -> None:
    """Although a worker is killed in an evaluation, and then the main process in the race, which ends them all."""
    folder = tiny.parent
    one, two = folder / "one", folder / "two"
    alone = [sys.executable, *script("search", folder, "one", "3", "400", "50")]
    subprocess.run(alone, check=True, capture_output=True)
    (two / "checkpoints").mkdir(parents=True)
    shutil.copy(one / "config.yaml", two)
    shutil.copy(one / "checkpoints" / "supernet.safetensors", two / "checkpoints")
    command = ["--max-restarts", "1", *script("search", folder, "two", "3", "400", "50", "1")]
    ended = torchrun(*command)
    assert ended.returncode != 0 and "Signal 9" in ended.stderr, ended.stderr
    assert (folder / "two-1-1.pid").exists()  # torchrun started both again after the first kill
    finished, begun = records(two), lines_of(two / "races.jsonl")
    assert len(finished) == len(records(one)) and begun and not (two / "winner").exists()
    done = torchrun(*command)
    assert done.returncode == 0, done.stderr
    assert "supernet: loaded" in (two / "run.log").read_text()
    assert lines_of(two / "races.jsonl")[: len(begun)] == begun
    assert len({trial["accuracy"] for trial in records(one) if trial["state"] == "complete"}) > 1
    assert records(two) == finished == records(one)
    assert (two / "winner" / "architecture.yaml").read_text() == (one / "winner" / "architecture.yaml").read_text()
    assert [without_seconds(line) for line in lines_of(two / "races.jsonl")] == [
        without_seconds(line) for line in lines_of(one / "races.jsonl")
    ]
    weights = [load_file(run / "winner" / "weights.safetensors") for run in (one, two)]
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-4)  # the last bits differ by machine load
    alone_legs = lines_of(folder / "one-0.legs")
    shares = [lines_of(folder / f"two-{rank}.legs") for rank in (0, 1)]
    assert len(alone_legs) > 4
    assert {*shares[0]} | {*shares[1]} == {*alone_legs}
    rung = max(Counter(leg.rpartition(" ")[2] for leg in alone_legs).values())
    again = len(shares[0]) + len(shares[1]) - len(alone_legs)
    assert 1 <= again <= rung, "each leg is trained once, by one of them; those of one rung are entered again"
    assert abs(len(shares[0]) - len(shares[1])) <= 3, "in turns"


# --- ends


@contextmanager
def started(*args: str | Path) -> Iterator[subprocess.Popen[str]]:
    """torchrun at work, ended with the block."""
    with subprocess.Popen([*TORCHRUN, *args], stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 200
    while not what():
        assert process.poll() is None and time.monotonic() < ends, "it did not come"
        time.sleep(0.02)


def goes_on_at(run: Path) -> list[int]:
    """The steps after which the supernet's training went on."""
    lines = (run / "run.log").read_text().splitlines()
    return [int(line.split("step ")[1].split()[0]) for line in lines if "supernet: continuing after step" in line]


def test_interrupted_then_killed_then_finished(tiny: Path) -> None:
    folder = tiny.parent
    run = folder / "run"
    command = ["--max-restarts", "1", *script("search", folder, "run", "20", "64", "2")]
    with started(*command) as first:
        wait_for((run / "checkpoints" / "supernet.pt").exists, first)
        first.send_signal(signal.SIGINT)
        told = first.communicate(timeout=60)[1]
    assert first.returncode != 0
    assert told.count("torchrun ... -m -- mnas resume") == 1, told
    assert goes_on_at(run) == []

    with started(*command) as second:
        wait_for(lambda: goes_on_at(run), second)
        os.kill(int((folder / "run-1-0.pid").read_text()), signal.SIGKILL)
        told = second.communicate(timeout=240)[1]
    assert second.returncode == 0, told
    assert (folder / "run-0-1.pid").exists()  # torchrun started both again
    steps = goes_on_at(run)
    assert len(steps) == 2 and 0 < steps[0] <= steps[1]
    assert (run / "winner" / "model.py").exists()


def test_a_supernet_alone(tiny: Path) -> None:
    settings = ["supernet.epochs=2", "supernet.images=128", "supernet.batch_size=16", "supernet.subnets=1"]
    options = [arg for value in settings for arg in ("--set", value)]
    command = ["-m", "--", "mnas", "supernet", "--space", tiny, "--resolution", "32", "-o", "shared", *options]
    done = torchrun(*command, "--json", cwd=tiny.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 8, "both processes take a batch in each"
    assert (tiny.parent / "shared" / "checkpoints" / "supernet.safetensors").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--latency-ms", "20"], "error: under torchrun "),
        (["--latency-ms", "20", "--run", "."], "error: .: is not empty"),  # the leader alone looks there
    ],
    ids=["no run", "no folder of its own"],
)
def test_an_error_is_told_once(tiny: Path, args: list[str], message: str) -> None:
    done = torchrun("-m", "--", "mnas", "search", "--space", tiny, *args, cwd=tiny.parent)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and lines[0].startswith(message), done.stderr
    assert "exitcode  : 2" in done.stderr
    assert "Traceback" not in done.stderr.split("torch/distributed/elastic")[0]
    assert {path.name for path in tiny.parent.iterdir()} <= {tiny.name, ".lock"}
