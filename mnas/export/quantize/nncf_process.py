"""What quantises models: `python -m mnas.export.quantize.nncf_process`.

Each line of stdin is a folder, whose float.xml becomes int8.xml; the answer on stdout is a line of JSON: what went
wrong, or null.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import nncf
import numpy as np
import openvino as ov
from nncf.quantization.range_estimator import RangeEstimatorParametersSet


def quantise(folder: Path) -> None:
    """Ranges come from images.npy (n, c, h, w); layers named in kept.json stay in float32.

    Ranges go from the smallest to the largest value: nncf's default, the means of each image's, cuts values off
    (MobileNetV3-Large on CIFAR-10 at 96 px: 95.7% of the images get float32's class, with these 97.8%).
    """
    images, kept = np.load(folder / "images.npy"), json.loads((folder / "kept.json").read_text())
    patterns = [f"^{re.escape(name)}(/.*)?$" for name in kept]
    model = nncf.quantize(
        ov.Core().read_model(folder / "float.xml"), nncf.Dataset([image[None] for image in images]),
        subset_size=len(images), preset=nncf.QuantizationPreset.PERFORMANCE, target_device=nncf.TargetDevice.CPU,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
        ignored_scope=nncf.IgnoredScope(patterns=patterns, validate=False),
    )  # fmt: skip
    ov.save_model(model, folder / "int8.xml", compress_to_fp16=False)


def serve() -> None:
    """Quantise one folder after another, until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # where nncf shows its progress
    for line in sys.stdin:
        try:
            quantise(Path(line.rstrip("\n")))
            wrong = None
        except Exception as error:  # whatever nncf raises, it can quantise the next one
            wrong = " ".join(str(error).split()) or type(error).__name__
        print(json.dumps(wrong), file=answers, flush=True)


if __name__ == "__main__":
    serve()
