"""Whole searches: the winner against the best reference network that is scaled to the same budget.

    python benchmarks/found_vs_reference.py default --seeds 5 --before 9357e65
    python benchmarks/found_vs_reference.py fashion_mnist --budget 40m
    python benchmarks/found_vs_reference.py cifar10 --budget 40m
    python benchmarks/found_vs_reference.py photos --budget 40m
    python benchmarks/found_vs_reference.py photos --photographs photos --budget 25m --latency-ms 8.5
    python benchmarks/found_vs_reference.py cifar10 --budget 3m --device cuda

Each part runs `mnas search` and keeps its own figures: test accuracies of winner and opponent (trained by the same
recipe in the same race, chosen by validation; where the race dropped it, by `mnas train` alone for as long as the
winner), their seeds, latencies, and seconds by step. `default` repeats the
default command with each seed; --before also times it once at an earlier commit, after the first run. `fashion_mnist`
and `cifar10` use 20,000 images and the budget that MobileNetV3-Small at 1.5 times the native size just fits in ONNX
Runtime; `plain` beside them is that network at the native size, trained as torchvision's classification reference does
(SGD, 0.1 for 256 images, a tenth every 30 epochs; random resized crops, mirrored), 30 epochs; what the result file has
of it is not trained again. `photos` is a folder of 2,000 CIFAR-10 images at 64 px, against `mnas train
mobilenet_v3_large` for as long as the whole search took; `photos --photographs FOLDER` takes your own, and runs both at
the same time, each on one core (Linux). Other options than those below are the search's.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import cpu_trainer, options_parser, save_part, saved_parts
from PIL import Image
from recipe_parts import opened

import mnas
from mnas.config import parse_duration
from mnas.data.augment import augment
from mnas.data.loader import batches
from mnas.data.splits import Split, limited
from mnas.training.sizes import native_size

IMAGES = 20_000
CPU = torch.device("cpu")
PATHS = re.compile(r"(?<!\S)/(?:[^\s/]+/)+")
"""The folders of absolute paths in a log, which result files do not keep."""


def searched(options: Sequence[str], folder: Path, core: int | None = None) -> dict[str, Any]:
    """The figures of one search; its latency table is built anew. It runs on the core of that number alone, or all."""
    began = time.perf_counter()
    run = folder / "run"
    result = mnas_json(["search", *options, "--run", str(run)], core, XDG_CACHE_HOME=str(folder / "cache"))
    wall_s = time.perf_counter() - began
    peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of the largest of all commands so far
    log = PATHS.sub("", (run / "run.log").read_text().replace(str(folder), "FOLDER"))
    winner, *opponents = result["networks"]
    opponents = opponents or [dropped_reference(run, result, data_of(options), core)]
    figures: dict[str, Any] = {
        "wall_s": round(wall_s, 1), "peak_memory_mb": peak_kb // 1024,
        "winner": shown(winner), "opponents": [shown(row) for row in opponents],
        "verdicts": result.get("verdicts"), "race": result["search"]["race"], "seconds": steps(log),
        "log": with_seconds(log.splitlines()),
    }  # fmt: skip
    errors = [1 - row["test_accuracy"] for row in (winner, opponents[0])]
    figures["error_ratio"] = round(errors[0] / errors[1], 3) if errors[1] else None
    figures["search_over_opponent"] = round(figures["seconds"]["search"] / opponents[0]["seconds"], 2)
    figures["race_over_opponent"] = round(figures["seconds"]["race"] / opponents[0]["seconds"], 2)
    return figures


def dropped_reference(run: Path, result: dict[str, Any], data: Sequence[str], core: int | None) -> dict[str, Any]:
    """The reference that came furthest in a race which dropped all of them, trained alone for as long as the winner."""
    entered, *rungs = [json.loads(line) for line in (run / "races.jsonl").read_text().splitlines()]
    references = {one["name"] for one in entered["contenders"] if one["kind"] == "reference"}
    rung = next(rung for rung in reversed(rungs) if references & rung["accuracies"].keys())
    name = max(references & rung["accuracies"].keys(), key=lambda one: rung["accuracies"][one] or 0.0)
    winner = next(iter(result["search"]["race"]["final"]))
    epoch_s = {one: rung["seconds"][one] / rung["epochs"][one] for one in (winner, name)}
    epochs = round(result["networks"][0]["epochs"] * epoch_s[winner] / epoch_s[name])
    with tempfile.TemporaryDirectory() as folder:
        command = ["train", name, *data, "-o", f"{folder}/alone", "--set", f"epochs={epochs}"]
        trained = mnas_json(command, core)["networks"][0]
    raced = next(one["latency"]["median_ms"] for one in entered["contenders"] if one["name"] == name)
    del trained["exported_latency_ms"]  # in another runtime than the search's
    return {**trained, "latency_ms": raced}


def data_of(options: Sequence[str]) -> list[str]:
    """The --data of a search, for other commands; none where it takes the built-in digits."""
    return ["--data", options[options.index("--data") + 1]] if "--data" in options else []


def mnas_json(arguments: Sequence[str], core: int | None = None, **environment: str) -> dict[str, Any]:
    """The JSON of one `mnas` command, on one core or all; a failed command ends the benchmark with its exit code."""
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    command = [*pinned, sys.executable, "-m", "mnas", *arguments, "--json"]
    completed = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    if completed.returncode:
        sys.exit(completed.returncode)
    return json.loads(completed.stdout)


def with_seconds(lines: Sequence[str]) -> list[str]:
    """The lines of a log, each with the seconds since the first one in place of its date."""
    times = [datetime.datetime.fromisoformat(" ".join(line.split()[:2])) for line in lines]
    return [
        f"{(moment - times[0]).total_seconds():.0f} s: {line.split(' ', 3)[-1]}"
        for moment, line in zip(times, lines, strict=True)
    ]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    wanted = ("name", "test_accuracy", "val_accuracy", "latency_ms", "resolution", "madds", "params", "weights",
              "epochs", "seconds", "seeds", "exported_latency_ms")  # fmt: skip
    return {name: row[name] for name in wanted if name in row}


def steps(log: str) -> dict[str, float]:
    """Seconds of the table, of everything between it and the race, of the race, and of what follows."""
    lines = [line.split(": ", 1) for line in with_seconds(log.splitlines())]
    times = [(float(seconds.removesuffix(" s")), text) for seconds, text in lines]

    def at(text: str) -> float:
        return next((seconds for seconds, line in times if text in line), times[-1][0])

    table, race, end = at("fastest network"), at("race for"), times[-1][0]
    last = max(seconds for seconds, line in times if "trained for" in line or "race for" in line)
    return {"table": table, "search": race - table, "race": last - race, "after": end - last}


def default(seeds: int, before: str | None, others: Sequence[str]) -> dict[str, Any]:
    runs, earlier = [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            options = ["--space", "v3_large", "--latency-ms", "15", "--seed", str(seed), *others]
            runs.append(searched(options, Path(folder)))
        if before is not None and seed == 0:
            earlier.append(seconds_at(before))
    accuracies = [run["winner"]["test_accuracy"] for run in runs]
    better = [run["winner"]["test_accuracy"] >= run["opponents"][0]["test_accuracy"] for run in runs]
    return {
        "runs": runs, "mean_test_accuracy": round(float(np.mean(accuracies)), 4), "not_below": sum(better),
        "before": before, "wall_s_before": earlier,
        "wall_ratio": round(float(np.median([r["wall_s"] for r in runs]) / np.median(earlier)), 2) if earlier else None,
    }  # fmt: skip


def seconds_at(commit: str) -> float:
    """Wall time of the default command at another commit of this repository."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=root, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "mnas", "search", "--space", "v3_large", "--latency-ms", "15"], cwd=folder,
            check=True, env=os.environ | {"PYTHONPATH": folder, "XDG_CACHE_HOME": f"{folder}/cache"},
        )  # fmt: skip
        return round(time.perf_counter() - began, 1)


