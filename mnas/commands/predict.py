"""`mnas predict`: the most probable classes of images, by a trained network or by one of its exported files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mnas.data.augment import normalise
from mnas.data.depth import warn_of_depth
from mnas.data.images import BrokenImages
from mnas.data.loader import batches
from mnas.data.splits import FolderSplit
from mnas.data.walk import named_images
from mnas.errors import BadInput, nearest
from mnas.export.folder import load_model, model_folder
from mnas.export.formats import stated_in
from mnas.export.pixels import as_pixels
from mnas.export.preprocessing import PREPROCESSING_FILE, Preprocessing, read_preprocessing
from mnas.export.pytorch import WEIGHTS_FILE
from mnas.io.files import write_atomic
from mnas.io.size import written
from mnas.latency.logits import FileLogits
from mnas.latency.runtimes import USUAL_RUNTIMES, get_runtime
from mnas.monitor.console import progress
from mnas.training.device import pick_device
from mnas.training.memory import judged_at_once

FILES = {
    "onnxruntime": ("model.onnx",), "litert": ("model.tflite",), "executorch": ("model.pte",),
    "openvino": ("model.xml", "model.onnx"), "torch": ("model.pt2",), "opencv": ("model.onnx",),
}  # fmt: skip
"""The files in a network's folder that each runtime runs."""
FORMATS = {".onnx": "onnx", ".tflite": "litert", ".pte": "executorch", ".xml": "openvino", ".pt2": "torch_export"}
"""What `mnas export` calls them."""
OF_A_FILE = 32
"""Images in a batch for an exported file, which may run them one by one."""


def predict(
    target: str | Path, images: str | Path | Sequence[str | Path], *, top: int = 5, runtime: str | None = None,
    file: str | Path | None = None, device: str = "auto", max_broken: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The `top` most probable classes of image files, and of those in folders, by a run's winner or a trained folder.

    By its weights in PyTorch, or by an exported file in `runtime`: `file`, or the one in the folder. Images that cannot
    be decoded are skipped, at most `max_broken` of them where that is stated. Raises BadInput where none is left.
    """
    if top < 1:
        raise BadInput(f"--top {top}: expected the number of classes that are shown, at least 1")
    folder = model_folder(target)
    steps = read_preprocessing(folder / PREPROCESSING_FILE)
    paths = named_images([images] if isinstance(images, str | Path) else images)
    if runtime is None and file is None:
        by = _weights(folder, steps, pick_device(device))
    else:
        by = _exported(folder, steps, runtime, file)
    warn_of_depth(paths, steps.reading)
    broken = BrokenImages(len(paths) if max_broken is None else max_broken)
    split = FolderSplit(paths, np.arange(len(paths)), broken, steps.reading)
    found: list[dict[str, Any]] = []
    workers = None if len(paths) > by.at_once else 0
    with progress("predict", len(paths)) as shown, torch.inference_mode():
        for raw, rows in batches(split, batch_size=by.at_once, size=steps.size, device=by.device, workers=workers):
            best = by.logits(normalise(raw, steps.size)).softmax(1).topk(min(top, len(steps.classes)), 1)
            for row, shares, labels in zip(rows.tolist(), best.values.tolist(), best.indices.tolist(), strict=True):
                ranked = [
                    {"class": steps.classes[label], "probability": share}
                    for label, share in zip(labels, shares, strict=True)
                ]
                found.append({"image": paths[row], "predictions": ranked})
            shown.update(len(found), len(paths), f"{len(found)} images")
    skipped = unread(broken, len(found), len(paths))
    return {
        "folder": str(folder), "file": str(by.file), "runtime": by.runtime, "resolution": written(steps.size),
        "images": found, "skipped": skipped,
    }  # fmt: skip


def unread(broken: BrokenImages, found: int, count: int) -> list[dict[str, str]]:
    """The images that could not be read, each with the reason. Raises BadInput where none of `count` was `found`."""
    skipped = [{"image": image, "reason": reason} for image, reason in broken.reasons.items()]
    if not found:
        none = "the image could not" if count == 1 else f"none of {count} images could"
        raise BadInput(f"{none} be read: {skipped[0]['image']} ({skipped[0]['reason']})")
    return skipped


class _Classifier(NamedTuple):
    logits: Callable[[Tensor], Tensor]
    """Logits (b, n) of normalised images (b, 3, h, w) on the device."""
    runtime: str
    file: Path
    device: torch.device
    at_once: int
    """Images in a batch."""


def _weights(folder: Path, steps: Preprocessing, device: torch.device) -> _Classifier:
    """The network with the folder's weights, as `mnas evaluate` runs it."""
    network, _ = load_model(folder, len(steps.classes))
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _Classifier(network, "torch", folder / WEIGHTS_FILE, device, judged_at_once(steps.size))


def _exported(folder: Path, steps: Preprocessing, runtime: str | None, file: str | Path | None) -> _Classifier:
    """An exported file: the one that is named, or the runtime's own in the folder. Raises BadInput."""
    if runtime is None:
        suffix = Path(file or "").suffix.lower()
        if suffix not in USUAL_RUNTIMES:
            raise BadInput(f"--file {file}: expected a file of {', '.join(USUAL_RUNTIMES)}; or name its --runtime")
        runtime = USUAL_RUNTIMES[suffix]
    if runtime not in FILES:
        raise BadInput(f"--runtime {runtime}{nearest(runtime, FILES)}")
    names = FILES[runtime]
    path = Path(file) if file is not None else next(
        (folder / name for name in names if (folder / name).exists()), folder / names[0]
    )  # fmt: skip
    adapter = get_runtime(runtime)
    if not path.exists():
        advice = "" if file is not None else f"; write it: mnas export {folder} --format {FORMATS[path.suffix]}"
        raise BadInput(f"{path}: not there{advice}")
    logits, channels = FileLogits(path, adapter, len(steps.classes)), steps.reading.channels
    _, pixels = stated_in(path)

    def of_images(images: Tensor) -> Tensor:
        given = images[:, :channels]
        return logits(as_pixels(given) if pixels else given)

    return _Classifier(of_images, runtime, path, torch.device("cpu"), OF_A_FILE)


def write_csv(path: str | Path, done: Mapping[str, Any]) -> None:
    """Write what `predict` gave as a table: a row for each image and class, the most probable class first."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "rank", "class", "probability"])
    for one in done["images"]:
        for rank, guess in enumerate(one["predictions"], start=1):
            rows.writerow([one["image"], rank, guess["class"], f"{guess['probability']:.6g}"])
    write_atomic(path, text.getvalue().encode("utf-8", "surrogateescape"))
