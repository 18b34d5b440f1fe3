"""An .npz file in MedMNIST's convention: train_images, train_labels, optional val_*, test_*, class_names."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnas.data.deep import in_8_bits, range_of
from mnas.data.depth import told
from mnas.data.reading import AS_USUAL, Reading
from mnas.data.splits import ArraySplit, SourceSplits
from mnas.errors import BadInput

CONVENTION = "expected MedMNIST's keys: train_images, train_labels, optional val_* and test_*"


class Header(NamedTuple):
    """The shape and dtype of an array, as its header states them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def open_npz(path: str | Path, reading: Reading = AS_USUAL) -> SourceSplits[ArraySplit]:
    """Open a file by its headers and labels; images are read on first use, unless they have more than 8 bits.

    Raises BadInput.
    """
    path = Path(path)
    headers = _headers(path)
    for key in ("train_images", "train_labels"):
        if key not in headers:
            raise BadInput(f"{path} has no '{key}', only {', '.join(sorted(headers)) or 'no arrays'}; {CONVENTION}.")
    kinds = [kind for kind in ("train", "val", "test") if {f"{kind}_images", f"{kind}_labels"} & headers.keys()]
    labels = {kind: _labels(path, kind, headers) for kind in kinds}
    classes = _classes(path, headers, labels)
    shape, dtype = headers["train_images"].shape[1:], headers["train_images"].dtype
    if dtype != np.uint8 and reading.value_range is None:
        value_range = range_of(_read(path, "train_images"))
        reading = replace(reading, value_range=value_range)
        told(f"{path}: images of {dtype}", value_range)
    splits: dict[str, ArraySplit] = {}
    for kind in kinds:
        if headers[f"{kind}_images"].shape[1:] != shape:
            raise BadInput(
                f"{path}: {kind}_images are {headers[f'{kind}_images'].shape[1:]} and train_images {shape}; "
                "expected one size and number of channels for all images."
            )
        images = partial(_images, path, f"{kind}_images", reading)
        splits[kind] = ArraySplit(images, labels[kind], reading=reading)
    return SourceSplits(classes, splits["train"], splits.get("val"), splits.get("test"))


def npz_splits(path: Path, reading: Reading) -> tuple[dict[str, ArraySplit], tuple[str, ...]]:
    """The splits that a file has, of which none need be there, and the names of its classes, if it has them.

    Raises BadInput.
    """
    headers = _headers(path)
    kinds = [kind for kind in ("train", "val", "test") if {f"{kind}_images", f"{kind}_labels"} & headers.keys()]
    if not kinds:
        raise BadInput(f"{path} has no images, only {', '.join(sorted(headers)) or 'no arrays'}; {CONVENTION}.")
    splits = {
        kind: ArraySplit(
            partial(_images, path, f"{kind}_images", reading), _labels(path, kind, headers), reading=reading
        )
        for kind in kinds
    }
    names = _read(path, "class_names").tolist() if "class_names" in headers else []
    return splits, tuple(map(_text, names))


def _headers(path: Path) -> dict[str, Header]:
    """The header of each array, without decompressing the array."""
    if not path.is_file():
        raise BadInput(f"{path} is not a regular file; expected an .npz that numpy.savez_compressed wrote.")
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns about headers that Python 2 wrote
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    continue
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(file)
                    size = file.tell() + math.prod(shape) * dtype.itemsize
                    if min(shape, default=0) < 0 or not (dtype.hasobject or size == member.file_size):
                        raise ValueError(f"the size of {member.filename} is not that of its header, {dtype} {shape}")
                    headers[member.filename.removesuffix(".npy")] = Header(shape, dtype)
    except (zipfile.BadZipFile, ValueError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path} is not a valid .npz ({error}); write it with numpy.savez_compressed.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}).") from error
    for key, header in headers.items():
        if header.dtype.hasobject and (key.endswith(("_images", "_labels")) or key == "class_names"):
            raise BadInput(
                f"{path}: '{key}' is an object array, which could run code when it is unpickled; "
                "expected uint8 images, integer labels, text class names."
            )
    return headers


