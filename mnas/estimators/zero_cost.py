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
from mnas.errors import BadInput
from mnas.estimators import Report
from mnas.io.size import Size, sides
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.space import SearchSpace
from mnas.tasks.task import Place
from mnas.training.trainer import Trainer

Score = Literal["naswot", "synflow", "madds", "params"]
IMAGES = 64
"""Images of naswot's minibatch."""
SAMPLE = 12
"""Random networks of the space to which a score is compared."""
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardswish)


class ZeroCostEstimator:
    """Scores each candidate without training it, relative to random networks of the space.

    The estimate is not an accuracy. It is 1/2 for the mean score of SAMPLE random networks, 3/4 for one standard
    deviation above it, 5/6 for two, n standard deviations: 1 - 1 / (2 + 2 n), and the mirror image below. A higher
    score always has a higher estimate. `naswot` uses images of the training split, the other scores none.
    """

    fidelity = "zero-cost"
    images: int | None = None

    def __init__(self, space: SearchSpace, trainer: Trainer, score: Score = "naswot"):
        self._task, self._score, self._sizes = trainer.task, score, trainer.sizes
        self._device, self._seed = trainer.device, trainer.seed
        self._raw: dict[Size, Tensor] = {}
        rng = random.Random(trainer.seed)
        ordinary = [self.score(space.sample(rng)) for _ in range(SAMPLE)]
        self._mean, self._deviation = statistics.fmean(ordinary), statistics.pstdev(ordinary) or 1.0

    def __call__(self, arch: Architecture, report: Report) -> float:
        """The relative score of `arch`, 0..1; nothing is reported on the way."""
        return squash((self.score(arch) - self._mean) / self._deviation)

    def score(self, arch: Architecture) -> float:
        """The score itself: the logarithm of a determinant, a flow, the multiply-adds or the parameters."""
        match self._score:
            case "madds":
                return math.log(cost(arch, self._task.outputs).madds)
            case "params":
                return math.log(cost(arch, self._task.outputs).params)
            case "synflow":
                return synflow(self._network(arch), self._sizes.of(arch))
            case "naswot":
                return naswot(self._network(arch), self._minibatch(self._sizes.of(arch)))

    def _network(self, arch: Architecture) -> nn.Module:
        """`arch` as the seed initialises it; one initialisation is enough, others rank networks alike."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed)
            network = self._task.build(arch, 0.0, None)
        return network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _minibatch(self, size: Size) -> Tensor:
        """At most IMAGES images of the training split, the same ones at every size."""
        if size not in self._raw:
            raw = self._task.pixels(IMAGES, Place(size, self._device), self._seed)
            if len(raw) < 2:
                raise BadInput(
                    f"{self._task.data.name}: the zero-cost score naswot compares training images, expected at least "
                    f"2, got {len(raw)}: add images, or take another score, such as --set zero_cost=synflow"
                )
            self._raw[size] = raw
        return normalise(self._raw[size], size)


@torch.inference_mode()
def naswot(network: nn.Module, images: Tensor) -> float:
    """How differently an untrained network responds to images (b, 3, h, w): log |K + 1| (arXiv 2006.04647).

    K counts, for each pair of images, the rectifiers that are on for both or off for both. A rectifier (ReLU, ReLU6,
    hard-swish) is on where its input is above zero. Batch normalisation uses the batch's own statistics. Adding the
    unit matrix keeps the determinant of equal images above zero.
    """
    network = _copy_with(network, lambda parameter: parameter).eval()
    kernel = torch.eye(len(images), dtype=torch.float64)

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        codes = torch.where(inputs[0] > 0, 1.0, -1.0).flatten(1)
        # exact in float32; agreements minus disagreements, so agreements are half of its sum with the total
        kernel.add_((codes @ codes.T).cpu().double() + codes.shape[1], alpha=0.5)

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
        elif isinstance(module, RECTIFIERS):
            module.register_forward_pre_hook(count)
    network(images)
    return float(torch.linalg.slogdet(kernel).logabsdet)


def synflow(network: nn.Module, size: Size) -> float:
    """The log of the flow through all weights, sum |w dR/dw| (arXiv 2006.05467), for one image of ones.

    Uses absolute weights, in float64 on the CPU. Batch normalisation is left out as in the reference implementations,
    and so are the rectifiers, since ReLU6 and hard-swish change positive values too. Gates stay.
    """
    network = _copy_with(network, lambda weight: nn.Parameter(weight.detach().cpu().double().abs())).eval()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, *RECTIFIERS)):
            module.forward = _identity  # type: ignore[assignment]
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    given = network(torch.ones(1, 3, *sides(size), dtype=torch.float64))
    outputs = [given] if isinstance(given, Tensor) else [one for one in given if one.requires_grad]
    gradients = torch.autograd.grad(sum(one.sum() for one in outputs), weights, allow_unused=True)  # type: ignore[arg-type]
    through = ((w.detach() * g).sum() for w, g in zip(weights, gradients, strict=True) if g is not None)
    return math.log(sum(through))


def _copy_with(network: nn.Module, parameter_of: Callable[[nn.Parameter], nn.Parameter]) -> nn.Module:
    """A copy of `network`, each parameter replaced by `parameter_of` it."""
    return copy.deepcopy(network, {id(parameter): parameter_of(parameter) for parameter in network.parameters()})


def _identity(x: Tensor) -> Tensor:
    return x


def squash(z: float) -> float:
    """Map any number to 0..1, strictly increasing: 1/2 at 0, 3/4 at 1, 5/6 at 2, and so on."""
    return 1 - 0.5 / (1 + z) if z >= 0 else 0.5 / (1 - z)
