"""`mnas export`: a trained network's files in several formats, each compared with PyTorch and timed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mnas.commands.artifacts import Evidence, Wanted, made, wanted_of
from mnas.commands.files_table import rows_of, time_files
from mnas.commands.models import trained_data
from mnas.data.sample import CALIBRATION, sample_images
from mnas.errors import BadInput, MnasError, nearest
from mnas.export.checks import check_runtime
from mnas.export.folder import METRICS_FILE, load_model, model_folder
from mnas.export.formats import EMBEDDED, FILES, PRECISIONS, Model, file_name, format_names, get_format
from mnas.export.onnx import check_opset, export_onnx
from mnas.export.preprocessing import PREPROCESSING_FILE, read_preprocessing
from mnas.io.files import read_json
from mnas.latency.runtimes import get_runtime
from mnas.latency.timing.device import device_name

log = logging.getLogger("mnas")

JUDGED = 1000
"""At most so many validation images are judged by each file."""
FEW = 32
"""With fewer calibration images, ranges are likely to be too narrow."""


@dataclass(frozen=True)
class ExportOptions:
    """Which files of a network are written."""

    formats: Sequence[str] = ("onnx",)
    precisions: Sequence[str] = ("fp32",)
    output: Path | None = None
    """A folder, or, of a single format, a file; by default the network's folder."""
    opset: int | None = None
    check: Sequence[str] = ()
    """Runtimes that run the .onnx file too."""
    pixels: bool = False
    """Whether files that take pixels, and normalise them, are written beside the plain ones."""


def export(target: str | Path, options: ExportOptions) -> dict[str, Any]:
    """Write a trained network's files, each compared with PyTorch on validation images and timed beside the others.

    Raises BadInput for unknown names, and MnasError where a format that was named could not be written; of all formats,
    those that could not say so in their rows.
    """
    names, precisions = known_formats(options.formats), known_precisions(options.precisions)
    if "onnx" not in names and (options.opset is not None or options.check):
        raise BadInput(f"--format {','.join(names)}: --opset and --check are for ONNX files")
    if options.pixels and not set(names) & set(EMBEDDED):
        raise BadInput(f"--embed-preprocessing: expected --format {', '.join(EMBEDDED)}; got {', '.join(names)}")
    runtimes = [get_runtime(name) for name in options.check]
    for runtime in runtimes:
        if runtime.suffix != ".onnx":
            raise BadInput(f"--check {runtime.name}: does not run .onnx files")
    if options.opset is not None:
        check_opset(options.opset)
    folder = model_folder(Path(target))
    stated = list(options.formats) != ["all"]
    for name in names if stated else ():
        get_format(name)  # a package that is missing is said before any work
    output, renamed = _output(folder, options, names, precisions)
    model = trained_model(folder)
    evidence = evidence_of(folder, model)
    with tempfile.TemporaryDirectory(dir=output, prefix=".export-") as temporary:
        wanted = wanted_of(names, precisions, options.pixels)
        artifacts, expected = made(model, wanted, evidence, Path(temporary))
        failed = [one for one in artifacts if not one.ok]
        if failed and (stated or failed == artifacts):
            raise MnasError("; ".join(f"{one.wanted.format} {one.wanted.precision}: {one.status}" for one in failed))
        if options.opset is not None:
            export_onnx(model.network, model.size, Path(temporary) / "model.onnx", options.opset)
        for one in artifacts:
            one.files = [_moved(path, output, renamed) for path in one.files] if one.ok else []
    time_files(artifacts, model.input_shape(), threads=1, seed=0)
    rows = rows_of(artifacts, expected)
    checked = [
        check_runtime(model.network, one.files[0], model.size, runtime)
        for one in artifacts if one.wanted == Wanted("onnx", "fp32") for runtime in runtimes
    ]  # fmt: skip
    return {
        "folder": str(output), "files": [str(path) for one in artifacts for path in one.files], "exports": rows,
        "checked": checked, "images": len(evidence.images) if evidence.real else 0, "device": device_name(),
    }  # fmt: skip


def _moved(path: Path, folder: Path, renamed: str | None) -> Path:
    target = folder / (path.name if renamed is None else renamed)
    path.replace(target)
    return target


def _output(
    folder: Path, options: ExportOptions, names: Sequence[str], precisions: Sequence[str]
) -> tuple[Path, str | None]:
    """The folder to write to, and the file's name where `options.output` is that of a file. Raises BadInput."""
    output = options.output
    if output is None:
        return folder, None
    if output.exists() and not output.is_dir():
        raise BadInput(f"{output}: exists; name another file with -o")
    files = [FILES[name] for name in names]
    if not options.pixels and len(files) == len(precisions) == 1 and Path(files[0]).suffix == output.suffix != ".py":
        output.parent.mkdir(parents=True, exist_ok=True)
        return output.parent, output.name
    for one in wanted_of(names, precisions, options.pixels):
        path = output / file_name(*one)
        if path.exists():
            raise BadInput(f"{path}: exists; name another folder with -o")
    output.mkdir(parents=True, exist_ok=True)
    return output, None


def known_formats(formats: Sequence[str]) -> list[str]:
    """The formats by name, each once; `all` stands for every one. Raises BadInput."""
    names = format_names() if list(formats) == ["all"] else list(dict.fromkeys(formats))
    for name in names:
        if name not in format_names():
            raise BadInput(f"unknown format '{name}'{nearest(name, [*format_names(), 'all'])}")
    return names


def known_precisions(precisions: Sequence[str]) -> list[str]:
    """The precisions in their order. Raises BadInput."""
    for precision in precisions:
        if precision not in PRECISIONS:
            raise BadInput(f"--precision {precision}{nearest(precision, PRECISIONS)}")
    return [precision for precision in PRECISIONS if precision in precisions]


def trained_model(folder: Path) -> Model:
    """The network of a trained folder, for export."""
    network, arch = load_model(folder)
    steps, metrics = read_preprocessing(folder / PREPROCESSING_FILE), folder / METRICS_FILE
    title = read_json(metrics, "title")["title"] if metrics.exists() else folder.name
    return Model(network, replace(arch, resolution=steps.size), steps.classes, title, steps.reading)


# --- images


def evidence_of(folder: Path, model: Model) -> Evidence:
    """Validation and training images of a trained folder; random ones, with a warning, where its data are gone."""
    try:
        data = trained_data(folder)
    except BadInput as error:
        log.warning("files are compared on random images, and no accuracy is given: %s", error)
        return random_evidence(model)
    if len(data.train) < FEW:
        log.warning(
            "%d training images give the ranges of int8: likely too narrow; %d are usual", len(data.train), CALIBRATION
        )
    images, labels = sample_images(data.val, JUDGED, model.size)
    return Evidence(images, labels, sample_images(data.train, CALIBRATION, model.size)[0])


def random_evidence(model: Model) -> Evidence:
    """Random images without labels."""
    generator, shape = torch.Generator().manual_seed(0), model.input_shape()[1:]
    return Evidence(
        torch.randn(8, *shape, generator=generator), None, torch.randn(FEW, *shape, generator=generator)
    )
