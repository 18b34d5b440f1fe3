"""Networks judged as the int8 files that are handed over, where a run's device computes in int8."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mnas.config import RunConfig
from mnas.data.sample import CALIBRATION, sample_images
from mnas.data.sources import ImageData
from mnas.export.formats import Model, file_name, get_format, quantising
from mnas.latency.runtimes import get_runtime
from mnas.nn.network import Network
from mnas.space.architecture import Architecture
from mnas.training.trainer import Delivers

FORMATS = {
    "onnxruntime_int8": "onnx", "litert_int8": "litert", "openvino_int8": "openvino", "executorch_int8": "executorch",
}  # fmt: skip
"""The format of the files of each runtime that computes in int8."""


def delivers_of(config: RunConfig, data: ImageData) -> Delivers | None:
    """What makes a network what is handed over, for the first device that computes in int8; None without one."""
    runtime = next((target.runtime for target in config.targets if target.runtime in FORMATS), None)
    return None if runtime is None else partial(as_file, runtime, data)


def as_file(runtime: str, data: ImageData, network: Network, arch: Architecture) -> nn.Module:
    """A module that computes what the network's int8 file does, one image at a time."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_quantised(runtime, data, network, arch, Path(folder))
        return _OfFile(path, runtime, arch)


def write_quantised(runtime: str, data: ImageData, network: Network, arch: Architecture, folder: Path) -> Path:
    """Write the network's int8 file, with ranges from training images, into `folder`."""
    form = quantising(get_format(FORMATS[runtime]))
    assert form is not None
    images, _ = sample_images(data.train, CALIBRATION, arch.resolution)
    path = folder / file_name(FORMATS[runtime], "int8")
    form.quantise(Model(network, arch, data.classes, ""), images, (), path)
    return path


class _OfFile(nn.Module):
    """A model file as a module, on the CPU; the file may be gone afterwards."""

    def __init__(self, path: Path, runtime: str, arch: Architecture):
        super().__init__()
        self._run = get_runtime(runtime).open_file(path, torch.zeros(arch.input_shape(1)), 1)
        self._channels = arch.channels

    def forward(self, images: Tensor) -> Tensor:
        ones: Sequence[Tensor] = images[:, : self._channels].cpu().split(1)  # type: ignore[no-untyped-call]
        return torch.from_numpy(np.concatenate([self._run(one.contiguous()) for one in ones]))
