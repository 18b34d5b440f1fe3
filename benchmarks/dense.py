"""Searches for segmentation or detection: the winner against the best reference backbone under the same head.

    python benchmarks/dense.py shapes --budget 20m
    python benchmarks/dense.py path/to/camvid --budget 30m --resolution 96x128,120x160 --scale 1.2
    python benchmarks/dense.py shapes --task detection --head ssdlite --budget 30m

Each part is one `mnas search --task` with --seeds trainings of winner and opponent: the reference that is best by
validation, scaled to the same budget and trained by the same recipe for as long. The budget is --scale times the
measured latency of MobileNetV3-Small under the head, at the images' size or --resolution's first. Written down: mIoU
or mAP on the test split, read once, with its spread over the seeds; the ratio of the errors (1 - mIoU); latencies, that
of the exported file too; the log with its seconds. The set `shapes` is rendered; real ones are given as folders. Other
options are the search's.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import options_parser, save_part
from found_vs_reference import mnas_json, steps, with_seconds

import mnas
from mnas.io.size import written

RENDERED = "shapes"
RENDERED_PX = 96
FIGURES = {"segmentation": "test_miou", "detection": "test_map"}
SHOWN = (
    "name", "latency_ms", "resolution", "madds", "params", "weights", "epochs", "seconds", "seeds", "exported_file",
    "exported_latency_ms",
)  # fmt: skip


def searched(data: str, task: str, head: str, options: Sequence[str]) -> dict[str, Any]:
    """The figures of one search; its latency table is built anew."""
    figure = FIGURES[task]
    with tempfile.TemporaryDirectory() as folder:
        began, run = time.perf_counter(), Path(folder) / "run"
        found = mnas_json(
            ["search", "--task", task, "--head", head, "--data", data, "--run", str(run), *options],
            XDG_CACHE_HOME=f"{folder}/cache",
        )  # fmt: skip
        wall_s = time.perf_counter() - began
        log = (run / "run.log").read_text().replace(folder, "FOLDER")
    winner, *opponents = [{name: row[name] for name in (figure, *SHOWN) if name in row} for row in found["networks"]]
    figures = {
        "wall_s": round(wall_s, 1), "winner": winner, "opponents": opponents, "verdicts": found.get("verdicts"),
        "test": found["test"], "seconds": steps(log), "log": with_seconds(log.splitlines()),
    }  # fmt: skip
    if opponents:
        errors = [1 - row["seeds"]["mean"] for row in (winner, opponents[0])]
        figures["error_ratio"] = round(errors[0] / errors[1], 3)
    return figures


def budget_ms(head: str, resolution: str, runtime: str) -> float:
    """Milliseconds of MobileNetV3-Small under a head."""
    measured = mnas_json(["latency", "measure", "mobilenet_v3_small", "--head", head, "--resolution", resolution,
                          "--runtime", runtime])["networks"][0]  # fmt: skip
    return float(measured["latency_ms"] + measured.get("spread_ms", 0.0))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("data", help="shapes, or a folder of masks or boxes")
    parser.add_argument("--task", choices=tuple(FIGURES), default="segmentation")
    parser.add_argument("--head", default="lraspp")
    parser.add_argument("--scale", type=float, default=1.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--resolution", help="the input sizes that are searched; by default those for the images")
    options, others = parser.parse_known_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a raised exception ends the search that runs, too
    native = written(RENDERED_PX) if options.data == RENDERED else written(mnas.load_space("v3_small").resolutions[0])
    first = native if options.resolution is None else options.resolution.split(",")[0]
    limit = options.scale * budget_ms(options.head, str(first), options.runtime)
    sizes = [] if options.resolution is None else ["--resolution", options.resolution]
    figures = searched(options.data, options.task, options.head, [
        "--space", "v3_small", "--runtime", options.runtime, "--latency-ms", f"{limit:.4f}", "--seeds",
        str(options.seeds), *sizes, *others,
    ])  # fmt: skip
    part = f"{options.task}, {options.head}, {Path(options.data).name}"
    save_part("dense", part, {"budget_ms": round(limit, 4)} | figures)


if __name__ == "__main__":
    main()
