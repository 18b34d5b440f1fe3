"""SSDLite computes and detects what torchvision's does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from references import reference
from torch import nn

import mnas
from mnas.errors import BadInput
from mnas.nn.detection import DetectionNetwork, Threshold, detection_network, load_torchvision_detection
from mnas.space import zoo

PARAMETERS = 3_440_060
CLASSES = 91


def params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(scope="module")
def theirs() -> Any:
    make = reference("torchvision").models.detection.ssdlite320_mobilenet_v3_large
    torch.manual_seed(0)
    network = make(weights=None, weights_backbone=None)
    for module in network.modules():  # statistics and weights that tell boxes and classes apart
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.02, 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def ours(theirs: Any) -> DetectionNetwork:
    network = detection_network(zoo.reduced_tail(zoo.get("mobilenet_v3_large", resolution=320)), CLASSES)
    return load_torchvision_detection(network, theirs.state_dict()).eval()


def test_has_torchvisions_parameters(theirs: Any, ours: DetectionNetwork) -> None:
    assert params(ours) == params(theirs) == PARAMETERS


def test_detects_what_torchvisions_does(
    theirs: Any, ours: DetectionNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("torchvision.extension._has_ops", lambda: True)  # its nms, or that of our references
    x = torch.rand(2, 3, 320, 320, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = list(theirs.backbone((x - 0.5) / 0.5).values())
        outputs = theirs.head(features)
        scores, offsets, _ = ours((x - 0.5) / 0.5)
        torch.testing.assert_close(scores, outputs["cls_logits"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(offsets, outputs["bbox_regression"], rtol=1e-4, atol=1e-4)
        wanted = theirs(list(x))
        found = ours.detect((x - 0.5) / 0.5)
    for one, other in zip(found, wanted, strict=True):
        assert len(one.scores) == 300
        assert len(set(other["labels"].tolist())) > 3, "classes are told apart"
        torch.testing.assert_close(one.scores, other["scores"], rtol=1e-4, atol=1e-4)
        # equal scores may be in another order, and cut off elsewhere
        near = (one.boxes[:, None] - other["boxes"]).abs().amax(-1) < 0.05
        equal = near & (one.labels[:, None] == other["labels"])
        equal &= (one.scores[:, None] - other["scores"]).abs() < 1e-4
        assert equal.any(1).float().mean() > 0.99


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mnasnet_a1"])
def test_any_network_learns_to_detect(name: str) -> None:
    arch = zoo.get(name, width=0.35, resolution=96)
    network = detection_network(arch, 4, network=mnas.build(arch)).train()
    scores, offsets, defaults = network(torch.randn(4, 3, 192, 256))
    assert scores.shape == (4, len(defaults), 4)
    assert offsets.shape == (4, len(defaults), 4)
    (scores.square().mean() + offsets.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    (found,) = network.eval().detect(torch.zeros(1, 3, 192, 256), Threshold(at_most=7))
    assert len(found.boxes) == len(found.scores) == len(found.labels) <= 7


def test_weights_that_do_not_fit_are_refused(theirs: Any) -> None:
    network = detection_network(zoo.get("mobilenet_v3_large"), CLASSES)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(BadInput, match="does not fit"):
        load_torchvision_detection(network, theirs.state_dict())
    with pytest.raises(BadInput, match="ssdlite320_mobilenet_v3_large"):
        load_torchvision_detection(network, {})
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
