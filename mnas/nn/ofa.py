"""Once-for-all's supernets of MobileNetV3 (arXiv 1908.09791), as published, as supernets of the spaces `ofa_mbv3*`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnas.errors import BadInput
from mnas.nn.layouts import unwrap
from mnas.nn.supernet import Supernet
from mnas.space.space import SearchSpace, load_space

SPACES = {16: "ofa_mbv3_w1.0", 24: "ofa_mbv3"}
"""The space by the channels of the first convolution."""
BN_EPS = 1e-5

_MBCONV = {
    "inverted_bottleneck.conv": "conv_pw", "inverted_bottleneck.bn": "bn1",
    "depth_conv.conv": "conv_dw", "depth_conv.bn": "bn2",
    "depth_conv.se.fc.reduce": "se.conv_reduce", "depth_conv.se.fc.expand": "se.conv_expand",
    "point_linear.conv": "conv_pwl", "point_linear.bn": "bn3",
}  # fmt: skip
_SEPCONV = {
    "depth_conv.conv": "conv_dw", "depth_conv.bn": "bn1", "point_linear.conv": "conv_pw", "point_linear.bn": "bn2",
}  # fmt: skip
_ENDS = {
    "first_conv.conv": "stem.conv.conv", "first_conv.bn": "stem.conv.bn1",
    "final_expand_layer.conv": "head.0.conv.conv", "final_expand_layer.bn": "head.0.conv.bn1",
    "feature_mix_layer.conv": "head.2.linear.linear", "classifier.linear": "head.3.linear",
}  # fmt: skip
"""OFA's name of a module (in a block, at the ends) -> the one here (in a block, in a supernet)."""

_PUBLISHED = "expected the published ofa_mbv3_d234_e346_k357_w1.0 or ofa_mbv3_d234_e346_k357_w1.2"
_ABSENT = "num_batches_tracked"


def is_ofa(state_dict: Any) -> bool:
    """Whether a file's content has the names of once-for-all's code, of whichever network."""
    try:
        names = unwrap(state_dict)
    except BadInput:
        return False
    return any(name.startswith(("first_conv.", "input_stem.")) for name in names)


def load_ofa(state_dict: Mapping[str, Any]) -> Supernet:
    """The published supernet: each of its subnets computes what OFA's code computes. In training mode.

    The width is told by the channels, the number of classes by the classifier. Raises BadInput.
    """
    tensors = {_plain(name): tensor for name, tensor in unwrap(state_dict).items()}
    space, classes = _space_of(tensors), tensors.get("classifier.linear.weight")
    if classes is None:
        raise BadInput(f"OFA's weights: no 'classifier.linear.weight'; {_PUBLISHED}")
    supernet = Supernet(space, len(classes), kernel_transforms=True)
    names, filled = supernet_names(space), {}
    for own, tensor in supernet.state_dict().items():
        module, _, leaf = own.rpartition(".")
        theirs = f"{names[module]}.{leaf}"
        if leaf == _ABSENT or theirs == "feature_mix_layer.conv.bias":
            filled[own] = tensor.zero_()
            continue
        if theirs not in tensors:
            raise BadInput(f"OFA's weights: no '{theirs}'; {_PUBLISHED} (supernets, not networks taken from them)")
        value = tensors.pop(theirs)
        value = value.flatten(1) if theirs == "feature_mix_layer.conv.weight" else value
        if value.shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, got {tuple(value.shape)}"
            raise BadInput(f"OFA's weights: expected '{theirs}' of shape {shapes}; {_PUBLISHED}")
        filled[own] = value
    if surplus := [name for name in tensors if not name.endswith(_ABSENT)]:
        raise BadInput(f"OFA's weights: '{surplus[0]}' has no place in space '{space.name}'; {_PUBLISHED}")
    supernet.load_state_dict(filled)
    return supernet


def _space_of(tensors: Mapping[str, Tensor]) -> SearchSpace:
    first = tensors.get("first_conv.conv.weight")
    if first is None or not any(name.startswith("final_expand_layer.") for name in tensors):
        raise BadInput(f"OFA's weights, of another network than MobileNetV3; {_PUBLISHED}")
    if len(first) not in SPACES:
        raise BadInput(f"OFA's weights: the first convolution has {len(first)} channels; {_PUBLISHED}")
    return load_space(SPACES[len(first)])


def _plain(name: str) -> str:
    """One name for what OFA's versions call differently: blocks.1.mobile_inverted_conv.depth_conv.conv.conv.weight."""
    name = name.replace(".mobile_inverted_conv.", ".conv.")
    return re.sub(r"\.(conv|bn|linear)\.\1\.", r".\1.", name)


def supernet_names(space: SearchSpace) -> dict[str, str]:
    """The supernet's name of each module -> OFA's."""
    names = {own: theirs for theirs, own in _ENDS.items()}
    block = 0
    for number, stage in enumerate(space.file.stages):
        operator, inside = ("sepconv", _SEPCONV) if stage.expansion == (1,) else ("mbconv", _MBCONV)
        for position in range(max(stage.depth)):
            for theirs, own in inside.items():
                names[f"stages.{number}.{position}.{operator}.{own}"] = f"blocks.{block}.conv.{theirs}"
            block += 1
    return names
