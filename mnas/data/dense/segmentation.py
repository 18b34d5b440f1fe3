"""Images with masks: folders of both (`images` and `masks`), and Pascal VOC's layout."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from mnas.data.dense.classes import named_classes
from mnas.data.dense.folders import Home, Pair, by_stem, files_below, homes_of, is_below, pairs, unpacked
from mnas.data.dense.geometry import mask_fitted
from mnas.data.dense.masks import classes_in, read_mask
from mnas.data.dense.samples import IGNORE_INDEX, Look, Sample, Truth
from mnas.data.dense.upright import header_of
from mnas.data.images import BrokenImages, decode, fitted, log, placed
from mnas.data.reading import Reading
from mnas.data.walk import listed
from mnas.errors import BadInput
from mnas.io.size import Size
from mnas.io.strict_yaml import read_text

VOC_FOLDERS = ("JPEGImages", "SegmentationClass")
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC_NAME = re.compile(r"VOC20\d\d")
"""Of the folders of Pascal VOC itself, whose classes are known."""
VOC_LISTS = {"train": ("train", "trainval"), "val": ("val",), "test": ("test",)}
"""Split -> the lists in ImageSets/Segmentation that name its images, the first that there is."""
LONGEST_LIST_BYTES = 50_000_000
EXPECTED = (
    "expected images/ and masks/ with files of equal names, alone or in train/, val/ and test/, or Pascal VOC's "
    "JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/"
)


@dataclass(frozen=True)
class SegmentationSplit:
    """Image files with mask files."""

    files: Sequence[Pair]
    broken: BrokenImages
    reading: Reading
    ignore_index: int = IGNORE_INDEX
    num_classes: int | None = None
    """Masks have indices below; None: any."""

    def __len__(self) -> int:
        return len(self.files)

    def path(self, row: int) -> str:
        return self.files[row].image

    def subset(self, rows: Sequence[int]) -> SegmentationSplit:
        return replace(self, files=[self.files[row] for row in rows])

    def look(self, row: int) -> Look:
        """The classes in a mask that fits its image. Raises BrokenImage; BadInput for a mask of colours."""
        image, mask = self.files[row]
        indices = read_mask(mask, header_of(image), self.reading.max_pixels)
        return Look(classes_in(indices, self.ignore_index, self.num_classes), Counter())

    def read(self, row: int, size: Size) -> Sample[Tensor]:
        """RGB pixels and mask int32 (h, w) at `size`. Raises BrokenImage; BadInput for a mask of colours."""
        image, mask = self.files[row]
        header = header_of(image)
        indices = read_mask(mask, header, self.reading.max_pixels)
        classes_in(indices, self.ignore_index, self.num_classes)
        place = placed(header.width, header.height, size, self.reading)
        pixels = decode(image, size, self.reading)
        return Sample(pixels, mask_fitted(torch.from_numpy(indices), place, size, self.ignore_index))

    def truth(self, row: int) -> Truth[Tensor]:
        """The mask int32 (height, width) as it was drawn. Raises BrokenImage."""
        image, mask = self.files[row]
        header = header_of(image)
        indices = read_mask(mask, header, self.reading.max_pixels)
        return Truth(header.height, header.width, torch.from_numpy(indices))

    def fit(self, sample: Sample[Tensor], size: Size) -> Sample[Tensor]:
        return masked_resized(sample, size, self.reading, self.ignore_index)


def masked_resized(sample: Sample[Tensor], size: Size, reading: Reading, ignore_index: int) -> Sample[Tensor]:
    """A sample fitted into another size."""
    height, width = sample.image.shape[:2]
    place = placed(width, height, size, reading)
    pixels = fitted(Image.fromarray(sample.image), size, reading)
    return Sample(pixels, mask_fitted(sample.target, place, size, ignore_index))



def open_segmentation(
    root: Path, broken: BrokenImages, reading: Reading, ignore_index: int
) -> tuple[dict[str, SegmentationSplit], tuple[str, ...] | None]:
    """The splits of a folder of images and masks, and the names of classes where it has them. Raises BadInput."""
    root = unpacked(root, "images", "masks", *VOC_FOLDERS)
    voc = all((root / name).is_dir() for name in VOC_FOLDERS)
    found = _voc(root, broken) if voc else _folders(root, broken)
    splits = {kind: SegmentationSplit(files, broken, reading, ignore_index) for kind, files in found.items()}
    names = named_classes(root / "classes.txt")
    if names is None and voc and VOC_NAME.fullmatch(root.resolve().name):
        names = VOC_CLASSES
    return splits, names


def _folders(root: Path, broken: BrokenImages) -> dict[str, list[Pair]]:
    homes = homes_of(root, "masks")
    if not homes:
        inside = ", ".join(listed(root).folders[:5]) or "no folders"
        raise BadInput(f"{root} has {inside}; {EXPECTED}")
    return {kind: pairs(home, ".png", broken) for kind, home in homes.items()}


def _voc(root: Path, broken: BrokenImages) -> dict[str, list[Pair]]:
    """The images that the lists name; all that have a mask, as `train`, where there are no lists."""
    home = Home(root / VOC_FOLDERS[0], root / VOC_FOLDERS[1])
    lists = root / "ImageSets" / "Segmentation"
    texts = {kind: next((lists / f"{name}.txt" for name in names if (lists / f"{name}.txt").exists()), None)
             for kind, names in VOC_LISTS.items()}  # fmt: skip
    if texts["train"] is None:
        if lists.is_dir():
            raise BadInput(f"{lists}: has no train.txt or trainval.txt; expected a list of the training images")
        return {"train": pairs(home, ".png", broken)}
    if texts["train"].stem == "trainval":
        texts["val"] = None  # its images are among them
    images = by_stem(home.images, files_below(home.images), broken)
    if texts["test"] is not None and not any((home.targets / f"{name}.png").exists() for name in _names(texts["test"])):
        log.warning("left out %s: its images have no masks", texts["test"])
        texts["test"] = None
    return {kind: _listed(path, home, images, broken) for kind, path in texts.items() if path is not None}


def _names(path: Path) -> list[str]:
    return list(dict.fromkeys(read_text(path, LONGEST_LIST_BYTES).split()))


def _listed(path: Path, home: Home, images: dict[str, str], broken: BrokenImages) -> list[Pair]:
    found = []
    for name in _names(path):
        mask = home.targets / f"{name}.png"
        if not is_below(mask, home.targets):
            raise BadInput(f"{path}: {name} is outside the folder {home.targets}; expected names of files in it")
        if name not in images:
            broken.add(home.images / name, f"named in {path.name}, but there is no such image")
        elif not os.path.isfile(mask):
            broken.add(images[name], f"there is no {mask}")
        else:
            found.append(Pair(images[name], str(mask)))
    if not found:
        raise BadInput(f"{path}: none of the images that it names is in {home.images}, with a mask in {home.targets}")
    return found
