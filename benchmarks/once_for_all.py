"""A second search for another device on the supernet of the first one: what it takes, and what it finds.

    python benchmarks/once_for_all.py digits
    python benchmarks/once_for_all.py fashion_mnist --images 20000

The first search trains a supernet (`mnas supernet`) and searches in it for PyTorch (`mnas search --supernet`), at the
budget that MobileNetV3-Small at 1.5 times the images' size just fits; the second one searches in it for ONNX Runtime,
at the budget that the same network just fits there. Both measure the latency tables of their devices anew. Seconds are
of whole commands, the supernet's among those of the first search; accuracies are of the winners on the test split.
With --alone, the second search is repeated without a supernet. Other options are those of the searches.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import options_parser, save_part
from found_vs_reference import latency_ms, mnas_json, searched
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


def both(name: str, images: int, alone: bool, options: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        source, image_size = source_of(name, images, folder)
        size = max(48, 3 * native_size(image_size, 224) // 2)
        began, data = time.perf_counter(), ["--space", "v3_small", "--data", source]
        supernet = mnas_json(["supernet", *data, "-o", str(folder / "supernet")])
        supernet_s = round(time.perf_counter() - began, 1)
        runs = {}
        shared = ["--supernet", str(folder / "supernet")]
        for key, runtime, start in (
            ("first", "torch", shared), ("second", "onnxruntime", shared), *[("alone", "onnxruntime", data)] * alone,
        ):  # fmt: skip
            budget_ms = latency_ms(NETWORK, size, runtime)
            (folder / key).mkdir()
            wanted = ["--runtime", runtime, "--latency-ms", f"{budget_ms:.4f}"]
            runs[key] = searched([*start, *wanted, *options], folder / key)
    first_s = supernet_s + runs["first"]["wall_s"]
    figures = {
        "images": images, "supernet_s": supernet_s,
        "supernet": {name: value for name, value in supernet.items() if name.startswith(("accuracy", "steps"))}, **runs,
        "second_over_first": round(runs["second"]["wall_s"] / first_s, 3),
    }  # fmt: skip
    if alone:
        figures["second_over_alone"] = round(runs["second"]["wall_s"] / runs["alone"]["wall_s"], 3)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("part", choices=("digits", "fashion_mnist", "cifar10"))
    parser.add_argument("--images", type=int, default=20_000, help="training images; all of the digits")
    parser.add_argument("--alone", action="store_true", help="the second search without a supernet, too")
    options, others = parser.parse_known_args(arguments)
    save_part("once_for_all", options.part, both(options.part, options.images, options.alone, others))


if __name__ == "__main__":
    main()
