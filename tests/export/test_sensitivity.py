from __future__ import annotations

import torch
from handmade import HAND_MADE, usual_network
from torch import nn

from mnas.export.quantize.sensitivity import most_sensitive, quantisable_layers


def test_the_layer_that_int8_hurts_most_comes_first() -> None:
    """The first layer's input and weights are whole steps of int8, so that rounding changes nothing."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        network[0].weight.copy_(torch.randint(-127, 128, (8, 8)))
        network[0].weight[:, 0] = 127
    images = torch.randint(0, 256, (16, 8)).float()
    images[0, :2] = torch.tensor([0.0, 255.0])
    assert most_sensitive(network, images) == ["2", "0"]


def test_every_layer_is_judged_and_none_changed() -> None:
    torch.manual_seed(0)
    network = usual_network(HAND_MADE["inverted_residuals"], 4)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    assert sorted(most_sensitive(network, torch.randn(8, 3, 32, 32))) == sorted(quantisable_layers(network))
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
