"""Recipes as optimizers: the learning rates of the layers, and the classifier before all others."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from mnas.config import Recipe
from mnas.nn.network import Network, build
from mnas.space import zoo
from mnas.training.recipe import FINE_TUNING, fine_tuning, lr_at, optimizer, set_lr


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return build(zoo.get("mobilenet_v3_small", 0.35, 32), 10)


def rates(network: Network, recipe: Recipe, progress: float) -> dict[int, float]:
    """The learning rate of each parameter by its id."""
    optim = optimizer(network, recipe)
    set_lr(optim, progress, recipe)
    return {id(p): group["lr"] for group in optim.param_groups for p in group["params"]}


def test_every_parameter_has_one_rate(network: Network) -> None:
    for recipe in (Recipe(), Recipe(layer_decay=0.8), Recipe(classifier_first=0.2)):
        found = rates(network, recipe, 0.5)
        assert found.keys() == {id(p) for p in network.parameters()}
        assert found[id(network.get_parameter("classifier.weight"))] == pytest.approx(lr_at(0.5, recipe))


def test_rates_fall_from_layer_to_layer_towards_the_images(network: Network) -> None:
    found = rates(network, Recipe(layer_decay=0.8), 0.5)
    layers: list[nn.Module] = [network.stem, *network.blocks, network.conv_head, network.hidden, network.classifier]
    of_layers = [found[id(next(layer.parameters()))] for layer in layers]
    ratios = [before / after for before, after in itertools.pairwise(of_layers)]
    assert ratios == pytest.approx([0.8] * (len(layers) - 1))


def test_the_classifier_is_trained_alone_first(network: Network) -> None:
    recipe = Recipe(classifier_first=0.25)
    optim = optimizer(network, recipe)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}

    def step(progress: float) -> set[str]:
        set_lr(optim, progress, recipe)
        optim.zero_grad(set_to_none=True)
        network.train()(torch.randn(4, 3, 32, 32)).square().mean().backward()
        optim.step()
        return {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}

    assert step(0.2) == {"classifier.weight", "classifier.bias"}
    assert "stem.conv.weight" in step(0.3)
    assert all(p.requires_grad for p in network.parameters())


def test_fine_tuning_keeps_what_was_stated() -> None:
    assert fine_tuning(Recipe()).model_dump() == Recipe().model_dump() | dict(FINE_TUNING)
    stated = Recipe(lr=0.3, layer_decay=0.5, trivial_augment=True)
    kept = fine_tuning(stated)
    assert (kept.lr, kept.layer_decay, kept.trivial_augment) == (0.3, 0.5, True)
    assert kept.classifier_first == FINE_TUNING["classifier_first"]