def _read(path: Path, key: str) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[key]
            return array
    except MemoryError as error:
        raise BadInput(f"{path}: '{key}' does not fit in memory ({error}); use fewer or smaller images.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, OSError) as error:
        raise BadInput(f"{path}: '{key}' cannot be read ({error}); the file is damaged, replace it.") from error


def _images(path: Path, key: str, reading: Reading) -> NDArray[np.uint8]:
    values = _read(path, key)
    if values.dtype == np.uint8:
        return values
    if reading.value_range is None:
        raise BadInput(f"{path}: {key} are {values.dtype}; the network was trained on images of 8 bits: expected uint8")
    return in_8_bits(values, reading.value_range)


def _labels(path: Path, kind: str, headers: dict[str, Header]) -> NDArray[np.int64]:
    """The labels of one split, once its headers are checked."""
    for key in (f"{kind}_images", f"{kind}_labels"):
        if key not in headers:
            raise BadInput(f"{path} has no '{key}' beside the other {kind}_* array; {CONVENTION}.")
    shape, dtype = headers[f"{kind}_images"]
    if dtype.kind not in "uif":
        raise BadInput(f"{path}: {kind}_images are {dtype}; expected uint8 in 0..255, or other numbers.")
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4))) or 0 in shape:
        raise BadInput(
            f"{path}: {kind}_images have the shape {shape}; expected (images, height, width) or "
            "(images, height, width, channels) with 1, 3 or 4 channels, and no dimension 0."
        )
    labels_shape, labels_dtype = headers[f"{kind}_labels"]
    if len(labels_shape) == 2 and labels_shape[0] == shape[0] and labels_shape[1] > 1:
        one_hot = _read(path, f"{kind}_labels")
        if not (np.isin(one_hot, (0, 1)).all() and (one_hot.sum(1) == 1).all()):
            raise BadInput(
                f"{path}: {kind}_labels have the shape {labels_shape}, several labels for each image; expected a class "
                "index for each image, or a one-hot row: multi-label data is not supported."
            )
        return one_hot.argmax(1).astype(np.int64)
    if labels_shape not in ((shape[0],), (shape[0], 1)):
        raise BadInput(
            f"{path}: {kind}_labels have the shape {labels_shape} for {shape[0]} images; expected ({shape[0]},)."
        )
    if labels_dtype.kind not in "iu":
        raise BadInput(f"{path}: {kind}_labels are {labels_dtype}; expected integers from 0, one for each class.")
    return _read(path, f"{kind}_labels").reshape(-1).astype(np.int64)


def _classes(
    path: Path, headers: dict[str, Header], labels: dict[str, NDArray[np.int64]]
) -> tuple[str, ...]:
    """The class names, once the labels of all splits are checked."""
    train = labels["train"]
    for kind, values in labels.items():
        if values.min() < 0:
            raise BadInput(f"{path}: {kind}_labels has {values.min()}; expected class indices from 0.")
        unknown = np.setdiff1d(values, train)
        if len(unknown):
            raise BadInput(
                f"{path}: {kind}_labels has classes that train_labels lacks: {', '.join(map(str, unknown[:5]))}; "
                "add training images of these classes, or remove their images."
            )
    present = np.unique(train)
    if len(present) == 1:
        raise BadInput(f"{path}: train_labels has only one class, {present[0]}; expected at least two.")
    classes = tuple(map(str, range(int(present[-1]) + 1))) if len(present) == present[-1] + 1 else ()
    if not classes:
        gap = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise BadInput(f"{path}: no image of train_labels has class {gap}; number the classes from 0 without gaps.")
    if "class_names" not in headers:
        return classes
    shape, dtype = headers["class_names"]
    if shape != (len(classes),) or dtype.kind not in "US":
        raise BadInput(
            f"{path}: class_names is {dtype} {shape}; expected text for each of {len(classes)} classes."
        )
    names = _read(path, "class_names")
    return tuple(map(_text, names.tolist()))


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
