"""`mnas worker`: what it takes from the storage, what it refuses, and that nobody sees a password."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from command import Mnas
from made_up_tables import made_up
from PIL import Image
from postgresql import PASSWORD, Server, running_server
from random_networks import randomise
from sklearn.datasets import load_digits

from mnas import BadInput, Result
from mnas import worker as run_worker
from mnas.nn.network import build
from mnas.run import Run
from mnas.space import zoo
from mnas.space.cost import layer_madds
from mnas.space.space import load_space
from mnas.study.database import open_storage
from mnas.study.storage import written_trials
from mnas.study.trial import Trial


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


def write_digits(path: Path, shift: int = 0) -> None:
    """Some of the digits; with `shift` the same images under other labels."""
    images, labels = load_digits(return_X_y=True)
    pixels = np.kron(images[:320].reshape(-1, 8, 8), np.ones((4, 4))).clip(0, 15.9) * 16
    np.savez(path, train_images=pixels.astype(np.uint8), train_labels=(labels[:320] + shift) % 10)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def worker_process() -> Iterator[Start]:
    """Starts workers of their own, ended with the test."""
    with contextlib.ExitStack() as started:

        def start(url: str, *args: str | Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "mnas", "worker", "--storage", url, "--run", "flowers", *map(str, args)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start


@pytest.mark.usefixtures("without_pictures")
def test_a_search_with_workers(
    mnas: Mnas, server: Server, worker_process: Start, tiny: Path, tmp_path: Path
) -> None:
    """The server goes away for too long, both end; then the search is resumed with another worker."""
    for name, shift in (("digits", 0), ("moved", 0), ("other", 1)):
        write_digits(tmp_path / f"{name}.npz", shift)
    search = (
        "search", "--space", tiny, "--data", "digits.npz", "--storage", server.url, "--run", "runs/flowers",
        "--estimator", "train", "--trials", "4", "--latency-ms", "30", "--workers-only", "--resolution", "32",
        "--set", "proxy.epochs=1", "--set", "recipe.epochs=1", "--set", "patience_s=0.5", "--set", "heartbeat_s=1",
        "--set", "max_table_error=1.0", "--set", "finalists=1", "--set", "references=1",
    )  # fmt: skip
    first = worker_process(server.url, "--data", "moved.npz")
    stop = threading.Thread(target=stop_after_a_trial, args=(server,))
    stop.start()
    ended = mnas(*search)
    stop.join()
    said = [ended.out, ended.err, first.communicate(timeout=60)[0]]
    assert (ended.code, first.returncode) == (2, 2), said
    assert "mnas resume" in ended.err

    server.start()
    run = Run(tmp_path / "runs" / "flowers")
    wrong = mnas("worker", "--storage", server.url.replace(PASSWORD, f"{PASSWORD}-not"), "--run", "flowers")
    refused = mnas("worker", "--storage", server.url, "--run", "flowers", "--data", "other.npz")
    assert (wrong.code, refused.code) == (2, 2)
    assert "password authentication failed" in wrong.err and "other.npz" in refused.err

    second = worker_process(server.url, "--data", "moved.npz")
    done = mnas("resume", "runs/flowers", "--storage", server.url)
    assert done.code == 0, done.err
    said += [wrong.err, refused.err, done.out, done.err, second.communicate(timeout=60)[0]]
    assert second.returncode == 0, said
    evaluated = [trial for trial in written_trials(run) if trial.evaluated]
    assert len(evaluated) == len({trial.architecture for trial in evaluated}) == 4
    assert {trial.fidelity for trial in evaluated} == {"trained"}
    assert (run.winner / "model.py").exists()

    late = mnas("worker", "--storage", server.url, "--run", "flowers", "--json")
    assert late.json == {"run": "flowers", "trials": 0, "evaluated": 0}
    assert [text for text in said if PASSWORD in text] == []
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert len(files) > 10 and [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
    assert server.bare_url in run.config_path.read_text()


def stop_after_a_trial(server: Server) -> None:
    storage = open_storage(server.url)  # makes tables beside the search and the worker
    ends = time.monotonic() + 90
    while time.monotonic() < ends:
        states = [study._study_id for study in storage.get_all_studies()]
        if any(storage.get_n_trials(number, optuna.trial.TrialState.COMPLETE) for number in states):
            break
        time.sleep(0.1)
    storage.close()
    server.stop()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
def test_the_list_of_processes_shows_no_password(worker_process: Start) -> None:
    url = f"postgresql://nas:{PASSWORD}@127.0.0.1:9/nas"
    process = worker_process(url, "--wait", "0.1s")
    shown = [Path(f"/proc/{process.pid}/cmdline").read_bytes()]
    while process.poll() is None:
        try:
            shown.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        except OSError:
            break
        time.sleep(0.02)
    told, _ = process.communicate()
    assert process.returncode == 2 and "nas:***@127.0.0.1:9" in told
    hidden = [line for line in shown if b"env:MNAS_STORAGE" in line]
    assert hidden and PASSWORD.encode() not in b"".join(hidden)
    assert len(hidden) > len(shown) / 2


# --- images and weights of its own


def test_a_worker_has_copies_of_the_images_and_the_weights(
    search: Callable[..., Result], tmp_path: Path
) -> None:
    """Folders of images at another place, and the file of --init under another name; what differs is refused."""
    write_photos(tmp_path / "photos")
    shutil.copytree(tmp_path / "photos", tmp_path / "copied")
    shutil.copytree(tmp_path / "photos", tmp_path / "fewer")
    next((tmp_path / "fewer").rglob("*.png")).unlink()
    for seed, name in enumerate(("small", "other")):
        network = build(zoo.get("mobilenet_v3_small", resolution=32), 5)
        torch.save(randomise(network, seed).state_dict(), tmp_path / f"{name}.pth")
    shutil.copy(tmp_path / "small.pth", tmp_path / "copy.pth")
    layers = load_space("v3_small").with_resolutions([32]).layers(4)
    made_up({layer: 0.02 + layer_madds(layer) / 1e6 for layer in layers}).save(tmp_path / "table.yaml")
    url = f"sqlite:///{tmp_path}/shared.db"

    def stop(trial: Trial) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(
            space="v3_small", resolution=[32], data=tmp_path / "photos", init=tmp_path / "small.pth", storage=url,
            estimator="probe", latency=None, latency_table=tmp_path / "table.yaml", allow_foreign_table=True,
            latency_ms=50, trials=3, baseline=[], callbacks=[stop],
        )  # fmt: skip
    (tmp_path / "small.pth").unlink()

    def worker(data: str, weights: str | None) -> dict[str, Any]:
        return run_worker(
            url, "run", data=tmp_path / data, init=None if weights is None else tmp_path / weights, wait=0.5
        )

    for data, weights, refused in (
        ("copied", None, "--init"), ("copied", "other.pth", "weights"), ("fewer", "copy.pth", "--data")
    ):  # fmt: skip
        with pytest.raises(BadInput, match=refused):
            worker(data, weights)
    assert worker("copied", "copy.pth") == {"run": "run", "trials": 2, "evaluated": 2}


def write_photos(folder: Path) -> None:
    """Digits of four classes as files in folders."""
    images, labels = load_digits(return_X_y=True)
    for number, (pixels, label) in enumerate(zip(images[:160].reshape(-1, 8, 8), labels[:160] % 4, strict=True)):
        path = folder / f"digit{label}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype(np.uint8)).resize((32, 32)).save(path)


# --- what is refused


def test_a_run_that_does_not_begin(mnas: Mnas, monkeypatch: pytest.MonkeyPatch) -> None:
    done = mnas("worker", "--storage", "sqlite:///empty.db", "--run", "flowers", "--wait", "1s")
    assert done.code == 2 and "--run flowers" in done.err
    done = mnas("worker", "--storage", "env:NO_SUCH_VARIABLE", "--run", "flowers")
    assert done.code == 2 and "NO_SUCH_VARIABLE" in done.err
    monkeypatch.setenv("DATABASE", "sqlite:///elsewhere.db")
    assert mnas("worker", "--storage", "env:DATABASE", "--run", "flowers", "--wait", "0.5s").code == 2
    assert Path("elsewhere.db").exists()


@pytest.mark.parametrize(
    ("options", "reason"), [({"estimator": "supernet"}, "torchrun"), ({}, "latency")], ids=["supernet", "latency"]
)
def test_a_search_that_shares_no_trials(
    search: Callable[..., Result], tmp_path: Path, options: dict[str, str], reason: str
) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    with pytest.raises(BadInput, match=f"--workers-only.*{reason}"):
        search(storage=url, workers_only=True, **options)

    def stop(trial: Trial) -> None:
        raise BadInput("enough")

    with pytest.raises(BadInput, match="enough"):
        search(storage=url, trials=2, run=tmp_path / "again", callbacks=[stop], **options)
    with pytest.raises(BadInput, match=f"shares no trials.*{reason}"):
        run_worker(url, "again")


def test_workers_need_a_storage(search: Callable[..., Result]) -> None:
    with pytest.raises(BadInput, match="--storage"):
        search(workers_only=True)


def test_a_missing_driver(mnas: Mnas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    done = mnas("worker", "--storage", "postgresql://nas@localhost/nas", "--run", "flowers")
    assert done.code == 2 and "pip install 'mnas[postgresql]'" in done.err
    assert len(done.err.splitlines()) == 1
