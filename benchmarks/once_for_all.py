"""A second search for another device on the supernet of the first one: what it takes, and what it finds.

    python benchmarks/once_for_all.py digits
    python benchmarks/once_for_all.py fashion_mnist --images 20000

The first search trains a supernet (`mnas search --estimator supernet`, runtime torch, at the budget that
MobileNetV3-Small at 1.5 times the images' size just fits), the second one searches in it for ONNX Runtime
(`mnas search --supernet`), at the budget that the same network just fits there. Both measure the latency tables of
their devices anew. Seconds are of the whole commands; accuracies are of the winners on the test split. Other options
are those of both searches.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import options_parser, save_part
from found_vs_reference import latency_ms, searched
from recipe_parts import DATA, opened
from transfer import archived

import mnas
from mnas.data.splits import limited
from mnas.training.sizes import native_size

NETWORK = "mobilenet_v3_small"


def source_of(name: str, images: int, folder: Path) -> tuple[str, int]:
    """What --data takes, and the size of its images."""
    data: mnas.ImageData = opened(str(DATA.get(name, name)))
    if name == "digits":
        return name, data.image_size
    data = replace(data, val=limited(data.val, images // 5, 0))
    return str(archived(data, folder / "images.npz", images)), data.image_size


def both(name: str, images: int, options: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        source, image_size = source_of(name, images, folder)
        size = max(48, 3 * native_size(image_size, 224) // 2)
        runs = {}
        for number, (runtime, start) in enumerate({
            "torch": ["--estimator", "supernet", "--data", source, "--space", "v3_small"],
            "onnxruntime": ["--supernet", str(folder / "0" / "run")],
        }.items()):  # fmt: skip
            budget_ms = latency_ms(NETWORK, size, runtime)
            (folder / str(number)).mkdir()
            wanted = ["--runtime", runtime, "--latency-ms", f"{budget_ms:.4f}"]
            runs[runtime] = searched([*start, *wanted, *options], folder / str(number))
    first, second = runs.values()
    return {"images": images, **runs, "second_over_first": round(second["wall_s"] / first["wall_s"], 3)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("part", choices=("digits", "fashion_mnist", "cifar10"))
    parser.add_argument("--images", type=int, default=20_000, help="training images; all of the digits")
    options, others = parser.parse_known_args(arguments)
    save_part("once_for_all", options.part, both(options.part, options.images, others))


if __name__ == "__main__":
    main()
