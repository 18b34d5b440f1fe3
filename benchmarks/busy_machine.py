"""A search beside other work: whether it ends with the winner of an idle machine.

    python benchmarks/busy_machine.py --tries 4 -- --latency-ms 3 --set recipe.epochs=12

The same `mnas search` (on the built-in digits; its options follow `--`) runs once on an idle machine, which also makes
the latency table, and then --tries times beside as many processes as there are cores, each of which keeps one busy. Of
each run: the winner, its latency at the table's speed and as measured, which networks raced, and the seconds. A search
that says that it could not, and keeps what it has for `mnas resume`, is `postponed`. --new-table: each run makes its
own table, beside the other work.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import options_parser, save_part

BUSY = "while True: pass"


@contextlib.contextmanager
def others(count: int) -> Iterator[None]:
    """Processes that each use a core while the block lasts."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def searched(options: Sequence[str], folder: Path, cache: Path) -> dict[str, Any]:
    """One search in `folder`, with the latency tables of `cache`."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "mnas", "search", *options, "--run", str(folder / "run"), "--json"]
    done = subprocess.run(command, env=os.environ | {"XDG_CACHE_HOME": str(cache)}, capture_output=True, text=True)
    wall_s = round(time.perf_counter() - began, 1)
    if done.returncode:
        kept = (folder / "run" / "config.yaml").exists()
        said = done.stderr.strip().splitlines()[-1].replace(str(folder), "FOLDER")
        return {"exit_code": done.returncode, "postponed": kept and "mnas resume" in said, "said": said,
                "wall_s": wall_s}  # fmt: skip
    found = json.loads(done.stdout)
    winner, race = found["networks"][0], found["search"]["race"]
    latency = winner["latencies"][0]
    return {
        "exit_code": 0, "winner": next(iter(race["final"])), "test_accuracy": round(winner["test_accuracy"], 4),
        "latency_ms": round(winner["latency_ms"], 2), "speed_factor": round(latency.get("speed_factor") or 1.0, 2),
        "contenders": [one["name"] for one in race["contenders"]], "wall_s": wall_s,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--tries", type=int, default=4)
    parser.add_argument("--new-table", action="store_true", help="each run makes its own latency table")
    options, rest = parser.parse_known_args(arguments)
    search = [option for option in rest if option != "--"]
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        idle = searched(search, folder / "idle", folder / "cache")
        print(f"idle: {idle}", flush=True)
        tries = []
        for number in range(options.tries):
            with others(cores):
                own = folder / f"cache {number}" if options.new_table else folder / "cache"
                tries.append(searched(search, folder / str(number), own))
            print(f"beside {cores} processes: {tries[-1]}", flush=True)
    same = sum(one.get("winner") == idle.get("winner") for one in tries)
    save_part("busy_machine", "own tables" if options.new_table else "table of an idle machine", {
        "processes": cores, "idle": idle, "tries": tries, "same_winner": same,
        "same_winner_or_postponed": sum(
            one.get("winner") == idle.get("winner") or bool(one.get("postponed")) for one in tries
        ),
    })  # fmt: skip


if __name__ == "__main__":
    main()
