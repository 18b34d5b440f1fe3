"""An OpenVINO model with a uint8 input (b, h, w, c) in place of its own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from mnas.export.openvino import ov, save_ir
from mnas.export.pixels import factors

preprocess: Any = importlib.import_module("openvino.preprocess")


def write_with_pixel_input(source: Path, target: Path) -> list[Path]:
    """Write the model of `source`, which takes normalised images (b, c, h, w), for pixels; returns .xml and .bin."""
    model = ov.Core().read_model(source)
    scale, offset = factors(model.input(0).partial_shape[1].get_length())
    processing = preprocess.PrePostProcessor(model)
    images = processing.input()
    images.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    images.model().set_layout(ov.Layout("NCHW"))
    steps = images.preprocess().convert_element_type(ov.Type.f32)
    steps.mean([-o / s for o, s in zip(offset, scale, strict=True)]).scale([1 / s for s in scale])
    return save_ir(processing.build(), target)
