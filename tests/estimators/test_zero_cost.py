"""Zero-cost scores against plain implementations and hand-made figures, and the estimate that is made of them."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from trainers import trainer

import mnas
from mnas.data.augment import normalise
from mnas.data.sources import ImageData, load_data
from mnas.data.splits import ArraySplit
from mnas.errors import BadInput
from mnas.estimators import zero_cost
from mnas.estimators.zero_cost import Score, ZeroCostEstimator, naswot, squash, synflow
from mnas.io.presets import preset_names
from mnas.space.space import SearchSpace, load_space

SCORES = get_args(Score)
CPU = torch.device("cpu")
DIGITS = load_data("digits")
NARROW, WIDE = (mnas.space.zoo.get("mobilenet_v3_small", width=width, resolution=32) for width in (0.35, 1.0))


@pytest.fixture
def space(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> SearchSpace:
    monkeypatch.setattr(zero_cost, "SAMPLE", 3)
    return load_space(tiny)


def estimator(space: SearchSpace, score: Score, data: ImageData = DIGITS, seed: int = 0) -> ZeroCostEstimator:
    return ZeroCostEstimator(space, trainer(data, seed=seed), score)


def built(arch: mnas.Architecture) -> mnas.Network:
    torch.manual_seed(0)
    return mnas.build(arch, 10)


def digits(count: int, size: int = 32) -> Tensor:
    return normalise(DIGITS.train.fetch(range(count), size), size)


def no_report(step: int, accuracy: float) -> None:
    raise AssertionError("nothing to report")


# --- naswot


def test_naswot_by_hand() -> None:
    images = torch.tensor([[1.0, -1.0, 2.0], [3.0, 4.0, -0.5]]).view(2, 3, 1, 1)
    for rectifier in (nn.ReLU(), nn.ReLU6(), nn.Hardswish()):
        # of three rectifiers the images agree in one: |[[3, 1], [1, 3]] + 1| = 4 * 4 - 1 * 1
        assert naswot(nn.Sequential(rectifier), images) == pytest.approx(math.log(15))
    assert naswot(nn.Sequential(nn.Hardsigmoid()), images) == 0


def test_naswot_is_the_hamming_kernel() -> None:
    network, images = built(NARROW), digits(9)
    codes: list[Tensor] = []
    seen = copy.deepcopy(network).train()
    for module in seen.modules():
        if type(module) in (nn.ReLU, nn.ReLU6, nn.Hardswish):
            module.register_forward_hook(lambda m, inputs, out: codes.append((inputs[0] > 0).reshape(len(images), -1)))
    with torch.no_grad():
        seen(images)
    code = torch.cat(codes, 1).numpy()
    kernel = [[float(np.sum(a == b)) for b in code] for a in code]
    assert code.shape[1] > 1000
    assert naswot(network, images) == pytest.approx(np.linalg.slogdet(np.add(kernel, np.eye(9)))[1], rel=1e-12)


def test_equal_images_say_nothing() -> None:
    images = torch.randn(1, 3, 4, 4).repeat(3, 1, 1, 1)
    assert naswot(nn.Sequential(nn.ReLU()), images) == pytest.approx(math.log(3 * 48 + 1))
    assert math.isfinite(naswot(built(NARROW), digits(1).repeat(4, 1, 1, 1)))


# --- synflow


class Means(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_synflow_by_hand() -> None:
    conv, norm, linear = nn.Conv2d(3, 1, 1, bias=False), nn.BatchNorm2d(1), nn.Linear(1, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -2.0, 7.0]).view(1, 3, 1, 1))
        linear.weight.copy_(torch.tensor([[2.0], [-4.0]]))
        linear.bias.zero_()
        norm.running_var.fill_(9.0)  # type: ignore[union-attr]
    # each of the two layers passes on (1 + 2 + 7) * (2 + 4)
    for rectifier in (nn.ReLU(), nn.ReLU6(), nn.Hardswish()):
        assert synflow(nn.Sequential(conv, norm, rectifier, Means(), linear), 2) == pytest.approx(math.log(120))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet_small"])
def test_synflow_is_the_slope_along_the_weights(name: str) -> None:
    """sum w dR/dw is dR(t w)/dt at t = 1, here by finite differences."""
    network = built(mnas.space.zoo.get(name, width=0.35, resolution=32))

    def flow(t: float) -> float:
        plain = copy.deepcopy(network).double().eval()
        for parent in list(plain.modules()):
            for child, module in list(parent.named_children()):
                if type(module) in (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Hardswish):
                    setattr(parent, child, nn.Identity())
        with torch.no_grad():
            for key, parameter in plain.named_parameters():
                parameter.abs_().mul_(t if key.endswith("weight") else 1)
            return float(plain(torch.ones(1, 3, 32, 32, dtype=torch.float64)).sum())

    slope = (flow(1 + 1e-5) - flow(1 - 1e-5)) / 2e-5
    assert synflow(network, 32) == pytest.approx(math.log(slope), rel=1e-6)


def test_a_scored_network_is_left_as_it_was() -> None:
    network = built(NARROW)
    network.blocks.eval()

    def state() -> list[Any]:
        modules = [(m.training, len(m._forward_pre_hooks), len(m._forward_hooks)) for m in network.modules()]
        return [modules, {key: tensor.clone() for key, tensor in network.state_dict().items()}]

    (modules, tensors), generator = state(), torch.get_rng_state()
    logits = network.eval()(digits(2))
    network.train()
    network.blocks.eval()
    naswot(network, digits(4))
    synflow(network, 32)
    assert state()[0] == modules
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(network.eval()(digits(2)), logits)
    assert torch.equal(torch.get_rng_state(), generator)


# --- the estimate


@pytest.mark.parametrize("name", preset_names("search_spaces"))
def test_every_shipped_space(name: str) -> None:
    space = load_space(name).with_resolutions((32,))
    for arch in (mnas.space.zoo.get(space.reference, resolution=32), space.sample(random.Random(0))):
        network = built(arch)
        assert math.isfinite(synflow(network, 16))
        assert naswot(network, digits(4, 16)) > 20  # far from the equal images' log


@pytest.mark.parametrize("score", SCORES)
def test_estimates(space: SearchSpace, score: Score) -> None:
    torch.manual_seed(3)
    random.seed(3)
    generators = torch.get_rng_state(), random.getstate()
    first = estimator(space, score)
    archs = [space.sample(random.Random(i)) for i in range(6)]
    estimates = [first(arch, no_report) for arch in archs]
    assert all(0 < estimate < 1 for estimate in estimates)
    # in the scores' order, and neither all above nor all below the ordinary one
    scores = [first.score(arch) for arch in archs]
    assert np.argsort(estimates, kind="stable").tolist() == np.argsort(scores, kind="stable").tolist()
    assert len(set(estimates)) == len(set(scores)) == 6
    assert min(estimates) < 0.5 < max(estimates)
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert first.fidelity == "zero-cost"
    assert [estimator(space, score)(arch, no_report) for arch in archs[:1]] == estimates[:1]
    assert estimator(space, score, seed=1)(archs[0], no_report) != estimates[0]


@pytest.mark.parametrize("score", SCORES)
def test_a_wider_network_scores_higher(space: SearchSpace, score: Score) -> None:
    judged = estimator(space, score)
    assert judged(WIDE, no_report) > judged(NARROW, no_report)


def test_the_controls_are_logarithms_of_the_counts(space: SearchSpace) -> None:
    counted = mnas.cost(WIDE, 10)
    assert estimator(space, "madds").score(WIDE) == math.log(counted.madds)
    assert estimator(space, "params").score(WIDE) == math.log(counted.params)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2))
def test_squashing_keeps_the_order(numbers: list[float]) -> None:
    squeezed = [squash(z) for z in sorted(numbers)]
    assert squeezed == sorted(squeezed)
    assert all(0 < part < 1 for part in squeezed)
    apart = [(a, b) for a, b in zip(sorted(numbers), sorted(numbers)[1:], strict=False) if b - a > 0.01]
    assert all(squash(a) < squash(b) for a, b in apart)


def test_squash_figures() -> None:
    assert [squash(z) for z in (-1, 0, 1, 2)] == pytest.approx([1 / 4, 1 / 2, 3 / 4, 5 / 6])


def test_one_network_alone_is_ordinary(space: SearchSpace) -> None:
    only = without_choices(space)
    assert only.size == 1
    assert estimator(only, "params")(next(only.enumerate()), no_report) == 0.5


def without_choices(space: SearchSpace) -> SearchSpace:
    """The space with the first option of each choice."""
    stages = [
        stage.model_copy(update={key: value[:1] for key, value in stage if isinstance(value, tuple)})
        for stage in space.file.stages
    ]
    return SearchSpace(space.file.model_copy(update={"stages": tuple(stages), "resolution": (32,)}))


# --- the images


class Untouchable:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError("only the training split may be read")


def images_of(count: int) -> ImageData:
    """So many training images, and splits that nobody may read."""
    train = DIGITS.train.subset(np.arange(count))
    return replace(DIGITS, name="few", train=train, val=Untouchable(), test=Untouchable())  # type: ignore[arg-type]


def test_few_images_of_the_training_split_are_enough(space: SearchSpace) -> None:
    few = estimator(space, "naswot", images_of(5))
    assert 0 < few(WIDE, no_report) < 1
    assert few.score(WIDE) == pytest.approx(naswot(built(WIDE), digits(5)), rel=1e-6)
    same = ArraySplit(np.zeros((70, 8, 8), np.uint8), np.zeros(70, np.int64))
    assert math.isfinite(estimator(space, "naswot", replace(DIGITS, train=same)).score(WIDE))


def test_one_image_is_too_few_for_naswot_alone(space: SearchSpace) -> None:
    for count in (0, 1):
        with pytest.raises(BadInput, match=rf"few: .* naswot .* at least 2, got {count}: .* --set zero_cost=synflow$"):
            estimator(space, "naswot", images_of(count))
    assert 0 < estimator(space, "synflow", images_of(1))(WIDE, no_report) < 1