def small_images(part: str, options: Sequence[str], seeds: int) -> dict[str, Any]:
    data = opened(part)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = limited(data.train, IMAGES, 0)
        arrays = {f"{kind}_{what}": value for kind, split in (("train", train), ("val", data.val), ("test", data.test))
                  for what, value in (("images", pixels(split)), ("labels", split.labels))}  # fmt: skip
        np.savez(folder / "images.npz", **arrays)  # type: ignore[arg-type]
        budget_ms = latency_ms("mobilenet_v3_small", 3 * native_size(data.image_size, 224) // 2)
        found = searched([
            "--space", "v3_small", "--data", str(folder / "images.npz"), "--runtime", "onnxruntime", "--latency-ms",
            f"{budget_ms:.4f}", "--seeds", str(seeds), *options,
        ], folder)  # fmt: skip
    known = saved_parts("found_vs_reference").get(part, {}).get("plain_test_accuracy")
    plain = known or plainly_trained(replace(data, train=train), "mobilenet_v3_small")
    ratio = (1 - found["winner"]["test_accuracy"]) / (1 - plain)
    return {"budget_ms": budget_ms, **found, "plain_test_accuracy": plain, "error_ratio_to_plain": round(ratio, 3)}


def pixels(split: Split) -> Any:
    return split.fetch(np.arange(len(split)), 0).permute(0, 2, 3, 1).numpy()


def latency_ms(name: str, resolution: int, runtime: str = "onnxruntime") -> float:
    measured = mnas_json(
        ["latency", "measure", name, "--resolution", str(resolution), "--runtime", runtime]
    )["networks"][0]  # fmt: skip
    return float(measured["latency_ms"] + measured.get("spread_ms", 0.0))


def plainly_trained(data: mnas.ImageData, name: str) -> float:
    """Test accuracy of a network at the images' size, by torchvision's reference recipe."""
    torch.manual_seed(0)
    size, generator = native_size(data.image_size, 224), torch.Generator().manual_seed(0)
    network = mnas.build(mnas.zoo.get(name, resolution=size), data.num_classes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1 * 32 / 256, momentum=0.9, weight_decay=1e-4)
    for _ in range(30):
        network.train()
        for raw, labels in batches(data.train, batch_size=32, size=size, device=CPU, generator=generator):
            x = augment(raw, size, generator=generator, flip=data.flip, crop=0.28, ratio=4 / 3)
            loss = torch.nn.functional.cross_entropy(network(x), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    arch = mnas.zoo.get(name, resolution=size)
    return cpu_trainer(data).accuracy(network, arch, "test", exact=True)


def photos(options: Sequence[str]) -> dict[str, Any]:
    data = opened("cifar10")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, split in (("train", limited(data.train, 2000, 0)), ("test", limited(data.test, 2000, 0))):
            images = split.fetch(np.arange(len(split)), 0).permute(0, 2, 3, 1).numpy()
            for i, (image, label) in enumerate(zip(images, split.labels, strict=True)):
                path = folder / "photos" / kind / data.classes[label] / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC).save(path)
        budget_ms = 1.05 * latency_ms("mobilenet_v3_large", 64, "torch")
        found = searched(["--data", str(folder / "photos"), "--latency-ms", f"{budget_ms:.4f}", *options], folder)
        alone = trained_alone(["--data", str(folder / "photos")], found["wall_s"])
    return {"budget_ms": budget_ms, **found, "mobilenet_v3_large_alone": alone}


def side_by_side(options: Sequence[str], photographs: str, budget: str) -> dict[str, Any]:
    """A search among photographs and its opponent at the same time, each on a core of its own."""
    data = ["--data", photographs]
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor() as pool:
        alone = pool.submit(trained_alone, data, parse_duration(budget), 1)
        found = searched([*data, "--budget", budget, *options], Path(folder), 0)
        return {**found, "mobilenet_v3_large_alone": alone.result()}


def trained_alone(data: Sequence[str], seconds: float, core: int | None = None) -> dict[str, Any]:
    """MobileNetV3-Large by `mnas train`, for about as many seconds; its speed is that of a short training first."""

    def trained(epochs: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            command = ["train", "mobilenet_v3_large", *data, "-o", f"{folder}/alone"]
            return shown(mnas_json([*command, "--set", f"epochs={epochs}"], core)["networks"][0])

    began = time.perf_counter()
    short = trained(10 if core is None else 2)
    if core is not None:  # the short training is of the same time
        seconds -= time.perf_counter() - began
    return trained(max(30 if core is None else 1, round(seconds * short["epochs"] / short["seconds"])))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("part", choices=("default", "fashion_mnist", "cifar10", "photos"))
    parser.add_argument("--seeds", type=int, help="runs of `default` (5), or trainings of winner and opponent (3)")
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="class folders, for `photos`")
    parser.add_argument("--budget", default="40m", help="of each search but the default command's")
    parser.add_argument("--before", metavar="COMMIT", help="time the default command at this commit too")
    options, others = parser.parse_known_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a raised exception ends the search that runs, too
    part, in_time = options.part, [*others, "--budget", options.budget]
    match part:
        case "default":
            figures = default(options.seeds or 5, options.before, others)
        case "photos" if options.photographs is not None:
            part = f"photos, {options.photographs.name}"
            figures = side_by_side(others, str(options.photographs), options.budget)
        case "photos":
            figures = photos(in_time)
        case _:
            figures = small_images(part, in_time, options.seeds or 3)
    save_part("found_vs_reference", part, figures)


if __name__ == "__main__":
    main()
