"""`mnas predict` of a network with a head: the classes of pixels, or the objects, in image files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from mnas.commands.predict import unread
from mnas.data.dense.upright import header_of
from mnas.data.depth import warn_of_depth
from mnas.data.images import BrokenImage, BrokenImages, decode
from mnas.data.walk import named_images
from mnas.errors import BadInput
from mnas.export.dense import DenseModel, load_dense
from mnas.export.dense_files import network_input, run_session
from mnas.export.heads import FORMS
from mnas.export.heads.form import Outputs
from mnas.export.pytorch import WEIGHTS_FILE
from mnas.io.files import write_atomic
from mnas.io.size import sized, written
from mnas.latency.runtimes.files import naming
from mnas.monitor.console import progress
from mnas.training.device import pick_device

RUNTIMES = ("torch", "onnxruntime")
"""What runs networks with a head."""
ONNX_FILE = "model.onnx"


@dataclass(frozen=True)
class PredictOptions:
    """How images are predicted, and what is said and kept of it."""

    top: int | None = None
    """At most so many classes or boxes of an image."""
    least: float | None = None
    """The least share or probability (0..1) of what is said; by default of any share, and boxes of 0.3."""
    runtime: str | None = None
    file: Path | None = None
    """An ONNX file; by default that in the network's folder."""
    output: Path | None = None
    """A folder for a PNG of each image: its mask, or the image with its boxes."""
    device: str = "auto"
    max_broken: int | None = None


def predict(folder: Path, images: Sequence[str | Path], options: PredictOptions) -> dict[str, Any]:
    """What is in image files, and in those in folders, in each one's own pixels.

    Images that cannot be decoded are skipped, at most `max_broken` of them where that is stated. Raises BadInput where
    none is left.
    """
    if options.least is not None and not 0 <= options.least <= 1:
        raise BadInput(f"--least {options.least}: expected a part from 0 to 1")
    model, paths = load_dense(folder), named_images(images)
    form, by, size = FORMS[model.task], _predictor(folder, model, options), model.architecture.resolution
    output = _empty_folder(options.output)
    warn_of_depth(paths, model.reading)
    broken = BrokenImages(len(paths) if options.max_broken is None else options.max_broken)
    found, names = list[dict[str, Any]](), set[str]()
    with progress("predict", len(paths)) as shown, torch.inference_mode():
        for path in paths:
            try:
                header = header_of(path)
                outputs = by.outputs(network_input(decode(path, size, model.reading), model))
                answer = form.answer(outputs, size, header.height, header.width)
                row = {
                    "image": path, "height": header.height, "width": header.width,
                    "predictions": form.rows(answer, model.classes, options.least)[: options.top],
                }  # fmt: skip
                if output is not None:
                    pixels = decode(path, sized(header.height, header.width), model.reading)
                    picture = form.file(Image.fromarray(pixels), answer, model.classes, options.least)
                    row["file"] = _written(picture, output, Path(path).stem, names)
                found.append(row)
            except BrokenImage as error:
                broken.add(path, str(error))
            shown.update(len(found), len(paths), f"{len(found)} images")
    skipped = unread(broken, len(found), len(paths))
    return {
        "folder": str(folder), "task": model.task, "file": str(by.file), "runtime": by.runtime,
        "resolution": written(size), "images": found, "skipped": skipped,
    }  # fmt: skip


class _Predictor(NamedTuple):
    outputs: Callable[[Tensor], Outputs]
    """Of an image (1, c, h, w), as model.onnx gives them."""
    runtime: str
    file: Path


def _predictor(folder: Path, model: DenseModel, options: PredictOptions) -> _Predictor:
    """The network with the folder's weights, or an ONNX file. Raises BadInput."""
    runtime = options.runtime or ("torch" if options.file is None else "onnxruntime")
    if runtime not in RUNTIMES:
        raise BadInput(f"--runtime {runtime}: does not run networks with a head here; expected {', '.join(RUNTIMES)}")
    if runtime == "onnxruntime":
        return _exported(options.file or folder / ONNX_FILE, model)
    if options.file is not None:
        raise BadInput(f"--file {options.file}: PyTorch runs the folder's weights; leave out --file, or --runtime")
    form, device = FORMS[model.task], pick_device(options.device)
    network = model.network.to(device)
    return _Predictor(lambda x: form.finished(form.raw(network, x.to(device))), runtime, folder / WEIGHTS_FILE)


def _exported(path: Path, model: DenseModel) -> _Predictor:
    form = FORMS[model.task]
    with naming(path, "onnxruntime"):
        from mnas.latency.runtimes.onnx_session import session

        opened = session(str(path), 1)
        example = run_session(opened, torch.zeros(model.architecture.input_shape(1)))
    if form.of_file(example, model.head.num_classes) is None:
        raise BadInput(f"{path}: has other outputs than networks for {model.task} of {len(model.classes)} classes have")

    def outputs(x: Tensor) -> Outputs:
        given = form.of_file(run_session(opened, x), model.head.num_classes)
        assert given is not None
        return given

    return _Predictor(outputs, "onnxruntime", path)


def _empty_folder(output: Path | None) -> Path | None:
    if output is None:
        return None
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output}: exists and is not an empty folder; name another one with -o")
    output.mkdir(parents=True, exist_ok=True)
    return output


def _written(picture: Image.Image, folder: Path, stem: str, names: set[str]) -> str:
    """Write a PNG of a name that is not among `names`, and return its path."""
    name, number = stem, 1
    while name.lower() in names:
        number += 1
        name = f"{stem}_{number}"
    names.add(name.lower())
    content = io.BytesIO()
    picture.save(content, "png")
    write_atomic(folder / f"{name}.png", content.getvalue())
    return str(folder / f"{name}.png")
