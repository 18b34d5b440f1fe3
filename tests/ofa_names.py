"""A supernet's weights as once-for-all's code names them."""

from __future__ import annotations

from torch import Tensor

from mnas.nn.ofa import supernet_names
from mnas.nn.supernet import Supernet


def ofa_named(supernet: Supernet) -> dict[str, Tensor]:
    """The state of a supernet of one of OFA's spaces."""
    names, state = supernet_names(supernet.space), {}
    for name, tensor in supernet.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if name != "head.2.linear.linear.bias":
            state[f"{names[module]}.{leaf}"] = tensor[..., None, None] if "head.2" in name else tensor
    return state
