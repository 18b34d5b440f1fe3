"""The files of a trained network with a head: model.py, ONNX, a picture of predictions; each compared with PyTorch."""

from __future__ import annotations

import copy
import importlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mnas.data.augment import normalise
from mnas.data.dense.samples import DenseData, DenseSplit
from mnas.data.images import BrokenImage
from mnas.errors import MnasError
from mnas.export.checks import check_tensor, plain_copy
from mnas.export.dense import DenseModel, write_dense, write_weights
from mnas.export.dense_source import dense_source
from mnas.export.folder import PICTURE_FILE
from mnas.export.heads import FORMS
from mnas.export.heads.form import Form, Likeness, Outputs
from mnas.export.onnx import TOLERANCE as ONNX_TOLERANCE
from mnas.export.preprocessing import PREPROCESSING_FILE, write_preprocessing
from mnas.export.pytorch import MODEL_FILE, TOLERANCE, WEIGHTS_FILE, network_in
from mnas.io.files import write_atomic
from mnas.io.size import Size, sides, sized
from mnas.monitor.overlays import table_of

log = logging.getLogger("mnas")

FORMATS = ("pytorch", "onnx")
"""In which networks with a head are written."""
CHECKED = 8
"""Images on which each file is compared."""
ALIKE = 0.99
"""The part of the boxes in which a file's answers must agree with those that its raw outputs lead to: where overlaps
are close to the threshold, rounding decides."""
PICTURED, SIDE = 6, 220
"""Images in the picture, and the longer side of each in pixels."""


class Checked(NamedTuple):
    """A file that was written, and how it compares with PyTorch."""

    name: str
    """pytorch, onnx, or onnx_raw without suppression."""
    path: Path
    likeness: Likeness
    images: int
    """On which it was compared; 0 stands for random ones."""

    def files(self) -> list[Path]:
        """The file, and those that go with it."""
        weights = self.path.with_name(WEIGHTS_FILE)
        beside = [weights, Path(f"{weights}.sha256")] if self.path.name == MODEL_FILE else []
        return [self.path, *beside]

    def row(self) -> dict[str, Any]:
        """As tables of files have it: see docs/formats.md."""
        files = self.files()
        return {
            "format": self.name, "precision": "fp32", "input": "images", "status": "ok",
            "files": [str(one) for one in files], "bytes": sum(one.stat().st_size for one in files),
            "agreement": self.likeness.agreement, "largest_difference": self.likeness.difference,
        }  # fmt: skip


class HandedOver(NamedTuple):
    """What was written."""

    files: list[Checked]
    picture: Image.Image | None
    """Of predictions."""


def hand_over(folder: str | Path, model: DenseModel, data: DenseData[Any] | None, *, title: str) -> HandedOver:
    """Write all files of a trained network with a head: weights, model.py, ONNX, preprocessing.json, predictions.png.

    `data`: those of its training; files are compared on their search-validation images, the picture shows test images.
    None stands for random images, and no picture. Raises MnasError where a file computes something else.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_dense(folder, model)
    output = FORMS[model.task].output
    size, reading = model.architecture.resolution, model.reading
    write_preprocessing(folder / PREPROCESSING_FILE, size, model.classes, reading, output)
    files = write_files(folder, model, FORMATS, None if data is None else data.val, title=title)
    return HandedOver(files, None if data is None else write_picture(folder / PICTURE_FILE, model, data.test))


def write_files(
    folder: Path, model: DenseModel, formats: Sequence[str], split: DenseSplit[Any] | None, *, title: str
) -> list[Checked]:
    """Write the network in formats of FORMATS, each compared on images of the split, or on random ones."""
    form = FORMS[model.task]
    images = _random(model) if split is None else seen(split, model, CHECKED)
    if not len(images):
        images, split = _random(model), None
    judge = _Judge(form, plain_copy(model.network), images, 0 if split is None else len(images))
    files = list[Checked]()
    if "pytorch" in formats:
        files.append(_write_pytorch(folder / MODEL_FILE, model, judge, title))
    if "onnx" in formats:
        files += _write_onnx(folder, model, judge)
    return files


class _Judge:
    """What PyTorch gives for some images."""

    def __init__(self, form: Form, network: nn.Module, images: Tensor, real: int):
        self.form, self.network, self.images, self.real = form, network, images, real
        exact = copy.deepcopy(network).double()
        with torch.inference_mode():
            self.raw = [form.raw(network, one[None]) for one in images]
            self.exact = [form.raw(exact, one[None].double()) for one in images]
            self.finished = [form.finished(one) for one in self.raw]

    def check_raw(self, own: Sequence[Outputs], tolerance: float, source: str) -> float:
        """The largest difference of continuous outputs. Raises MnasError where it is too large."""
        return max(
            check_tensor(*three, tolerance, source)
            for outputs in zip(own, self.raw, self.exact, strict=True) for three in zip(*outputs, strict=True)
        )  # fmt: skip

    def likeness(self, own: Sequence[Outputs]) -> Likeness:
        return mean_likeness(self.form, own, self.finished)


def mean_likeness(form: Form, own: Sequence[Outputs], expected: Sequence[Outputs]) -> Likeness:
    """The mean agreement over images, and the largest difference."""
    every = [form.likeness(*pair) for pair in zip(own, expected, strict=True)]
    return Likeness(sum(one.agreement for one in every) / len(every), max(one.difference for one in every))


def _write_pytorch(path: Path, model: DenseModel, judge: _Judge, title: str) -> Checked:
    """model.py, and the weights beside it."""
    write_weights(path.parent, model.network)
    source = dense_source(
        model.architecture, model.head, judge.form.source[model.head.name], model.classes, title=title,
        reading=model.reading,
    )  # fmt: skip
    network = network_in(path, source)
    with torch.inference_mode():
        own = [judge.form.raw(network, one[None]) for one in judge.images]
        judge.check_raw(own, TOLERANCE, str(path))
        write_atomic(path, source)
        return Checked("pytorch", path, judge.likeness([judge.form.finished(one) for one in own]), judge.real)


def _write_onnx(folder: Path, model: DenseModel, judge: _Judge) -> list[Checked]:
    """The ONNX files: the first one compares as it is, the last one with what its own raw outputs lead to."""
    form, size = judge.form, model.architecture.resolution
    contents = {name: form.model(name, judge.network, size) for name in form.onnx}
    outputs = [_outputs(one, judge.images) for one in contents.values()]
    paths = {name: folder / file for name, file in form.onnx.items()}
    raw = judge.check_raw(outputs[0], ONNX_TOLERANCE, str(next(iter(paths.values()))))
    witness = form.witness(judge.network, size)
    if witness is not None:
        _check_last(form, len(outputs[-1][0]), _outputs(witness, judge.images), [*paths.values()][-1])
    follows = [form.finished(one) for one in outputs[0]]
    likenesses = [judge.likeness(follows)._replace(difference=raw), judge.likeness(outputs[-1])]
    for name, path in paths.items():
        write_atomic(path, contents[name])
    pairs = zip(paths.items(), likenesses[-len(paths) :], strict=True)
    return [Checked(name, path, likeness, judge.real) for (name, path), likeness in pairs]


def _check_last(form: Form, own: int, seen: Sequence[Outputs], path: Path) -> None:
    """Compare the `own` first outputs of a witness with what the others, its raw ones, lead to. Raises MnasError."""
    clear = [one for one in seen if form.decided(one[own:])]
    if not clear:
        log.warning("%s: what it finds cannot be compared: in a hardly trained network scores are equal", path)
        return
    alike = mean_likeness(form, [one[:own] for one in clear], [form.finished(one[own:]) for one in clear])
    if alike.agreement < ALIKE:
        raise MnasError(
            f"{path}: agrees in {alike.agreement:.1%} with what its raw outputs lead to; do not use it, and report "
            "this with architecture.yaml"
        )


def _outputs(content: bytes, images: Tensor) -> list[Outputs]:
    """What an ONNX file gives for images, one by one."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only; warnings would go to stderr
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [run_session(session, one[None]) for one in images]


