"""What each part of the training recipe gives: MobileNetV3-Small under the default recipe, and with one part changed.

    python benchmarks/recipe_parts.py --data digits fashion_mnist --images 1000 20000 --seeds 3
    python benchmarks/recipe_parts.py --data path/to/photos.npz --parts default mixup=0.2 trivial
    python benchmarks/recipe_parts.py --data fashion_mnist --images 500 --init weights --parts default lr=0.1

Networks are trained at 1.5 times the images' size, a multiple of 8 and at least 32 pixels. Accuracies are of the
search-validation split; the seconds include its evaluation after each epoch. Each row of the result file, named DATA,
IMAGES and PART, has the settings that made it; a row with the same settings is not trained again. Besides the names
in PARTS, `--parts` takes any KEY=VALUE of the recipe, or several with commas: ratio=1.5,crop=0.5.
"""

from __future__ import annotations

import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import cpu_trainer, options_parser, save_part, saved_parts
from numpy.typing import NDArray
from PIL import Image

import mnas
from mnas.config import Recipe, with_keys
from mnas.data.sources import load_data
from mnas.data.splits import ArraySplit, limited, stratified
from mnas.errors import BadInput
from mnas.nn.origin import Origin, read_origin
from mnas.training.full import FullTraining
from mnas.training.recipe import fine_tuning, lengthened

NETWORK = "mobilenet_v3_small"
VALIDATED = 5000
"""Validation images at most."""
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
DATA = {"digits": "digits", "fashion_mnist": FOLDER / "fashion_mnist.npz", "cifar10": FOLDER / "cifar10_jpeg.npz"}
PARTS = {
    "default": "",
    "no_ema": "ema=0.0", "ema_0.999": "ema=0.999",
    "no_label_smoothing": "label_smoothing=0.0", "label_smoothing_0.1": "label_smoothing=0.1",
    "no_crop": "crop=1.0", "crop_0.5": "crop=0.5", "ratio": "ratio=1.333", "crop_0.5_ratio": "crop=0.5,ratio=1.333",
    "trivial": "trivial_augment=true",
    "mixup": "mixup=0.2", "cutmix": "cutmix=1.0", "mixup_cutmix": "mixup=0.2,cutmix=1.0",
    "no_dropout": "dropout=0.0", "dropout_0.2": "dropout=0.2", "drop_path": "drop_path=0.1",
    "no_min_steps": "min_steps=0", "min_steps_1500": "min_steps=1500",
    "decay_0.0005": "weight_decay=0.0005", "lr_0.1": "lr=0.1",
    "trivial_ratio": "trivial_augment=true,ratio=1.333", "trivial_cutmix": "trivial_augment=true,cutmix=1.0",
}  # fmt: skip


def recipe_of(part: str, base: Recipe) -> Recipe:
    """The recipe with one part changed: a name in PARTS, or KEY=VALUE[,KEY=VALUE...]. Raises BadInput."""
    text = PARTS.get(part, part)
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    if not all(equals for _, equals, _ in pairs):
        raise BadInput(f"--parts {part}: expected KEY=VALUE, or one of {', '.join(PARTS)}")
    return with_keys(base, {key: value for key, _, value in pairs})


def opened(source: str) -> mnas.ImageData:
    """A name in DATA, or what --data of mnas takes; its validation split holds VALIDATED images at most."""
    path = str(DATA.get(source, source))
    is_jpeg = Path(path).suffix == ".npz" and Path(path).exists() and "jpeg_train" in np.load(path)
    data = jpeg_archive(Path(path)) if is_jpeg else load_data(path)
    return replace(data, val=limited(data.val, VALIDATED, 0))


def jpeg_archive(path: Path) -> mnas.ImageData:
    """An .npz whose images are JPEG bytes one after the other: jpeg_*, offsets_* (n + 1,), y_* (n,), class_names."""
    with np.load(path) as archive:
        arrays = dict(archive)
    train, test = (ArraySplit(decoded(arrays, kind), arrays[f"y_{kind}"]) for kind in ("train", "test"))
    rest, val = stratified(train.labels, 0.2, 0)
    name, classes = path.stem, tuple(map(str, arrays["class_names"]))
    return mnas.ImageData(name, classes, train.native_size(), True, train.subset(rest), train.subset(val), test)


