"""`mnas export` and `mnas benchmark` of a network with a head: its files, compared with PyTorch and timed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnas.commands.benchmark import BENCHMARK_FILE, BenchmarkOptions
from mnas.commands.dense import data_of, named
from mnas.commands.export import ExportOptions
from mnas.data.dense.samples import DenseSplit
from mnas.errors import BadInput, nearest
from mnas.export.dense import DenseModel, load_dense
from mnas.export.dense_files import FORMATS, Checked, write_files
from mnas.export.folder import METRICS_FILE
from mnas.export.formats import format_names
from mnas.export.heads import FORMS
from mnas.export.onnx import require_exporters
from mnas.export.pytorch import MODEL_FILE
from mnas.io.files import read_json, write_json
from mnas.latency.model_files import timed_rows
from mnas.latency.timing.device import device_name

log = logging.getLogger("mnas")


def export(folder: Path, options: ExportOptions) -> dict[str, Any]:
    """Write a network's files again, or in another folder, each compared with PyTorch on validation images and timed.

    Raises BadInput for formats and options that networks with a head do not have, and MnasError where a file computes
    something else.
    """
    formats = known_formats(options.formats, options.precisions)
    for option, stated in (
        ("--opset", options.opset is not None), ("--check", bool(options.check)),
        ("--embed-preprocessing", options.pixels),
    ):  # fmt: skip
        if stated:
            raise BadInput(f"{option}: for classification alone; {folder} has a network with a head")
    require_exporters()
    model = load_dense(folder)
    output = _output(folder, options.output, model, formats)
    split = split_of(folder, model)
    with tempfile.TemporaryDirectory(dir=output, prefix=".export-") as temporary:
        files = write_files(Path(temporary), model, formats, split, title=title_of(folder))
        files = [_moved(one, output) for one in files]
    rows = timed_rows(files, model.architecture.input_shape(1))
    return {
        "folder": str(output), "files": [name for row in rows for name in row["files"]], "exports": rows, "checked": [],
        "images": files[0].images, "device": device_name(),
    }  # fmt: skip


def benchmark(folder: Path, options: BenchmarkOptions) -> dict[str, Any]:
    """The table of a network's files, made anew: size, latency, agreement with PyTorch; also as benchmark.json."""
    formats = known_formats(options.formats, options.precisions)
    require_exporters()
    model = load_dense(folder)
    with tempfile.TemporaryDirectory() as temporary:
        files = write_files(Path(temporary), model, formats, split_of(folder, model), title=title_of(folder))
        shape = model.architecture.input_shape(1)
        rows = named(timed_rows(files, shape, threads=options.threads, seed=options.seed))
    table = {
        "network": title_of(folder), "device": device_name(), "threads": options.threads, "input": list(shape),
        "rows": rows, "images": files[0].images,
    }  # fmt: skip
    write_json(folder / BENCHMARK_FILE, table)
    return table


def known_formats(formats: Sequence[str], precisions: Sequence[str]) -> list[str]:
    """The formats by name; `all` stands for every one that networks with a head have. Raises BadInput."""
    names = list(FORMATS) if list(formats) == ["all"] else list(dict.fromkeys(formats))
    for name in names:
        if name not in format_names():
            raise BadInput(f"unknown format '{name}'{nearest(name, [*FORMATS, 'all'])}")
        if name not in FORMATS:
            raise BadInput(f"--format {name}: not for networks with a head; expected {', '.join(FORMATS)}")
    for precision in precisions:
        if precision != "fp32":
            raise BadInput(f"--precision {precision}: not for networks with a head; expected fp32")
    return names


def split_of(folder: Path, model: DenseModel) -> DenseSplit[Any] | None:
    """The search-validation images of a network's training; None, with a warning, where they are gone."""
    try:
        return data_of(model, read_json(folder / METRICS_FILE, "data")["data"]).val
    except BadInput as error:
        log.warning("the data of the training cannot be read: %s", error)
        return None


def title_of(folder: Path) -> str:
    """What a network is called."""
    metrics = folder / METRICS_FILE
    return str(read_json(metrics, "title")["title"]) if metrics.exists() else folder.name


def _output(folder: Path, output: Path | None, model: DenseModel, formats: Sequence[str]) -> Path:
    """The folder to write to. Raises BadInput."""
    if output is None:
        return folder
    if output.suffix in (".onnx", ".py") or (output.exists() and not output.is_dir()):
        raise BadInput(f"{output}: expected a folder, since a network with a head has several files")
    names = [MODEL_FILE] * ("pytorch" in formats) + [*FORMS[model.task].onnx.values()] * ("onnx" in formats)
    for name in names:
        if (output / name).exists():
            raise BadInput(f"{output / name}: exists; name another folder with -o")
    output.mkdir(parents=True, exist_ok=True)
    return output


def _moved(one: Checked, folder: Path) -> Checked:
    for path in one.files():
        path.replace(folder / path.name)
    return one._replace(path=folder / one.path.name)
