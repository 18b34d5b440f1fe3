"""The check that an exported network computes the same logits as the trained one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mnas.errors import MnasError
from mnas.io.size import Size, sides

if TYPE_CHECKING:
    from mnas.latency.runtimes import Runtime
    from mnas.nn.network import Network

N = TypeVar("N", bound=nn.Module)
CHECKED = 4
"""Images on which a runtime is compared."""
RUNTIME_TOLERANCE = 1e-3


def plain_copy(network: N) -> N:
    """A float32 copy on the CPU in eval mode and in the default memory layout; `network` itself is not changed."""
    plain = copy.deepcopy(network).float().cpu().eval()
    for parameter in plain.parameters():
        # contiguous() would keep the channels_last strides of a 1x1 kernel; clone() does not
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return plain


def check_equal(network: nn.Module, images: Tensor, logits: Tensor, tolerance: float, source: str) -> None:
    """Raise MnasError if `logits` (b, n) of `source` differ by more than `tolerance` from those of a `plain_copy`.

    The tolerance is relative for logits above 1, and grows by the rounding error of float32 (measured against
    float64), which is large in a network that was hardly trained.
    """
    with torch.inference_mode():
        expected = network(images)
        exact = copy.deepcopy(network).double()(images.double())
    check_tensor(logits, expected, exact, tolerance, source)


def check_tensor(own: Tensor, expected: Tensor, exact: Tensor, tolerance: float, source: str) -> float:
    """The largest difference between an output of `source` and PyTorch's; `exact` is the latter in float64.

    Raises MnasError for differences as `check_equal` states.
    """
    if expected.shape != own.shape:
        raise MnasError(f"{source}: expected logits of shape {tuple(expected.shape)}, got {tuple(own.shape)}")
    difference = float((expected - own).abs().max())
    rounding = float((expected - exact).abs().max())
    allowed = tolerance * max(1.0, float(expected.abs().max())) + 10 * rounding
    if not difference <= allowed:  # also true if the difference is NaN
        raise MnasError(
            f"{source}: its logits differ from the trained network's by {difference:.3g}, more than {allowed:.3g}; "
            "do not use this file. Look for NaN in the weights; if there is none, report this with architecture.yaml."
        )
    return difference


def check_runtime(network: Network, path: Path, size: Size, runtime: Runtime) -> dict[str, Any]:
    """Run a file by another runtime: how far its logits are from PyTorch's. Raises MnasError where they differ."""
    plain = plain_copy(network)
    images = torch.randn(CHECKED, network.channels, *sides(size), generator=torch.Generator().manual_seed(0))
    with runtime.threads(1), torch.inference_mode():
        logits = torch.stack([
            torch.as_tensor(np.asarray(runtime.prepare_file(path, image[None], 1)())).reshape(-1) for image in images
        ])  # fmt: skip
        difference = float((logits - plain(images)).abs().max())
    check_equal(plain, images, logits, RUNTIME_TOLERANCE, f"{path} in {runtime.name} {runtime.version()}")
    return {"runtime": runtime.name, "version": runtime.version(), "largest_difference": difference}
