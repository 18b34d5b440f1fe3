"""A search of thousands of trials: time for a trial, memory, open files, TensorBoard's folder, start of a resume.

    python benchmarks/long_run.py [--trials 5000] [--sampler predictor]

Accuracy and latency are functions that cost nothing, so that what is measured is the search itself: sampler, database,
trials.jsonl, TensorBoard, progress. The first hundred trials and every hundred after them have their median time. The
search is interrupted 50 trials before its end and continued: `resume_s` is the time to its first new trial.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import options_parser, save_part

import mnas
from mnas.space.cost import cost

PART = 100
"""Trials of which a median is made."""
LAST = 50
"""Trials after the interruption."""


def guess(arch: mnas.Architecture) -> float:
    return min(0.99, 0.5 + cost(arch, 10).params / 2e7)


def milliseconds(arch: mnas.Architecture) -> float:
    return cost(arch, 10).madds / 1e7


def memory_mb() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def figures_of(trials: int, sampler: str, folder: Path) -> dict[str, Any]:
    moments, parts = [time.perf_counter()], list[dict[str, float]]()
    stop = [trials - LAST]

    def note(trial: mnas.Trial) -> None:
        moments.append(time.perf_counter())
        if len(moments) % PART == 1:
            recent = moments[-PART - 1 :]
            parts.append({
                "trials": len(moments) - 1,
                "median_ms": round(1000 * statistics.median(b - a for a, b in itertools.pairwise(recent)), 2),
                "memory_mb": memory_mb(),
                "files": len(os.listdir("/proc/self/fd")),
            })  # fmt: skip
            print(parts[-1], flush=True)
        if len(moments) > stop[0]:
            raise KeyboardInterrupt

    options: dict[str, Any] = {
        "space": "v3_small", "resolution": [32, 48], "latency_ms": 3.0, "trials": trials, "estimator": guess,
        "latency": milliseconds, "sampler": sampler, "run": folder / "run", "callbacks": [note],
        "set": {"recipe.epochs": 1, "recipe.images": 100, "finalists": 1, "references": 0},
    }  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        mnas.search(**options)
    written = len((folder / "run" / "trials.jsonl").read_text().splitlines())
    moments, stop[0] = [time.perf_counter()], 10 * trials
    result = mnas.search(**options)
    tensorboard = sum(file.stat().st_size for file in (folder / "run" / "tb").rglob("*") if file.is_file())
    return {
        "trials": len(result.trials), "parts": parts, "resumed_after": written,
        "time_ratio": round(parts[-1]["median_ms"] / parts[0]["median_ms"], 2),
        "memory_growth_mb": parts[-1]["memory_mb"] - parts[0]["memory_mb"],
        "files_growth": parts[-1]["files"] - parts[0]["files"],
        "resume_s": round(moments[1] - moments[0], 1), "tensorboard_mb": round(tensorboard / 2**20, 1),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--sampler", default="predictor")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = figures_of(options.trials, options.sampler, Path(folder))
    save_part("long_run", options.sampler, figures)


if __name__ == "__main__":
    main()