def decoded(arrays: dict[str, NDArray[Any]], kind: str) -> NDArray[np.uint8]:
    """Pixels uint8 (n, h, w, 3)."""
    stream, offsets = arrays[f"jpeg_{kind}"].tobytes(), arrays[f"offsets_{kind}"].tolist()
    return np.stack([
        np.asarray(Image.open(io.BytesIO(stream[begin:end])).convert("RGB"))
        for begin, end in itertools.pairwise(offsets)
    ])  # fmt: skip


def resolution(image_size: int) -> int:
    return max(32, -(-3 * image_size // 16) * 8)


def trained(data: mnas.ImageData, recipe: Recipe, seed: int, origin: Origin | None) -> tuple[float, float]:
    """Validation accuracy and seconds of one training."""
    trainer = replace(cpu_trainer(data, flip=data.flip, seed=seed), origins=() if origin is None else (origin,))
    arch = mnas.zoo.get(NETWORK, resolution=resolution(data.image_size))
    if origin is not None:
        arch = replace(origin.architecture, resolution=arch.resolution)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        recipe = lengthened(recipe, len(data.train))
        standing = FullTraining(NETWORK, arch, recipe, trainer, Path(folder)).advance(recipe.epochs)
        return standing.accuracy, time.perf_counter() - began


def row(data: mnas.ImageData, recipe: Recipe, seeds: int, origin: Origin | None) -> dict[str, Any]:
    runs = [trained(data, recipe, seed, origin) for seed in range(seeds)]
    accuracies = [round(accuracy, 5) for accuracy, _ in runs]
    return {
        "val_accuracy": round(statistics.mean(accuracies), 5),
        "sd": round(statistics.stdev(accuracies), 5) if seeds > 1 else None,
        "seconds": round(statistics.mean(seconds for _, seconds in runs), 1), "val_accuracies": accuracies,
    }  # fmt: skip


def settings_of(data: mnas.ImageData, recipe: Recipe, seeds: int) -> dict[str, Any]:
    return {
        "network": NETWORK, "resolution": resolution(data.image_size), "seeds": seeds, "val_images": len(data.val),
        "train_images": len(limited(data.train, recipe.images, 0)), "threads": torch.get_num_threads(),
        "recipe": recipe.model_dump(mode="json"),
    }  # fmt: skip


def compare(
    source: str, images: int | None, parts: Sequence[str], base: Recipe, seeds: int, origin: Origin | None = None
) -> None:
    """Train under each part in turn, saved one by one."""
    data = opened(source)
    for part in parts:
        recipe = recipe_of(part, base.model_copy(update={"images": images}))
        settings, name = settings_of(data, recipe, seeds), f"{data.name}-{images or 'all'}-{part}"
        if origin is not None:
            settings, name = {**settings, "network": origin.name, "init": True}, f"{name}-from-weights"
        if saved_parts("recipe_parts").get(name, {}).get("settings") != settings:
            save_part("recipe_parts", name, {**row(data, recipe, seeds, origin), "settings": settings})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--data", nargs="+", default=list(DATA), help=f"{', '.join(DATA)}, or what mnas takes")
    parser.add_argument("--images", nargs="+", type=int, default=[1000, 20000], help="training images; 0: all")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), help=f"{', '.join(PARTS)}, or KEY=VALUE[,...]")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row")
    parser.add_argument("--init", type=Path, help="a folder of `mnas train`, from whose weights the networks start")
    options = parser.parse_args(arguments)
    base, origin = Recipe(epochs=options.epochs), None
    if options.init is not None:
        reference = mnas.zoo.get(NETWORK)  # the folder has its own architecture
        base, origin = fine_tuning(base), read_origin(options.init, reference, "trained")
    try:
        for part in options.parts:
            recipe_of(part, base)
    except BadInput as error:
        parser.error(str(error))
    for source in options.data:
        for images in dict.fromkeys([None] if source == "digits" else [count or None for count in options.images]):
            compare(source, images, options.parts, base, options.seeds, origin)


if __name__ == "__main__":
    main()
