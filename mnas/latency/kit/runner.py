"""Times a kit's layers and networks on a device. Needs Python 3.8, numpy and the runtime alone.

`mnas latency kit` puts this file into a kit as its __main__.py, beside copies of the mnas files that it imports.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import statistics
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from mnas.latency.timing.device import clock_mhz, device_name
from mnas.latency.timing.quiet import Watch, pinned, usable_cores
from mnas.latency.timing.rounds import Inference, RoundLimits, by_key, sample, without_drift
from mnas.latency.timing.sections import LEAST_MS, reason, runnable, sections

NETWORKS_AT_ONCE = 8
"""Few, since a small device must hold them and the anchors in memory."""
PASSES = 2
"""How often a network is prepared and measured."""
FIXED = ("device", "runtime_version", "threads")
"""Values of the results that must be the same when a measurement continues."""


class Refused(Exception):
    """An error that the user can correct, in one line."""


class Kit:
    """The models of a kit, read one at a time from the .zip, or from the folder that it was unzipped to."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self._zip = None if where.is_dir() else zipfile.ZipFile(where)
        self.manifest: dict[str, Any] = json.loads(self.read("manifest.json"))
        needs = self.manifest["needs"]
        try:
            import numpy as np

            self.runtime: Any = importlib.import_module(self.manifest["module"])
        except ImportError as error:
            raise Refused(f"this kit needs {needs} and numpy ({error}): pip install {needs} numpy") from None
        self._scratch = np.random.default_rng(0).random(self.manifest["scratch"], np.float32)

    def read(self, name: str) -> bytes:
        """A file's content. Raises Refused for a name that leaves the kit."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise Refused(f"{self.where}: {name} is outside the kit: copy the kit to this device again")
        try:
            return (self.where / name).read_bytes() if self._zip is None else self._zip.read(name)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise Refused(f"{self.where}: {name} cannot be read ({error}): copy the kit to this device again") from None

    def prepared(self, names: Sequence[str], threads: int) -> dict[str, Inference | str]:
        """An inference of each model, or why there is none. All read the same memory, as layers in a network do."""
        inferences: dict[str, Inference | str] = {}
        for name in names:
            content = self.read(name)
            try:
                inferences[name] = self.runtime.prepare_content(content, self._scratch, threads)
            except Exception as error:  # whatever a runtime raises, the other models are timed
                inferences[name] = reason(error)
        return inferences


class Results:
    """What was measured so far, and its file, which is complete JSON at any moment."""

    def __init__(self, path: Path, kit: Kit, threads: int, device: str | None) -> None:
        self.path = path
        self.data: dict[str, Any] = {
            "complete": False, "device": device or device_name(), "cores": os.cpu_count() or 1,
            "runtime": kit.manifest["runtime"],
            "runtime_version": kit.runtime.version(), "threads": threads,
            "dtype": kit.manifest.get("dtype", "float32"), "clock_mhz": clock_mhz(), "date": "", "layer_ms": {},
            "networks": {}, "failed": {}, "manifest": kit.manifest,
        }  # fmt: skip
        if path.exists():
            self._continue(self._earlier())

    layer_ms = property(lambda self: self.data["layer_ms"])
    networks = property(lambda self: self.data["networks"])
    """For each network a list with one mapping a pass: ms, anchor_ms, unstable."""
    failed = property(lambda self: self.data["failed"])
    """Models that the runtime could not run, with its message."""

    def save(self) -> None:
        """Writes the file whole or not at all."""
        self.data["date"] = date.today().isoformat()
        temporary = self.path.with_name(self.path.name + ".part")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(self.data, file, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            if temporary.exists():
                temporary.unlink()
            raise Refused(f"{self.path}: cannot be written ({error.strerror}); {self.state()}") from None

    def state(self) -> str:
        """The progress so far, and how to continue."""
        layers, networks = (len(self.data["manifest"][name]) for name in ("layers", "networks"))
        complete = sum(len(passes) == PASSES for passes in self.networks.values())
        return (
            f"{len(self.layer_ms):,} of {layers:,} layers and {complete} of {networks} networks are measured; "
            "run the same command again to continue"
        )

    def _earlier(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            return {**{name: data[name] for name in self.data}, "kit": data["manifest"]["kit"]}
        except (OSError, ValueError, KeyError, TypeError):
            raise Refused(f"{self.path}: not the results of a kit: name another file with -o") from None

    def _continue(self, earlier: Mapping[str, Any]) -> None:
        fixed = {**{name: self.data[name] for name in FIXED}, "kit": self.data["manifest"]["kit"]}
        for name, now in fixed.items():
            if earlier[name] != now:
                raise Refused(
                    f"{self.path}: was measured with {name} {earlier[name]}, now it is {now}: name another file with -o"
                )
        # models that failed are tried again: memory may have been short
        for name in ("complete", "layer_ms", "networks"):
            self.data[name] = earlier[name]


def time_layers(kit: Kit, results: Results, threads: int) -> None:
    """Times the missing layers, section by section."""
    manifest = kit.manifest
    frames = {row["file"]: row["frame"] for row in manifest["layers"]}
    todo = [name for name in frames if name not in results.layer_ms]
    count = len(results.layer_ms)
    progress = _Progress("layers", count, len(manifest["layers"]))
    for section in sections(
        todo, lambda names: kit.prepared(names, threads), rounds=manifest["rounds"], rng=random.Random(count),
        timer=kit.runtime.timed_ms, timed_ms=results.layer_ms, frame_of=frames.get,
    ):  # fmt: skip
        if not section.ms and not results.layer_ms:
            why = next(iter(section.failed.values()))
            raise Refused(f"{manifest['runtime']} {results.data['runtime_version']} ran none of the layers: {why}")
        results.layer_ms.update({name: max(round(ms, 6), LEAST_MS) for name, ms in section.ms.items()})
        results.failed.update(section.failed)
        results.save()
        count += len(section.ms) + len(section.failed)
        progress(count)


def time_networks(kit: Kit, results: Results, threads: int) -> None:
    """Times the missing networks, a few at a time beside the anchors."""
    names = [row["file"] for row in kit.manifest["networks"]]
    count = sum(map(len, results.networks.values()))
    progress = _Progress("networks", count, PASSES * len(names))
    for nth in range(PASSES):
        # in reverse order the second time: networks prepared later may run faster (see mnas.latency.measure)
        order = names[::-1] if nth else names
        todo = [name for name in order if len(results.networks.get(name, [])) == nth]
        while todo:
            part, todo = todo[:NETWORKS_AT_ONCE], todo[NETWORKS_AT_ONCE:]
            _time_part(kit, results, part, threads)
            results.save()
            count += len(part)
            progress(count)


def _time_part(kit: Kit, results: Results, names: Sequence[str], threads: int) -> None:
    manifest, watch = kit.manifest, Watch()
    inferences, failed = runnable(kit.prepared([*names, *manifest["anchors"]], threads))
    results.failed.update(failed)
    limits = RoundLimits(-(-manifest["rounds"] // PASSES))
    samples = sample(inferences, limits, rng=random.Random(0), timer=kit.runtime.timed_ms)
    medians = {name: statistics.median(steady) for name, steady in without_drift(samples).items()}
    anchors = [name for name in manifest["anchors"] if name in medians]
    anchor_ms = statistics.geometric_mean([medians[name] for name in anchors]) if anchors else None
    unstable = watch.disturbed(by_key(samples)[anchors[0]]) if anchors else ""
    for name in names:
        if name in medians:
            timed = {"ms": medians[name], "anchor_ms": anchor_ms, "unstable": unstable}
            results.networks.setdefault(name, []).append(timed)


class _Progress:
    """Prints progress and the expected remaining time on stderr."""

    def __init__(self, what: str, count: int, total: int) -> None:
        self._what, self._first, self._total, self._start = what, count, total, time.perf_counter()

    def __call__(self, count: int) -> None:
        left_s = (time.perf_counter() - self._start) / (count - self._first) * (self._total - count)
        left = f"{left_s:.0f} s" if left_s < 90 else f"{left_s / 60:.0f} min"
        _print(f"{self._what}: {count:,} of {self._total:,}, about {left} left")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Runs `python3 kit.zip` and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 kit.zip", description="Measures the latencies of a search space's layers on this device. "
        "An interrupted measurement continues when the same command is run again.",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path("results.json"), help="the file to write")
    parser.add_argument("--threads", type=int, help="threads that the runtime may use; those of the kit by default")
    parser.add_argument("--device", help="this device's name; the processor's by default")
    options = parser.parse_args(words)
    results = None
    try:
        if options.threads is not None and options.threads < 1:
            raise Refused(f"--threads {options.threads}: expected at least 1")
        kit = Kit(Path(__file__).resolve().parent)
        threads = options.threads or kit.manifest["threads"]
        cores = usable_cores()
        if threads > cores:
            raise Refused(
                f"--threads {threads}: {cores} core{'s' * (cores != 1)} of this device may be used; "
                f"state --threads {cores} or fewer"
            )
        results = Results(options.output, kit, threads, options.device)
        about = results.data
        _print(f"{about['device']}: {kit.manifest['needs']} {about['runtime_version']}, threads: {threads}")
        with pinned(threads):
            time_layers(kit, results, threads)
            time_networks(kit, results, threads)
        results.data["complete"] = True
        results.save()
    except Refused as error:
        _print(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _print("interrupted" + (f": {results.state()}" if results else ""))
        return 130
    failed = f", but {about['runtime']} failed on {len(results.failed)} models" if results.failed else ""
    _print(f"{options.output}: complete{failed}; where mnas is installed, run: "
           f"mnas latency import {options.output.name} -o table.yaml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
