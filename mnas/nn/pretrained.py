"""Published weights of the reference networks, in the layouts of torchvision, timm and mnas, loaded into networks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn, no_grad

from mnas.errors import BadInput
from mnas.io.strict_yaml import read_text
from mnas.nn.network import Network
from mnas.nn.supernet import Supernet
from mnas.nn.weights import read_weights, weights_file
from mnas.space import zoo
from mnas.space.architecture import Architecture

log = logging.getLogger("mnas")

LAYOUTS: dict[str, tuple[str, ...]] = {
    "torchvision": ("features", "layers", "classifier"),
    "timm": ("conv_stem", "bn1", "blocks", "conv_head", "bn2", "classifier"),
    "mnas": ("stem", "blocks", "conv_head", "hidden", "classifier"),
}
"""Each layout's outermost names, in the order in which the network runs them."""

_MBCONV = ("conv_pw", "bn1", "conv_dw", "bn2", "se", "conv_pwl", "bn3", "conv_reduce", "conv_expand")
_SEPCONV = ("conv", "conv_dw", "bn1", "se", "conv_pw", "bn2", "conv_reduce", "conv_expand")
"""The names inside a block, in the order in which it runs them; a plain convolution's are among the second."""

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "network", "net")
"""Where training checkpoints keep the weights, the averaged ones first."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.")
"""What wrappers put before each name, in any order: DDP, torch.compile, Lightning modules."""
_IGNORED = "num_batches_tracked"


class ModuleWeights(NamedTuple):
    """The tensors of one module in a state dict."""

    name: str
    tensors: dict[str, Tensor]


def load_reference(network: Network, state_dict: Mapping[str, Any]) -> Network:
    """Fill `network` with the weights of the equal network of torchvision, timm or mnas, and return it.

    A classifier for another number of classes keeps its weights. Raises BadInput with the first module that does not
    fit, and then changes nothing. A state dict does not contain BatchNorm's eps: it is 1e-3 in torchvision's V3 (and
    here), 1e-5 in timm's.
    """
    tensors = _unwrap(state_dict)
    layout = _layout(tensors)
    sources = _in_order(tensors, layout)
    targets = [(name, module) for name, module in network.named_modules() if _has_weights(module)]
    pairs = list(zip(sources, targets, strict=False))
    if len(sources) == len(targets) and _other_classes(sources[-1], targets[-1][1]):
        log.info(
            "classifier not loaded: the weights have %d classes, the network %d",
            len(sources[-1].tensors["weight"]), network.get_parameter("classifier.weight").shape[0],
        )  # fmt: skip
        pairs.pop()
    fitted = [_fit(source, name, module, layout) for source, (name, module) in pairs]
    if len(sources) != len(targets):
        raise BadInput(
            f"{layout} weights have {len(sources)} modules and the network {len(targets)}: "
            f"{_first_unpaired(sources, targets)}. {_expected()}"
        )
    _warn_about_eps(network, layout)
    with no_grad():
        for (_, (_, module)), values in zip(pairs, fitted, strict=True):
            own = _own(module)
            for name, value in values.items():
                own[name].copy_(value)
    return network


def start_from(supernet: Supernet, path: str | Path) -> Architecture:
    """Fill one subnet of `supernet` with the weights of a file, and return the subnet's architecture.

    `path` is the winner/ folder of a run or its weights.safetensors, or a state dict of the space's reference network.
    The subnet then computes what the file's network does (see `load_reference`); `Supernet.inherit` has the rest.
    Raises BadInput where the file or the space does not fit, and then changes nothing.
    """
    weights, file = read_weights(path), weights_file(path)
    arch_file = file.with_name("architecture.yaml")
    if file.name == "weights.safetensors" and arch_file.exists():
        origin, arch = str(arch_file), Architecture.from_yaml(read_text(arch_file), str(arch_file))
    else:
        origin, arch = f"the reference network {supernet.space.reference}", zoo.get(supernet.space.reference)
        arch = replace(arch, channels=supernet.space.channels)
    arch = replace(arch, resolution=supernet.space.resolutions[0])  # weights do not depend on it
    if arch not in supernet.space:
        raise BadInput(
            f"{path}: these weights do not fit space '{supernet.space.name}', which does not contain {origin}; "
            "give the winner/ folder of a search in this space"
        )
    network = supernet.extract(arch)
    try:
        load_reference(network, weights)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    supernet.inherit(network, arch)
    return arch


def _unwrap(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Name -> tensor, taken out of a training checkpoint, without the prefixes of wrapper modules."""
    while isinstance(state_dict, Mapping):
        inside = [state_dict[key] for key in _WRAPPERS if isinstance(state_dict.get(key), Mapping)]
        if not inside:
            break
        state_dict = inside[0]
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise BadInput(f"weights: expected tensors by name, got {_kind(state_dict)}. {_expected()}")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise BadInput(f"weights: expected a tensor at '{name}', got {_kind(value)}. {_expected()}")
    names = {name: name for name in state_dict}
    while prefix := next((one for one in _PREFIXES if all(name.startswith(one) for name in names.values())), ""):
        names = {full: name.removeprefix(prefix) for full, name in names.items()}
    return {name: state_dict[full] for full, name in names.items()}


