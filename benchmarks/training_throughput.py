"""Training speed, accuracy and memory, side by side with an earlier commit, and in float32 and bfloat16.

    python benchmarks/training_throughput.py
    python benchmarks/training_throughput.py --parts 128px 224px --rounds 9

The parts of the result file:

32px       images/s of MobileNetV3-Large and -Small at 32x32, batch 128, by number of threads
128px      MobileNetV3-Large, batch 64: images/s before and now, in turn, in random order, round after round; the ratio
           is the median over the rounds. A turn is an epoch of 20 training steps of the default recipe.
224px      the same, batch 16
accuracy   MobileNetV3-Large on 2,000 images of CIFAR-10 enlarged to 64 px: test accuracy after equal epochs, three
           seeds, before and now, without averaged weights
memory     peak of fresh processes (VmHWM): some steps of the supernet of v3_large, batch 64, and of MobileNetV3-Large

`before` is the commit of --before, taken out of git into a temporary folder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import options_parser, save_part
from PIL import Image
from recipe_parts import DATA, opened

import mnas
from mnas.config import Recipe
from mnas.data.splits import Split, limited
from mnas.training.loop import Setting, fit
from mnas.training.precision import Precision, has_bfloat16

ROOT = Path(__file__).resolve().parent.parent
BEFORE = "9357e65"
NETWORK = "mobilenet_v3_large"
NETWORKS = (NETWORK, "mobilenet_v3_small")
RECIPE = Recipe(epochs=6, batch_size=128)
TEST_IMAGES = 5000
Job = dict[str, Any]


# --- processes


@contextmanager
def commit(name: str) -> Iterator[Path]:
    """A folder with the files of a commit."""
    done = subprocess.run(["git", "archive", name], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


class Worker:
    """A process that does a job with the mnas of a folder."""

    def __init__(self, root: Path, job: Job):
        script = str(Path(__file__).with_name("training_worker.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, json.dumps(job)], env=os.environ | {"PYTHONPATH": str(root)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        found = self.read()["mnas"]
        if not Path(found).is_relative_to(root):
            raise RuntimeError(f"the process uses {found}, expected the mnas of {root}")

    def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended early, exit code {self._process.wait()}")
        return json.loads(line)

    def ask(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.read()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def answer(root: Path, job: Job) -> dict[str, Any]:
    """The only answer of a fresh process."""
    with Worker(root, job) as worker:
        return worker.read()


# --- parts


def variants(before: Path) -> dict[str, tuple[Path, Job]]:
    """By name, the folder of mnas and what is added to a job: before, and now in each precision of this machine."""
    precisions: list[Precision] = ["float32", *(["bfloat16"] if has_bfloat16(torch.device("cpu")) else [])]  # type: ignore[list-item]
    return {"before": (before, {})} | {p: (ROOT, {"precision": p}) for p in precisions}


def small_images(options: argparse.Namespace, _: Path) -> dict[str, Any]:
    data, counts = mnas.load_data("digits"), sorted({1, options.threads})
    return {name: {f"{n}_threads": images_per_s(name, data, n) for n in counts} for name in NETWORKS}


def images_per_s(name: str, data: mnas.ImageData, threads: int) -> float:
    """The median over the epochs, without the first."""
    torch.set_num_threads(threads)
    network = mnas.build(mnas.zoo.get(name), data.num_classes)
    epochs = fit(network, data.train, RECIPE, Setting(32, torch.device("cpu"), 0, data.num_classes))
    return round(statistics.median([epoch.images_per_s for epoch in epochs][1:]), 1)


def photographs(size: int, batch: int) -> Callable[[argparse.Namespace, Path], dict[str, Any]]:
    def part(options: argparse.Namespace, before: Path) -> dict[str, Any]:
        rng, job = random.Random(0), {"kind": "speed", "network": NETWORK, "size": size, "batch": batch}
        job["threads"] = options.threads
        with ExitStack() as stack:
            workers = {
                name: stack.enter_context(Worker(root, job | more)) for name, (root, more) in variants(before).items()
            }
            speeds: dict[str, list[float]] = {name: [] for name in workers}
            for number in range(options.rounds + 1):
                for name in rng.sample(sorted(workers), len(workers)):
                    found = workers[name].ask()["images_per_s"]
                    if number:  # the first round warms up
                        speeds[name].append(found)
        return {"batch": batch, "threads": options.threads, "rounds": options.rounds, **compared(speeds)}

    return part


def compared(speeds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of images/s, and over the rounds of the ratio to `before`, with the smallest and the largest."""
    ratios = {
        name: [now / then for now, then in zip(found, speeds["before"], strict=True)]
        for name, found in speeds.items() if name != "before"
    }  # fmt: skip
    return {
        "images_per_s": {name: round(statistics.median(found), 1) for name, found in speeds.items()},
        "ratio": {name: round(statistics.median(found), 2) for name, found in ratios.items()},
        "ratio_range": {name: [round(min(found), 2), round(max(found), 2)] for name, found in ratios.items()},
    }


