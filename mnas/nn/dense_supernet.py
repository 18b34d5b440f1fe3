"""The weight-sharing network of a search space under one shared head, of which every subnet has its slices."""

from __future__ import annotations

import functools
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mnas.nn import blocks
from mnas.nn.dense import dense_network
from mnas.nn.detection import DetectionNetwork, detection_network_of
from mnas.nn.features import Features
from mnas.nn.network import Network
from mnas.nn.segmentation import SegmentationNetwork, segmentation_network_of
from mnas.nn.slot import slice_of
from mnas.nn.supernet import Supernet, extremes, modules_of
from mnas.space.architecture import Architecture
from mnas.space.dense import DenseHead, tap_indices
from mnas.space.layer import Layer
from mnas.space.space import SearchSpace
from mnas.space.taps import Tap


class DenseSupernet(Supernet):
    """All networks of a space under a head in one set of weights: the backbones', and those of the largest head.

    A subnet's head has the leading channels of each of its tensors. `forward` gives what a network's loss takes.
    """

    def __init__(self, space: SearchSpace, head: DenseHead, kernel_transforms: bool = False, auxiliary: bool = False):
        self.dense_head, self.auxiliary = head, auxiliary
        super().__init__(space, head.num_classes, kernel_transforms)
        channels = zip(*([tap.channels for _, tap in self._taps(arch)] for arch in extremes(space)), strict=True)
        self.heads = _Heads(_network_of(head, tuple(map(max, channels)), auxiliary))

    def forward(self, x: Tensor, arch: Architecture, dropout: float = 0.0) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Images (b, 3, h, w) to what `for_loss` of the subnet's network gives; heads have a dropout of their own."""
        maps, images = list[Tensor](), x
        taps = self._taps(arch)
        wanted = {(index, tap.expanded) for index, tap in taps}
        x = x[:, : arch.channels] if x.shape[1] > arch.channels else x
        for number, (layer, slot) in enumerate(self.walk(arch)):
            if (number, True) in wanted:
                expanded, x = slot.with_expansion(x, layer, arch.bn_eps)
                maps.append(expanded)
            else:
                x = slot(x, layer, arch.bn_eps)
            if (number, False) in wanted:
                maps.append(x)
        template, tensors = self._head_of(arch)
        template.train(self.training)
        outputs: tuple[Tensor, ...] = functional_call(template, tensors, (maps, images))
        return outputs

    def extract(self, arch: Architecture) -> nn.Module:  # type: ignore[override]
        """A network under the head with copies of the weights and statistics of `arch`."""
        with torch.device("meta"):
            network = dense_network(
                arch, self.dense_head, network=Network(arch, 1), auxiliary=self.auxiliary
            )
        for module, (layer, slot) in zip(network.backbone.body(), self.walk(arch), strict=True):
            copies = {name: tensor.detach().clone() for name, tensor in slot.tensors(layer).items()}
            module.load_state_dict(copies, assign=True)
        _, tensors = self._head_of(arch)
        heads = {name.removeprefix("network."): tensor.detach().clone() for name, tensor in tensors.items()}
        network.load_state_dict(heads, strict=False, assign=True)
        return network.train(self.training)

    def plain(self, arch: Architecture) -> Network:
        """A classifier of one class with copies of the backbone's weights."""
        network = Network(arch, 1)
        blocks.init_weights(network)
        for module, (layer, slot) in zip(modules_of(network), self.walk(arch), strict=False):
            module.load_state_dict({name: tensor.detach().clone() for name, tensor in slot.tensors(layer).items()})
        return network

    def layers_of(self, arch: Architecture) -> tuple[Layer, ...]:
        return arch.layers(self.dense_head)[:-1]

    def _taps(self, arch: Architecture) -> list[tuple[int, Tap]]:
        return tap_indices(arch, self.dense_head, auxiliary=self.auxiliary)

    def _head_of(self, arch: Architecture) -> tuple[nn.Module, dict[str, Tensor]]:
        """The subnet's head without weights, and its slices of the shared ones by their names in it."""
        channels = tuple(tap.channels for _, tap in self._taps(arch))
        template = _template(self.dense_head, channels, self.auxiliary)
        full = dict(self.heads.named_parameters()) | dict(self.heads.named_buffers())
        return template, {
            name: slice_of(full[name], tensor.shape) if tensor.dim() else full[name]
            for name, tensor in template.state_dict().items()
        }


class _Heads(nn.Module):
    """A network's heads, from feature maps."""

    def __init__(self, network: SegmentationNetwork | DetectionNetwork):
        super().__init__()
        self.network = network

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, ...]:
        return self.network.of_maps(maps, images)


@functools.lru_cache(maxsize=1024)
def _template(head: DenseHead, channels: tuple[int, ...], auxiliary: bool) -> nn.Module:
    with torch.device("meta"):
        return _Heads(_network_of(head, channels, auxiliary))


def _network_of(
    head: DenseHead, channels: tuple[int, ...], auxiliary: bool
) -> SegmentationNetwork | DetectionNetwork:
    """A network without a backbone, whose feature maps have these channels."""
    backbone = cast(Features, nn.Identity())
    if head.name == "ssdlite":
        return detection_network_of(backbone, channels, head.num_classes)
    return segmentation_network_of(
        backbone, head.name, channels, head.num_classes, output_stride=head.output_stride, auxiliary=auxiliary
    )
