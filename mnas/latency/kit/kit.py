"""A kit: a space's layers as model files, with a script that times them on a device without mnas."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import uuid
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mnas.errors import BadInput
from mnas.io.files import parse_json
from mnas.io.size import in_order
from mnas.io.strict_yaml import Count, Positive, Strict, read_text, validate
from mnas.latency.conditions import Conditions
from mnas.latency.measure import ANCHORS, pooled, rescaled_to_anchor
from mnas.latency.runtimes import dtype_of, get_runtime
from mnas.latency.table.calibrate import FITTED, HELD_OUT, MeasuredNetworks, calibrated
from mnas.latency.table.provenance import Provenance
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing.frame import frame, input_shape, timed_module
from mnas.latency.timing.rounds import Measurement
from mnas.nn.network import Network
from mnas.space.architecture import Architecture
from mnas.space.layer import Layer
from mnas.space.space import SearchSpace
from mnas.version import __version__

log = logging.getLogger("mnas")

RUNTIMES = {
    "onnxruntime": ("onnx_session", "onnxruntime"), "onnxruntime_int8": ("onnx_session", "onnxruntime"),
    "litert": ("litert_interpreter", "ai-edge-litert"), "litert_int8": ("litert_interpreter", "ai-edge-litert"),
}  # fmt: skip
"""Runtimes with a module that needs no torch, and the package that pip installs on the device."""
COPIED = ("timing/rounds", "timing/sections", "timing/quiet", "timing/device")
"""Modules of mnas.latency that measure on the device."""
MAX_BYTES = 64_000_000
ROUNDS = 36
MIN_NETWORKS = 4
"""To calibrate with: two for the fit, two for its error."""

_rng = random.Random(0)
PATTERN = torch.tensor([_rng.choice((-1, 1)) * _rng.uniform(0.01, 0.1) for _ in range(256)])
"""All weights of a kit repeat this 1 KB, so that it compresses. Times do not depend on a weight's value, unless it is
zero or denormal."""


# --- making a kit -------------------------------------------------------------------------------------------------


def make_kit(
    path: str | Path, space: SearchSpace, conditions: Conditions, *, num_classes: int = 1000, rng: random.Random,
    networks: int = FITTED + HELD_OUT, progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Writes a .zip that `python3` runs: every layer of `space`, and random networks of it to calibrate with.

    Returns its manifest. BadInput for a runtime that needs torch.
    """
    path = Path(path)
    if conditions.runtime not in RUNTIMES:
        raise BadInput(f"--runtime {conditions.runtime}: a kit can be made for {', '.join(RUNTIMES)}")
    adapter = get_runtime(conditions.runtime)
    module, needs = RUNTIMES[conditions.runtime]
    layers = sorted(space.layers(num_classes), key=str)
    archs = [space.sample(rng) for _ in range(networks)]
    suffix, frames = adapter.suffix, list(dict.fromkeys(map(frame, layers)))
    total = len(layers) + len(frames) + networks + len(ANCHORS)
    largest = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file, torch.random.fork_rng(devices=[]):
            _add_code(file, module)

            def add(name: str, network: nn.Module, shape: tuple[int, ...]) -> str:
                nonlocal largest
                largest = max(largest, prod(shape))
                ramp = torch.linspace(0, 1, prod(shape)).reshape(shape)  # its range is what int8 is made for
                file.writestr(name, adapter.artifact(patterned(network), ramp))
                if progress is not None:
                    progress(len(file.namelist()), total)
                return name

            def add_layer(name: str, layer: Layer) -> str:
                shape = input_shape(layer, conditions.batch, in_frame=True)
                return add(name, timed_module(layer, in_frame=True), shape)

            frame_files = {layer: add_layer(f"frames/{i}{suffix}", layer) for i, layer in enumerate(frames)}
            manifest = {
                "mnas_version": __version__, "space": space.name, "num_classes": num_classes,
                "runtime": conditions.runtime, "dtype": dtype_of(conditions.runtime), "needs": needs,
                "module": f"mnas.latency.runtimes.{module}",
                "threads": conditions.threads, "batch": conditions.batch, "rounds": ROUNDS,
                "layers": [
                    {"layer": layer.to_dict(), "file": add_layer(f"layers/{i}{suffix}", layer),
                     "frame": frame_files[frame(layer)]}
                    for i, layer in enumerate(layers)
                ],
                "networks": [
                    {"architecture": arch.to_dict(), "file": add(
                        f"networks/{i}{suffix}", Network(arch, num_classes), arch.input_shape(conditions.batch)
                    )}
                    for i, arch in enumerate(archs)
                ],
                "anchors": [
                    add(f"anchors/{i}{suffix}", Network(arch, 1000), arch.input_shape(1))
                    for i, arch in enumerate(ANCHORS)
                ],
                "scratch": largest,
            }  # fmt: skip
            content = [manifest, [(entry.filename, entry.CRC) for entry in file.infolist()]]
            manifest["kit"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
            file.writestr("manifest.json", json.dumps(manifest))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return manifest


def _add_code(file: zipfile.ZipFile, module: str) -> None:
    here = Path(__file__).parent.parent
    file.writestr("__main__.py", (here / "kit" / "runner.py").read_text(encoding="utf-8"))
    for package in ("mnas", "mnas/latency", "mnas/latency/timing", "mnas/latency/runtimes"):
        file.writestr(f"{package}/__init__.py", "")
    for name in (*COPIED, f"runtimes/{module}"):
        file.writestr(f"mnas/latency/{name}.py", (here / f"{name}.py").read_text(encoding="utf-8"))


def patterned(module: nn.Module) -> nn.Module:
    """`module` in eval mode, its weights filled with `PATTERN`, its batch norms' biases with 0.1."""
    with torch.no_grad():
        for part in module.eval().modules():
            if isinstance(part, nn.BatchNorm2d):
                part.bias.fill_(0.1)
                continue
            for weight in part.parameters(recurse=False):
                count = weight.numel()
                weight.copy_(PATTERN.repeat(-(-count // len(PATTERN)))[:count].view(weight.shape))
    return module


# --- importing its results ----------------------------------------------------------------------------------------


class _Layer(Strict):
    file: str
    layer: Layer
    frame: str | None = None


class _Network(Strict):
    file: str
    architecture: dict[str, Any]


class _Manifest(Strict):
    kit: str
    mnas_version: str
    space: str
    num_classes: Count
    runtime: str
    dtype: Literal["float32", "int8"] = "float32"
    needs: str
    module: str
    threads: Count
    batch: Count
    rounds: Count
    scratch: Count
    layers: tuple[_Layer, ...]
    networks: tuple[_Network, ...]
    anchors: tuple[str, ...]


class _Timed(Strict):
    ms: Positive
    anchor_ms: Positive | None
    unstable: str

    def measurement(self, rounds: int) -> Measurement:
        return Measurement(self.ms, 0.0, rounds, self.anchor_ms, None, self.unstable)


class _Results(Strict):
    complete: bool
    device: str
    cores: Count
    runtime: str
    runtime_version: str
    threads: Count
    dtype: Literal["float32", "int8"]
    clock_mhz: Positive | None
    date: str
    layer_ms: dict[str, Positive]
    networks: dict[str, tuple[_Timed, ...]]
    failed: dict[str, str]
    manifest: _Manifest


def is_results(path: str | Path) -> bool:
    """Whether a file holds a kit's results, perhaps damaged ones, by its content."""
    path = Path(path)
    text = ""
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_BYTES)
    return '"layer_ms"' in text or (path.suffix == ".json" and '"mean"' not in text and path.is_file())


def import_results(path: str | Path) -> LatencyTable:
    """The table of a kit's results.json, calibrated on the networks that the device ran.

    BadInput for results that are incomplete or damaged.
    """
    path = Path(path)
    results = _read(path)
    manifest = results.manifest
    layers = {row.file: row.layer for row in manifest.layers}
    if not results.complete or not layers.keys() <= results.layer_ms.keys() | results.failed.keys():
        raise BadInput(
            f"{path}: not complete, measured {len(results.layer_ms):,} of {len(layers):,} layers: run the kit again on "
            "the device, it continues where it stopped"
        )
    table = LatencyTable(
        Conditions(results.runtime, results.threads, manifest.batch),
        Provenance(
            results.device, results.runtime_version, results.date, manifest.mnas_version, results.dtype, "imported",
            framed=any(row.frame for row in manifest.layers), clock_mhz=results.clock_mhz,
        ),
        entries={layers[file]: ms for file, ms in results.layer_ms.items()},
        failed={layers[file]: why for file, why in results.failed.items() if file in layers},
    )  # fmt: skip
    if table.failed:
        log.warning(
            "%s failed on %d of the %d layers, and networks with such a layer cannot be predicted: %s",
            results.runtime, len(table.failed), len(layers), next(iter(table.failed.values())),
        )  # fmt: skip
    return _calibrated(table, results, path)


def _calibrated(table: LatencyTable, results: _Results, path: Path) -> LatencyTable:
    manifest = results.manifest
    archs, measurements = [], []
    first_ms = next((timed.anchor_ms for passes in results.networks.values() for timed in passes), None)
    for i, row in enumerate(manifest.networks):
        arch = Architecture.from_dict(row.architecture, f"{path}: manifest.networks[{i}].architecture")
        passes = results.networks.get(row.file, ())
        if len(passes) == 2 and not table.missing(arch.layers(manifest.num_classes)):
            archs.append(arch)
            measurements.append(pooled([
                rescaled_to_anchor(timed.measurement(manifest.rounds // 2), first_ms) for timed in passes
            ]))  # fmt: skip
    reasons = [measurement.unstable for measurement in measurements if measurement.unstable]
    if reasons:
        log.warning(
            "the device was disturbed while %d of %d networks ran: %s", len(reasons), len(measurements), reasons[0]
        )
    if len(measurements) < MIN_NETWORKS:
        log.warning("only %d networks ran on the device: the table is not calibrated", len(measurements))
        return table
    sizes = {row.layer.size for row in manifest.layers if row.layer.takes_images}
    return calibrated(
        table, MeasuredNetworks(archs, measurements, manifest.num_classes, manifest.space, tuple(in_order(sizes)))
    )


def _read(path: Path) -> _Results:
    try:
        data = parse_json(read_text(path, MAX_BYTES), str(path))
    except BadInput as error:
        raise BadInput(f"{error}: a kit writes it whole, so copy it from the device again") from None
    results = validate(_Results, data, str(path))
    layers, networks = {row.file for row in results.manifest.layers}, {row.file for row in results.manifest.networks}
    foreign = (results.layer_ms.keys() - layers) | (results.networks.keys() - networks)
    foreign |= results.failed.keys() - layers - networks - set(results.manifest.anchors)
    if foreign:
        raise BadInput(f"{path}: {min(foreign)} is not a model of its kit: copy the file from the device again")
    if results.complete and not results.layer_ms:
        raise BadInput(f"{path}: it has no layers")
    return results