def run_session(session: Any, x: Tensor) -> Outputs:
    """What an onnxruntime session gives for an image (1, c, h, w)."""
    given = {session.get_inputs()[0].name: np.ascontiguousarray(x.numpy())}
    return tuple(map(torch.from_numpy, session.run(None, given)))


# --- images


def seen(split: DenseSplit[Any], model: DenseModel, most: int) -> Tensor:
    """At most so many images of a split, as the network's input (n, c, h, w), float32."""
    size, found = model.architecture.resolution, list[Tensor]()
    for row in _spread(len(split), most):
        try:
            found.append(network_input(split.read(row, size).image, model))
        except BrokenImage as error:
            split.broken.add(split.path(row), str(error))
    return torch.cat(found) if found else torch.zeros(0)


def network_input(pixels: Any, model: DenseModel) -> Tensor:
    """RGB pixels uint8 (h, w, 3) of the network's size as its input (1, c, h, w)."""
    raw = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
    return normalise(raw, model.architecture.resolution)[:, : model.architecture.channels].contiguous()


def _random(model: DenseModel) -> Tensor:
    log.warning("files are compared on random images, since there are no others")
    return torch.randn(model.architecture.input_shape(CHECKED), generator=torch.Generator().manual_seed(0))


def _spread(count: int, most: int) -> list[int]:
    """At most so many rows, evenly over all."""
    return sorted({int(row) for row in np.linspace(0, count - 1, min(count, most))}) if count else []


# --- a picture of predictions


def write_picture(path: Path, model: DenseModel, split: DenseSplit[Any]) -> Image.Image | None:
    """Write `predictions_picture` as a PNG, and return it."""
    image, content = predictions_picture(model, split), io.BytesIO()
    if image is not None:
        image.save(content, "png")
        write_atomic(path, content.getvalue())
    return image


def predictions_picture(model: DenseModel, split: DenseSplit[Any]) -> Image.Image | None:
    """Some images of a split, beside the truth and the prediction; None where none of them can be read."""
    form, network, size = FORMS[model.task], plain_copy(model.network), model.architecture.resolution
    rows = []
    for row in _spread(len(split), PICTURED):
        try:
            truth = split.truth(row)
            shown = _shown_size(truth.height, truth.width)
            sample, x = split.read(row, shown), network_input(split.read(row, size).image, model)
        except BrokenImage as error:
            split.broken.add(split.path(row), str(error))
            continue
        with torch.inference_mode():
            answer = form.answer(form.finished(form.raw(network, x)), size, *sides(shown))
        image = Image.fromarray(sample.image)
        rows.append([image, *(form.drawn(image, one, model.classes) for one in (sample.target, answer))])
    first = model.head.num_classes - len(model.classes)
    legend = [(name, number) for number, name in enumerate(model.classes, start=first)]
    return table_of(rows, ("image", "truth", "prediction"), legend) if rows else None


def _shown_size(height: int, width: int) -> Size:
    scale = SIDE / max(height, width)
    return sized(max(1, round(scale * height)), max(1, round(scale * width)))
