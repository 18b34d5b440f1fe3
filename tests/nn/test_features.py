"""Backbones: feature maps, their description, and dilation in place of strides."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from references import reference
from torch import nn

import mnas
from mnas.errors import BadInput
from mnas.nn.features import features_of
from mnas.nn.pretrained import load_reference
from mnas.space import zoo
from mnas.space.taps import body_of, first_at


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small", "mobilenet_v2", "mnasnet_a1"])
def test_shapes_are_as_described(name: str, output_stride: int) -> None:
    backbone = mnas.build(zoo.get(name, width=0.35), features_only=True, output_stride=output_stride)
    maps = backbone.eval()(torch.zeros(1, 3, 64, 96))
    info = backbone.feature_info
    assert info.reduction() == [min(stride, output_stride) for stride in (4, 8, 16, 32)]
    assert [tuple(one.shape) for one in maps] == [
        (1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(info.channels(), info.reduction(), strict=True)
    ]
    assert all(isinstance(backbone.get_submodule(module), nn.Module) for module in info.module_name())


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small", "mobilenet_v2"])
def test_timms_feature_maps(name: str) -> None:
    theirs = {"mobilenet_v2": "mobilenetv2_100"}.get(name, name.replace("_v3", "v3") + "_100")
    timm = reference("timm").create_model(theirs, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    classifier = reference("timm").create_model(theirs).eval()
    classifier.load_state_dict(timm.state_dict(), strict=False)
    arch = replace(zoo.get(name), bn_eps=1e-5)
    network = load_reference(mnas.build(arch), classifier.state_dict()).eval()
    backbone = features_of(network, arch)
    assert backbone.feature_info.channels() == timm.feature_info.channels()
    assert backbone.feature_info.reduction() == timm.feature_info.reduction()
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for ours, wanted in zip(backbone(x), timm(x), strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_weights_of_the_network_are_kept() -> None:
    arch = zoo.get("mobilenet_v3_small", width=0.35)
    network = mnas.build(arch).eval()
    backbone = features_of(network, arch).eval()
    body = [name for name in network.state_dict() if not name.startswith(("hidden", "classifier"))]
    assert body == list(backbone.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        logits = network.classifier(network.hidden(network.pool(backbone(x)[-1])))
        torch.testing.assert_close(logits, network(x))


def test_any_network_of_a_space_is_a_backbone() -> None:
    space, rng = mnas.load_space("v3_large"), random.Random(0)
    for arch in [space.sample(rng) for _ in range(5)]:
        backbone = mnas.build(arch, features_only=True, output_stride=16).eval()
        maps = backbone(torch.zeros(1, 3, 64, 64))
        assert [one.shape[-1] for one in maps] == [64 // stride for stride in backbone.feature_info.reduction()]


def test_dilation_changes_no_parameter_and_sees_as_far() -> None:
    arch = zoo.get("mobilenet_v3_small", width=0.35)
    network = mnas.build(arch)
    plain, dilated = features_of(network, arch).eval(), features_of(network, arch, 16).eval()
    assert plain.state_dict().keys() == dilated.state_dict().keys()
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        coarse, fine = plain(x), dilated(x)
    for ours, wanted in zip(fine[:3], coarse[:3], strict=True):
        torch.testing.assert_close(ours, wanted)
    assert fine[-1].shape[-1] == 2 * coarse[-1].shape[-1]


def test_grey_networks_take_colours() -> None:
    arch = zoo.get("mobilenet_v3_small", width=0.35, channels=1)
    assert len(mnas.build(arch, features_only=True)(torch.zeros(2, 3, 64, 64))) == 4


def test_bad_input() -> None:
    arch = zoo.get("mobilenet_v3_small", width=0.35)
    with pytest.raises(BadInput, match="output_stride 4: expected 8, 16, 32"):
        mnas.build(arch, features_only=True, output_stride=4)
    with pytest.raises(BadInput, match="stride 64: this network has 2, 4, 8, 16, 32"):
        first_at(arch, 64)
    assert [tap.stride for tap in body_of(arch)][-1] == 32
