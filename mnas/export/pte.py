"""A network as an ExecuTorch program for XNNPACK. Lowering takes more than a second a layer, about ten a network."""

from __future__ import annotations

import importlib
import itertools
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mnas.io.silence import silence
from mnas.nn import blocks
from mnas.nn.gates import clipped_gates

with silence(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside of executorch and of what it imports
    exir: Any = importlib.import_module("executorch.exir")
    passes: Any = importlib.import_module("executorch.exir.passes")
    xnnpack: Any = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")


def pte_program(module: nn.Module, example: Tensor) -> bytes:
    """The content of a .pte file of `module`, for contiguous inputs of exactly the shape of `example`."""
    # contiguous, not channels_last, with which MobileNetV3-Small took 17% longer (224 pixels, one thread)
    return lowered(lowerable(module), example.contiguous())


def lowered(module: nn.Module, example: Tensor) -> bytes:
    """The program of a module that is `lowerable`."""
    with warnings.catch_warnings(), torch.no_grad(), silence():
        # torch's and executorch's own use of what others deprecated
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        exported = torch.export.export(module, (example,))
        edge = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
        # otherwise each run would first copy its input
        planning = passes.MemoryPlanningPass(alloc_graph_input=False)
        program: bytes = edge.to_executorch(exir.ExecutorchBackendConfig(memory_planning_pass=planning)).buffer
    return program


class _PoolAndCut(nn.Module):
    """A PoolSkip to fewer channels without negative padding, which ExecuTorch does not run."""

    def __init__(self, skip: blocks.PoolSkip):
        super().__init__()
        self.pool, self.missing = skip.pool, skip.missing

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(x)[:, : self.missing]
        return out


class _Pooled(nn.Module):
    """Squeeze-and-excitation whose mean is a pooling layer, which XNNPACK's quantizer knows."""

    def __init__(self, se: blocks.SqueezeExcite):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv_reduce, self.act, self.conv_expand, self.gate = se.conv_reduce, se.act, se.conv_expand, se.gate

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(self.conv_expand(self.act(self.conv_reduce(self.pool(x)))))
        return out


def lowerable(module: nn.Module) -> nn.Module:
    """A copy that XNNPACK takes whole: MobileNetV3-Large runs 7% faster (224 px, ExecuTorch 1.5), in int8 9%.

    Means are poolings, since a mean without kept dimensions is left to a slow kernel, gates are clipped convolutions,
    and batch norms are folded; the lowering would fold them too, but takes a third longer. Weights are in the default
    memory layout, which the lowering expects.
    """
    own = clipped_gates(module)
    if isinstance(own, blocks.Pool):
        return _pooling()
    for part in list(own.modules()):
        if isinstance(part, blocks.ConvBNAct | blocks.SepConv | blocks.MBConv):
            _fold(part)
            if isinstance(part.shortcut, blocks.PoolSkip) and part.shortcut.missing < 0:
                part.shortcut = _PoolAndCut(part.shortcut)
        for name, child in list(part.named_children()):
            if isinstance(child, blocks.SqueezeExcite):
                setattr(part, name, _Pooled(child))
            elif isinstance(child, blocks.Pool):
                setattr(part, name, _pooling())
    for parameter in own.parameters():
        # a clone: contiguous() keeps the strides that channels_last gave a 1x1 kernel
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return own


def _pooling() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))


def _fold(block: nn.Module) -> None:
    """Folds each batch norm of a block into the convolution before it."""
    for (name, conv), (norm_name, norm) in itertools.pairwise(list(block.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(block, name, fuse_conv_bn_eval(conv, norm))
            setattr(block, norm_name, nn.Identity())
