"""`mnas benchmark`: one table of a network's files by format and precision."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.commands.artifacts import Artifact, Wanted, made, wanted_of
from mnas.commands.export import evidence_of, known_formats, known_precisions, random_evidence, trained_model
from mnas.commands.files_table import rows_of, time_files
from mnas.export.folder import model_folder
from mnas.export.formats import FILES, PRECISIONS, Model, stated_in
from mnas.export.preprocessing import PREPROCESSING_FILE
from mnas.io.files import read_json, write_json
from mnas.io.size import Size, sides
from mnas.latency.runtimes import USUAL_RUNTIMES
from mnas.latency.timing.device import device_name
from mnas.nn.network import build
from mnas.space.zoo import NETWORKS, load_architecture

BENCHMARK_FILE = "benchmark.json"
CLASSES = 1000
"""Of an architecture that was not trained."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """The rows of a benchmark's table, and how they are timed."""

    formats: Sequence[str] = ("all",)
    precisions: Sequence[str] = PRECISIONS
    threads: int = 1
    resolution: Size = 224
    """Of an architecture or a file that does not say its own."""
    seed: int = 0


def benchmark(target: str | Path, options: BenchmarkOptions) -> dict[str, Any]:
    """One table of a network's files by format and precision: size, latency, accuracy, agreement with PyTorch.

    `target`: a run; a trained folder; an architecture, which gets random weights; or a model file, which is timed. The
    table of a trained network is also written beside it, as benchmark.json. A file that cannot be made or that differs
    says so in its row.
    """
    names, precisions = known_formats(options.formats), known_precisions(options.precisions)
    path = NETWORKS.path(target)
    if path is not None and path.is_file() and path.suffix in USUAL_RUNTIMES:
        return _file_table(path, options)
    folder = model_folder(path) if path is not None and path.is_dir() else None
    model = _untrained(target, options.resolution) if folder is None else trained_model(folder)
    evidence = random_evidence(model) if folder is None else evidence_of(folder, model)
    with tempfile.TemporaryDirectory() as temporary:
        artifacts, expected = made(model, wanted_of(names, precisions), evidence, Path(temporary))
        time_files(artifacts, model.input_shape(), options.threads, options.seed)
        rows = rows_of(artifacts, expected)
    for row in rows:
        row["files"] = [Path(name).name for name in row["files"]]
    table = _table(model.title, model.input_shape(), options.threads, rows)
    table["images"] = len(evidence.images) if evidence.real else 0
    if folder is not None:
        write_json(folder / BENCHMARK_FILE, table)
    return table


def _file_table(path: Path, options: BenchmarkOptions) -> dict[str, Any]:
    """The table of a single model file, of which the latency alone is known."""
    beside = path.with_name(PREPROCESSING_FILE)
    shape = (1, *read_json(beside)["input"]["shape"][1:]) if beside.exists() else (1, 3, *sides(options.resolution))
    form = next(name for name, file in FILES.items() if path.suffix == Path(file).suffix)
    artifact = Artifact(Wanted(form, *stated_in(path)), [path])
    time_files([artifact], shape, options.threads, options.seed)
    return _table(path.name, shape, options.threads, rows_of([artifact], None))


def _table(network: str, shape: Sequence[int], threads: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"network": network, "device": device_name(), "threads": threads, "input": list(shape), "rows": rows}


def _untrained(target: str | Path, resolution: Size) -> Model:
    arch = load_architecture(str(target), resolution, 3)
    return Model(build(arch, CLASSES).eval(), arch, tuple(map(str, range(CLASSES))), str(target))
