"""Networks for segmentation compute what torchvision's compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from references import reference
from torch import Tensor, nn

import mnas
from mnas.errors import BadInput
from mnas.nn.segmentation import SegmentationNetwork, load_torchvision_segmentation, segmentation_network
from mnas.space import zoo

PARAMETERS = {("lraspp", False): 3_221_538, ("deeplabv3", False): 11_025_477, ("deeplabv3", True): 11_029_328}
"""By head, and whether it has an auxiliary one: of 21 classes."""


def params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def torchvisions(head: str, auxiliary: bool) -> Any:
    make = getattr(reference("torchvision").models.segmentation, f"{head}_mobilenet_v3_large")
    options = {"aux_loss": True} if auxiliary else {}
    torch.manual_seed(0)
    network = make(weights=None, weights_backbone=None, num_classes=21, **options)
    for module in network.modules():  # statistics that a training leaves
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def ours(head: Any, auxiliary: bool = False) -> SegmentationNetwork:
    return segmentation_network(zoo.get("mobilenet_v3_large"), head, 21, auxiliary=auxiliary).eval()


@pytest.mark.parametrize(("head", "auxiliary"), PARAMETERS)
def test_equals_torchvisions(head: str, auxiliary: bool) -> None:
    theirs, network = torchvisions(head, auxiliary), ours(head, auxiliary)
    assert params(network) == params(theirs) == PARAMETERS[head, auxiliary]
    load_torchvision_segmentation(network, theirs.state_dict())
    x = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = theirs(x)
        torch.testing.assert_close(network(x), wanted["out"], rtol=1e-4, atol=1e-4)
        if auxiliary:
            scores, second = network.with_auxiliary(x)
            torch.testing.assert_close(scores, wanted["out"], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(second, wanted["aux"], rtol=1e-4, atol=1e-4)


def test_an_auxiliary_head_may_be_left_out() -> None:
    network = load_torchvision_segmentation(ours("deeplabv3"), torchvisions("deeplabv3", True).state_dict())
    with pytest.raises(BadInput, match="auxiliary=True"):
        network.with_auxiliary(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("head", ["lraspp", "deeplabv3"])
@pytest.mark.parametrize("name", ["mobilenet_v2", "mnasnet_a1", "mobilenet_v3_small"])
def test_any_network_under_any_head_learns(name: str, head: Any) -> None:
    arch = zoo.get(name, width=0.35)
    network = segmentation_network(arch, head, 3, network=mnas.build(arch)).train()
    scores: Tensor = network(torch.randn(2, 3, 64, 96))
    assert scores.shape == (2, 3, 64, 96)
    scores.mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("change", ["missing", "shape", "other"])
def test_weights_that_do_not_fit_are_refused(change: str) -> None:
    network = ours("lraspp")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = {f"backbone.{name}": value for name, value in torchvisions("lraspp", False).backbone.state_dict().items()}
    state |= {name: value for name, value in before.items() if name.startswith("classifier")}
    match change:
        case "missing":
            del state["classifier.cbr.0.weight"]
        case "shape":
            state["classifier.low_classifier.weight"] = torch.zeros(5, 40, 1, 1)
        case "other":
            del state["backbone.4.block.0.0.weight"]
    with pytest.raises(BadInput, match="weights"):
        load_torchvision_segmentation(network, state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(BadInput, match="expected lraspp or deeplabv3"):
        ours("unet")
