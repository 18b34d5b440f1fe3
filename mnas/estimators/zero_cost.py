"""Scores of networks that nobody trained: a search in seconds, and what every other estimator must beat."""

from __future__ import annotations

import copy
import math
import random
import statistics
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mnas.data.augment import normalise
from mnas.data.loader import batches
from mnas.data.sources import ImageData
from mnas.errors import BadInput
from mnas.estimators import Report
from mnas.nn.network import build
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.space import SearchSpace

Score = Literal["naswot", "synflow", "madds", "params"]
IMAGES = 64
"""Of naswot's minibatch."""
SAMPLE = 32
"""Random networks of the space that say what an ordinary score is."""
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardswish)


class ZeroCostEstimator:
    """Scores each candidate without training it, and says where the score lies among the space's random networks.

    The estimate is no accuracy. It is 1/2 for a score as the mean of SAMPLE random networks, 3/4 for one standard
    deviation above it, 5/6 for two, n standard deviations: 1 - 1 / (2 + 2 n), and the mirror image below. A higher
    score always has a higher estimate. `naswot` looks at images of the training split; the others at none.
    """

    grade = "zero-cost"

    def __init__(
        self, space: SearchSpace, data: ImageData, score: Score = "naswot", *, size_of: Callable[[Architecture], int],
        device: torch.device, seed: int,
    ):  # fmt: skip
        self._data, self._score, self._size_of = data, score, size_of
        self._device, self._seed = device, seed
        self._raw: dict[int, Tensor] = {}
        rng = random.Random(seed)
        ordinary = [self.score(space.sample(rng)) for _ in range(SAMPLE)]
        self._mean, self._deviation = statistics.fmean(ordinary), statistics.pstdev(ordinary) or 1.0

    def __call__(self, arch: Architecture, report: Report) -> float:
        """Where the score of `arch` lies, 0..1; nothing is reported on the way there."""
        return squashed((self.score(arch) - self._mean) / self._deviation)

    def score(self, arch: Architecture) -> float:
        """The score itself, a logarithm: of a determinant, of a flow, of multiply-adds, of parameters."""
        match self._score:
            case "madds":
                return math.log(cost(arch, self._data.num_classes).madds)
            case "params":
                return math.log(cost(arch, self._data.num_classes).params)
            case "synflow":
                return synflow(self._network(arch), self._size_of(arch))
            case "naswot":
                return naswot(self._network(arch), self._minibatch(self._size_of(arch)))

    def _network(self, arch: Architecture) -> nn.Module:
        """`arch` with the initialisation of the seed; one is enough, as others order networks alike."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed)
            network = build(arch, self._data.num_classes)
        return network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _minibatch(self, size: int) -> Tensor:
        """IMAGES images of the training split, or fewer where it has no more; the same ones at every size."""
        if size not in self._raw:
            draw = torch.Generator().manual_seed(self._seed)
            drawn = batches(
                self._data.train, batch_size=IMAGES, size=size, device=self._device, generator=draw, workers=0
            )  # one batch is not worth starting processes
            raw = next((images for images, _ in drawn), torch.empty(0))
            if len(raw) < 2:
                raise BadInput(
                    f"{self._data.name}: the zero-cost score naswot compares training images, expected at least 2, got "
                    f"{len(raw)}: add images, or take another score, such as --set zero_cost=synflow"
                )
            self._raw[size] = raw
        return normalise(self._raw[size], size)


@torch.inference_mode()
def naswot(network: nn.Module, images: Tensor) -> float:
    """How differently an untrained network treats these images (b, 3, h, w): log |K + 1| (arXiv 2006.04647).

    K counts for each two images the rectifiers that are on for both or off for both. A rectifier (ReLU, ReLU6,
    hard-swish) is on where its input is above zero. Batch normalisation takes the batch's own statistics. The unit
    matrix, one more rectifier for each image alone, keeps the determinant of equal images from being zero.
    """
    network = _twin(network, lambda parameter: parameter).eval()
    kernel = torch.eye(len(images), dtype=torch.float64)

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        codes = torch.where(inputs[0] > 0, 1.0, -1.0).flatten(1)
        # sums of so few ones are exact in float32; agreements less disagreements, so half of it with the total
        kernel.add_((codes @ codes.T).cpu().double() + codes.shape[1], alpha=0.5)

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
        elif isinstance(module, RECTIFIERS):
            module.register_forward_pre_hook(count)
    network(images)
    return float(torch.linalg.slogdet(kernel).logabsdet)


def synflow(network: nn.Module, size: int) -> float:
    """The log of what all weights pass on to the output, sum |w dR/dw| (arXiv 2006.05467), for one image of ones.

    Weights are taken positive, in float64 on the CPU. As in the reference implementations batch normalisation is left
    out, and so are the rectifiers, as ReLU6 and hard-swish would cut or bend what is positive. Gates stay.
    """
    network = _twin(network, lambda weight: nn.Parameter(weight.detach().cpu().double().abs())).eval()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, *RECTIFIERS)):
            module.forward = _same  # type: ignore[assignment]
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    flow = network(torch.ones(1, 3, size, size, dtype=torch.float64)).sum()
    passed = sum((w.detach() * g).sum() for w, g in zip(weights, torch.autograd.grad(flow, weights), strict=True))
    return math.log(passed)


def _twin(network: nn.Module, parameter_of: Callable[[nn.Parameter], nn.Parameter]) -> nn.Module:
    """A copy of `network` with parameters made of its own."""
    return copy.deepcopy(network, {id(parameter): parameter_of(parameter) for parameter in network.parameters()})


def _same(x: Tensor) -> Tensor:
    return x


def squashed(z: float) -> float:
    """Any number to 0..1, in order: 1/2 at 0, 3/4 at 1, 5/6 at 2, and so on; slowly enough that it never gets there."""
    return 1 - 0.5 / (1 + z) if z >= 0 else 0.5 / (1 - z)
