"""What trained weights are worth on few images: whole searches from fresh and from trained weights, with equal time.

    python benchmarks/transfer.py pretrain --epochs 16 --weights weights
    python benchmarks/transfer.py fashion_mnist --images 2000 --budget 8m --weights weights
    python benchmarks/transfer.py flowers102 --data path/to/flowers --budget 2h

`pretrain` trains MobileNetV3-Large on CIFAR-10 (`mnas train`, 48 px) and keeps the folder: no published weights are
needed. The other parts take images of a data set that it has not seen, run `mnas search` from fresh weights and from
those of --weights, each with the same --budget, and train the published network (--reference, at the largest size that
keeps the budget) from both as long as the winner: --baseline. Test errors are of the whole test split, read once.

Without --weights the search starts from published ImageNet weights (`mnas search --pretrained`), which needs the
internet: Flowers, Pets and Food as folders of classes reproduce there what the small parts show here. Other options
than those below are the search's.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import options_parser, save_part
from found_vs_reference import latency_ms, mnas_json, pixels, searched, shown
from recipe_parts import DATA, opened

import mnas
from mnas.data.splits import limited

NETWORK = "mobilenet_v3_large"
PRETRAIN_PX = 48


def pretrained(epochs: int, weights: Path) -> dict[str, Any]:
    """The published network trained on CIFAR-10, in the folder `weights`."""
    with tempfile.TemporaryDirectory() as folder:
        source = archived(opened("cifar10"), Path(folder) / "images.npz")
        found = mnas_json([
            "train", NETWORK, "--data", str(source), "--resolution", str(PRETRAIN_PX), "--set", f"epochs={epochs}",
            "-o", f"{folder}/trained",
        ])  # fmt: skip
        shutil.copytree(f"{folder}/trained", weights)
    return {"data": "cifar10", "resolution": PRETRAIN_PX, **shown(found["networks"][0])}


def archived(data: mnas.ImageData, path: Path, train: int | None = None) -> Path:
    """The images as an .npz in MedMNIST's convention, in colour, with `train` training images."""
    data = replace(data, train=limited(data.train, train, 0))
    np.savez(path, **{  # type: ignore[arg-type]
        f"{kind}_{what}": value
        for kind, split in (("train", data.train), ("val", data.val), ("test", data.test))
        for what, value in (("images", pixels(split)), ("labels", split.labels))
    })  # fmt: skip
    return path


def compared(source: Path, weights: Path | None, reference: str, options: Sequence[str]) -> dict[str, Any]:
    """The searches from fresh and from trained weights."""
    base = ["--data", str(source), *options, "--baseline", reference]
    given = ["--pretrained"] if weights is None else ["--init", str(weights)]
    runs = {}
    for name, start in (("scratch", ["--no-pretrained"]), ("pretrained", given)):
        with tempfile.TemporaryDirectory() as folder:
            runs[name] = searched([*base, *start], Path(folder))
    errors = {name: 1 - run["winner"]["test_accuracy"] for name, run in runs.items()}
    of_reference = {name: 1 - run["opponents"][0]["test_accuracy"] for name, run in runs.items()}
    return {
        **runs,
        "winner_over_scratch_winner": round(errors["pretrained"] / errors["scratch"], 3),
        "winner_over_reference": round(errors["pretrained"] / of_reference["pretrained"], 3),
        "reference_over_scratch_reference": round(of_reference["pretrained"] / of_reference["scratch"], 3),
    }


def few_images(source: str, images: int, weights: Path, reference: str, options: Sequence[str]) -> dict[str, Any]:
    """The comparison on a part of a data set whose images are small; validation takes a fifth of the images."""
    data = opened(source)
    data = replace(data, val=limited(data.val, max(100, images // 5), 0))
    budget_ms = 1.05 * latency_ms(NETWORK, 64, "torch")
    with tempfile.TemporaryDirectory() as folder:
        path = archived(data, Path(folder) / "images.npz", images)
        figures = compared(path, weights, reference, ["--latency-ms", f"{budget_ms:.4f}", *options])
    return {"images": images, "budget_ms": budget_ms, **figures}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("part", help="pretrain, a name in recipe_parts.DATA, or any name for --data")
    parser.add_argument("--weights", type=Path, help="the folder of `pretrain`")
    parser.add_argument("--epochs", type=int, default=16, help="of `pretrain`")
    parser.add_argument("--images", type=int, default=2000, help="training images")
    parser.add_argument("--data", type=Path, help="a folder of class folders")
    parser.add_argument("--reference", default=f"{NETWORK}:64", help="the published network to compare with")
    options, others = parser.parse_known_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a raised exception ends the search that runs, too
    if options.part == "pretrain":
        if options.weights is None:
            parser.error("pretrain: expected --weights FOLDER")
        figures = pretrained(options.epochs, options.weights)
    elif options.data is not None:
        figures = compared(options.data, options.weights, options.reference, others)
    else:
        if options.weights is None or options.part not in DATA:
            parser.error(f"{options.part}: expected --weights FOLDER, and one of {', '.join(DATA)} or --data FOLDER")
        figures = few_images(options.part, options.images, options.weights, options.reference, others)
    part = options.part if options.data or options.part == "pretrain" else f"{options.part} {options.images}"
    save_part("transfer", part, figures)


if __name__ == "__main__":
    main()