def _layout(tensors: Mapping[str, Tensor]) -> str:
    """The layout that has every outermost name. Raises BadInput with a name that the closest layout lacks."""
    outermost = {name.partition(".")[0]: name for name in tensors}
    unknown = {
        layout: sorted(name for top, name in outermost.items() if top not in tops) for layout, tops in LAYOUTS.items()
    }
    layout = min(unknown, key=lambda name: len(unknown[name]))
    if unknown[layout]:
        raise BadInput(
            f"weights: '{unknown[layout][0]}' is in no known layout: expected names that begin with "
            + ", or ".join(f"{' '.join(tops)} ({layout})" for layout, tops in LAYOUTS.items())
            + f". {_expected()}"
        )
    return layout


def _in_order(tensors: Mapping[str, Tensor], layout: str) -> list[ModuleWeights]:
    """The state dict's modules in the order in which the network runs them."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf != _IGNORED:
            modules.setdefault(module, {})[leaf] = tensor
    expanding = {name.removesuffix("conv_pwl") for name in modules if name.endswith(".conv_pwl")}

    def place(name: str) -> list[tuple[int, str]]:
        top, *rest = name.split(".")
        inside = _MBCONV if any(name.startswith(block) for block in expanding) else _SEPCONV
        return [(LAYOUTS[layout].index(top), ""), *(_rank(part, inside) for part in rest)]

    return [ModuleWeights(name, modules[name]) for name in sorted(modules, key=place)]


def _rank(part: str, inside: tuple[str, ...]) -> tuple[int, str]:
    """Numbers by value, known names by their place in the block, others (torchvision's fc1, fc2) by alphabet."""
    if part.isdecimal():
        return int(part), ""
    return (inside.index(part) if part in inside else len(inside)), part


def _has_weights(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)


def _own(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of the module itself that weights fill."""
    named = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return {name: tensor for name, tensor in named if name != _IGNORED}


def _other_classes(source: ModuleWeights, module: nn.Module) -> bool:
    """Whether both are classifiers of equal features for different numbers of classes."""
    shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
    if not isinstance(module, nn.Linear) or sorted(shapes) != ["bias", "weight"] or len(shapes["weight"]) != 2:
        return False
    classes, features = shapes["weight"]
    return features == module.in_features and classes != module.out_features and shapes["bias"] == (classes,)


def _fit(source: ModuleWeights, name: str, module: nn.Module, layout: str) -> dict[str, Tensor]:
    """The source's tensors in the shapes of the network's module `name`."""
    where = f"{layout} weights, module '{source.name}', for the network's '{name}' ({type(module).__name__})"
    own = _own(module)
    if source.tensors.keys() != own.keys():
        wanted, given = ", ".join(sorted(own)), ", ".join(sorted(source.tensors))
        raise BadInput(f"{where}: expected {wanted}, got {given}. {_expected()}")
    fitted = {}
    for leaf, tensor in source.tensors.items():
        shape = own[leaf].shape
        # timm's V3 runs the hidden linear layer as a 1x1 convolution after pooling
        as_linear = isinstance(module, nn.Linear) and tensor.shape == (*shape, 1, 1)
        value = tensor.flatten(1) if as_linear else tensor
        if value.ndim == 4 and value.shape[1] == 3 and shape[1] == 1:  # of colours, for grey images (as timm does)
            value = value.sum(1, keepdim=True)
        if value.shape != shape:
            got = tuple(tensor.shape)
            raise BadInput(f"{where}: expected {leaf} of shape {tuple(shape)}, got {got}. {_expected()}")
        fitted[leaf] = value
    return fitted


def _first_unpaired(sources: list[ModuleWeights], targets: list[tuple[str, nn.Module]]) -> str:
    """The first module that has no counterpart, where one side is longer."""
    if len(sources) > len(targets):
        extra = sources[len(targets)]
        shapes = ", ".join(f"{leaf} {tuple(tensor.shape)}" for leaf, tensor in sorted(extra.tensors.items()))
        return f"the network has no module for '{extra.name}' ({shapes})"
    name, module = targets[len(sources)]
    shapes = ", ".join(f"{leaf} {tuple(tensor.shape)}" for leaf, tensor in sorted(_own(module).items()))
    return f"the weights have nothing for the network's '{name}' ({shapes})"


def _warn_about_eps(network: Network, layout: str) -> None:
    norms = (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    if layout == "timm" and any(norm.eps == 1e-3 for norm in norms):
        log.warning(
            "timm's MobileNetV3 has BatchNorm eps 1e-5 and this network 1e-3, so their outputs differ; "
            "for equal outputs build dataclasses.replace(arch, bn_eps=1e-5)"
        )


def _kind(value: object) -> str:
    return "none" if isinstance(value, Mapping) else type(value).__name__


def _expected() -> str:
    return f"Weights fit the equal network at the same width; the reference networks are {', '.join(zoo.names())}"