def accuracies(options: argparse.Namespace, before: Path) -> dict[str, Any]:
    size, job = 64, {"kind": "accuracy", "network": NETWORK, "size": 64, "batch": 64, "epochs": options.epochs}
    job["threads"] = options.threads
    with tempfile.TemporaryDirectory() as folder:
        job["data"] = str(Path(folder) / "cifar10.npz")
        write_archive(Path(job["data"]), size)
        found = {
            name: [answer(root, job | more | {"seed": seed})["accuracy"] for seed in range(options.seeds)]
            for name, (root, more) in variants(before).items()
        }
    return {
        "train_images": 2000, "test_images": TEST_IMAGES, "resolution": size, "epochs": options.epochs,
        "accuracies": {name: [round(one, 4) for one in ones] for name, ones in found.items()},
        "mean": {name: round(statistics.mean(ones), 4) for name, ones in found.items()},
    }  # fmt: skip


def write_archive(path: Path, size: int) -> None:
    data = opened(str(DATA["cifar10"]))
    parts = {"train": (data.train, 2000), "val": (data.val, 500), "test": (data.test, TEST_IMAGES)}
    arrays: dict[str, Any] = {}
    for name, (split, count) in parts.items():
        chosen = limited(split, count, 0)
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = enlarged(chosen, size), chosen.labels
    np.savez(path, **arrays)


def enlarged(split: Split, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pixels uint8 (n, size, size, 3)."""
    pixels = split.fetch(range(len(split)), 0).permute(0, 2, 3, 1).numpy()
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC)) for one in pixels])


def memory(options: argparse.Namespace, before: Path) -> dict[str, Any]:
    jobs: dict[str, Job] = {
        "supernet_128px": {"kind": "supernet_peak", "size": 128},
        "supernet_224px": {"kind": "supernet_peak", "size": 224},
        "network_224px": {"kind": "network_peak", "size": 224, "network": NETWORK},
    }  # fmt: skip
    figures: dict[str, Any] = {"batch": 64, "steps": 2}
    for name, job in jobs.items():
        job |= {"batch": 64, "steps": 2, "threads": options.threads}
        tried = {key: variant for key, variant in variants(before).items() if key != "before" or "128px" in name}
        found = {key: answer(root, job | more) for key, (root, more) in tried.items()}
        row: dict[str, Any] = {"peak_mb": {key: round(one["peak_mb"]) for key, one in found.items()}}
        row["start_mb"] = round(found["float32"]["start_mb"])
        if "before" in found:
            then = found["before"]["peak_mb"]
            row["ratio"] = {k: round(one["peak_mb"] / then, 3) for k, one in found.items() if k != "before"}
        figures[name] = row
    return figures


PARTS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "32px": small_images, "128px": photographs(128, 64), "224px": photographs(224, 16), "accuracy": accuracies,
    "memory": memory,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--before", metavar="COMMIT", default=BEFORE)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    with commit(options.before) as before:
        for part in options.parts:
            save_part("training_throughput", part, PARTS[part](options, before))


if __name__ == "__main__":
    main()
