"""Trials a minute of a search with 1, 2 and 16 workers on PostgreSQL, and restarts of its server survived.

    python benchmarks/workers.py                   # trials a minute: benchmarks/results/workers.json
    python benchmarks/workers.py --restarts 20     # while the server restarts again and again

Each worker is a process of its own with one thread; the main process takes no trials. The train estimator trains small
networks on the digits. The time counts from the first finished trial to the last, so that starting the processes does
not count. A server is started for the length of the measurement, as in the tests (Debian's package postgresql).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from common import options_parser, save_part

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from postgresql import Server, running_server

ROOT = Path(__file__).parent.parent
WORKERS = (1, 2, 16)
SPACE = """
name: tiny
reference: mobilenet_v3_small
resolution: [32]
stem: {channels: 8, kernel: 3, stride: 2, activation: hard_swish}
stages:
  - {channels: 8,  stride: 1, depth: 1,      kernel: 3,      expansion: 1,      activation: relu}
  - {channels: 16, stride: 2, depth: [1, 2], kernel: [3, 5], expansion: [2, 3], se: [0, 0.25], activation: relu}
  - {channels: 24, stride: 2, depth: [1, 2], kernel: 3,      expansion: [2, 3], activation: [relu, hard_swish]}
head: {channels: 48, hidden: 64, activation: hard_swish}
bn_eps: 0.001
"""


def measured(server: Server, count: int, trials: int, restarts: int = 0) -> dict[str, Any]:
    """The figures of one search with so many workers."""
    server.drop_all()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiny.yaml").write_text(SPACE)
        environment = os.environ | {
            "MNAS_STORAGE": server.url, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"
        }
        common = ["--storage", "env:MNAS_STORAGE", "--run", "run"]
        workers = [_mnas(folder, environment, "worker", *common) for _ in range(count)]
        search = _mnas(
            folder, environment, "search", *common, "--space", "tiny.yaml", "--estimator", "train", "--workers-only",
            "--latency-ms", "100", "--trials", str(trials), "--sampler", "random",
            "--set", "max_table_error=10", "--set", "proxy.epochs=3", "--set", "recipe.epochs=1",
            "--set", "finalists=1", "--set", "references=1",
        )  # fmt: skip
        survived = _restarted(server, search, restarts)
        codes = [worker.wait() for worker in workers]  # they end with the search's last trial
        ended = _ends(server)
        search.terminate()  # race and export are not measured
        search.wait()
    seconds = (ended[-1] - ended[0]).total_seconds()
    return {
        "workers": count, "trials": len(ended), "asked": trials, "exit_codes": sorted(set(codes)),
        "restarts": survived, "seconds": round(seconds, 1),
        "trials_a_minute": round(60 * (len(ended) - 1) / seconds, 1),
    }  # fmt: skip


def _mnas(folder: Path, environment: dict[str, str], *args: str) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as out:
        command = [sys.executable, "-m", "mnas", *args]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)


def _restarted(server: Server, search: subprocess.Popen[bytes], restarts: int) -> int:
    """Restart the server so many times while trials are evaluated; how many times it was."""
    if restarts:
        while not _ends(server):
            time.sleep(0.2)
    done = 0
    for number in range(restarts):
        if search.poll() is not None:
            break
        server.stop("immediate" if number % 2 else "fast")
        time.sleep(0.5)
        server.start()
        done += 1
        time.sleep(2.0)
    return done


def _ends(server: Server) -> list[Any]:
    """When each evaluated trial ended."""
    storage = optuna.storages.RDBStorage(server.url.replace("postgresql:", "postgresql+psycopg:"))
    studies = storage.get_all_studies()
    trials = storage.get_all_trials(studies[0]._study_id, deepcopy=False) if studies else []
    records = [(trial.user_attrs.get("trial") or {}, trial.datetime_complete) for trial in trials]
    storage.scoped_session.remove()
    storage.engine.dispose()
    return sorted(when for record, when in records if when and record.get("state") in ("complete", "pruned", "failed"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--restarts", type=int, default=0, help="restart the server so often, with 2 workers")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    args = parser.parse_args(arguments)
    with running_server() as server:
        if args.restarts:
            save_part("workers", "restarts", measured(server, 2, args.trials, args.restarts))
            return
        rows = [measured(server, count, args.trials) for count in args.workers]
    one = rows[0]["trials_a_minute"]
    for row in rows:
        row["speedup"] = round(row["trials_a_minute"] / one, 2)
        print(row)
    save_part("workers", "trials a minute", {"rows": rows})


if __name__ == "__main__":
    main()
