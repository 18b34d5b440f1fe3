"""Stochastic depth, from outside of the blocks: their source text, which is exported, does not know of it."""

from __future__ import annotations

from torch import Tensor, is_grad_enabled, nn
from torch.nn import functional as F

from mnas.nn.blocks import ConvBNAct, MBConv, SepConv
from mnas.nn.features import Features
from mnas.nn.network import Network


def set_drop_path(network: Network | Features, rate: float) -> None:
    """From now on leave blocks of `network` out at random, for single images, where a shortcut replaces them.

    Stochastic depth (arXiv 1603.09382) as in timm: block i of n with the probability rate * i / n (i from 0), and what
    is kept is scaled so that its mean stays. 0 ends it. `rate` lies in [0, 1).

    It acts in training mode while gradients are recorded. A pass that collects batch normalisation's statistics
    therefore sees every block, and so does an evaluation; parameters and state_dict stay as they are. A copy of the
    network takes the setting along. Torch's global generator decides, as it does for dropout.
    """
    blocks = list(network.blocks.children())
    for number, block in enumerate(blocks):
        if (last := _last_of_branch(block)) is not None:
            if not hasattr(last, "drop_path"):
                last.register_forward_hook(_drop)
            last.drop_path = rate * number / len(blocks)  # type: ignore[assignment]


def _last_of_branch(block: nn.Module) -> nn.Module | None:
    """The module whose output is added to the shortcut; None where there is no shortcut."""
    if getattr(block, "shortcut", None) is None:
        return None
    match block:
        case MBConv():
            return block.bn3
        case SepConv():
            return block.act2
        case ConvBNAct():
            return block.act1
    return None


def _drop(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
    """A forward hook: zero for some images (b, c, h, w), the others scaled up."""
    rate = module.drop_path
    if not (rate and module.training and is_grad_enabled()):
        return None
    return out * F.dropout(out.new_ones(len(out), 1, 1, 1), rate)  # type: ignore[arg-type]
