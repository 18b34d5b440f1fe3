"""Published weights of the reference networks, in the layouts of torchvision, timm and mnas, loaded into networks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn, no_grad

from mnas.errors import BadInput
from mnas.io.strict_yaml import read_text
from mnas.nn.layouts import LAYOUTS, eps_of_layout, expected, layout_of, unwrap
from mnas.nn.ofa import BN_EPS, is_ofa
from mnas.nn.weights import read_weights, weights_file
from mnas.space.architecture import Architecture

log = logging.getLogger("mnas")

Model = TypeVar("Model", bound=nn.Module)

_MBCONV = ("conv_pw", "bn1", "conv_dw", "bn2", "se", "conv_pwl", "bn3", "conv_reduce", "conv_expand")
_SEPCONV = ("conv", "conv_dw", "bn1", "se", "conv_pw", "bn2", "conv_reduce", "conv_expand")
"""The names inside a block, in the order in which it runs them; a plain convolution's are among the second."""

_IGNORED = "num_batches_tracked"


class ModuleWeights(NamedTuple):
    """The tensors of one module in a state dict."""

    name: str
    tensors: dict[str, Tensor]


def load_reference(network: Model, state_dict: Mapping[str, Any]) -> Model:
    """Fill `network`, or a backbone (`Features`), with weights of the equal network of torchvision, timm or mnas.

    A classifier for another number of classes keeps its weights, and so does a head that the state dict lacks. A first
    convolution of other input channels is summed or repeated as in timm. Raises BadInput with the first module that
    does not fit, and then changes nothing. A state dict does not contain BatchNorm's eps: see `bn_eps_of`.
    """
    tensors = unwrap(state_dict)
    layout = layout_of(tensors)
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
    if absent := _absent_head(sources, targets):
        log.info("%s not loaded: the weights have none", ", ".join(absent))
    elif len(sources) != len(targets):
        raise BadInput(
            f"{layout} weights have {len(sources)} modules and the network {len(targets)}: "
            f"{_first_unpaired(sources, targets)}. {expected()}"
        )
    _warn_about_eps(eps_of_layout(tensors), _eps_of(network))
    with no_grad():
        for (_, (_, module)), values in zip(pairs, fitted, strict=True):
            own = _own(module)
            for name, value in values.items():
                own[name].copy_(value)
    return network


def classes_of(state_dict: Mapping[str, Any]) -> int:
    """The number of classes of a state dict in a known layout; 1 where it has no classifier. Raises BadInput."""
    tensors = unwrap(state_dict)
    last = _in_order(tensors, layout_of(tensors))[-1]
    return len(last.tensors["bias"]) if last.name.startswith("classifier") and "bias" in last.tensors else 1


def bn_eps_of(weights: str | Path | Mapping[str, Any]) -> float | None:
    """BatchNorm's eps in the network that a file (or its content) is of; None where nothing says it.

    A winner's architecture.yaml states it; timm's and once-for-all's networks have 1e-5, torchvision's V3 1e-3. Raises
    BadInput where the file is of no known layout.
    """
    if isinstance(weights, Mapping):
        return BN_EPS if is_ofa(weights) else eps_of_layout(unwrap(weights))
    if beside := architecture_beside(weights):
        return beside[1].bn_eps
    try:
        return bn_eps_of({"model": read_weights(weights)})
    except BadInput as error:
        text = str(error)
        raise BadInput(text if text.startswith(str(weights)) else f"{weights}: {text}") from None


def architecture_beside(path: str | Path) -> tuple[str, Architecture] | None:
    """The file in a winner's folder that says what its weights are of, and what it says."""
    file = weights_file(path)
    arch_file = file.with_name("architecture.yaml")
    if file.name != "weights.safetensors" or not arch_file.exists():
        return None
    return str(arch_file), Architecture.from_yaml(read_text(arch_file), str(arch_file))


def check_shapes(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise BadInput with the first tensor that only one of two state dicts has, or in another shape."""
    for name in sorted(own.keys() | given.keys()):
        there, here = (tuple(one[name].shape) if name in one else "nothing" for one in (given, own))
        if there != here:
            raise BadInput(f"weights: '{name}' does not fit: {there} in the weights, {here} in the network")


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
        raise BadInput(f"{where}: expected {wanted}, got {given}. {expected()}")
    fitted = {}
    for leaf, tensor in source.tensors.items():
        shape = own[leaf].shape
        # timm's V3 runs the hidden linear layer as a 1x1 convolution after pooling
        as_linear = isinstance(module, nn.Linear) and tensor.shape == (*shape, 1, 1)
        value = tensor.flatten(1) if as_linear else tensor
        if name == "stem.conv" and value.ndim == 4 and value.shape[1] != shape[1]:
            value = _of_channels(value, shape[1])
        if value.shape != shape:
            got = tuple(tensor.shape)
            raise BadInput(f"{where}: expected {leaf} of shape {tuple(shape)}, got {got}. {expected()}")
        fitted[leaf] = value
    return fitted


def _of_channels(kernel: Tensor, channels: int) -> Tensor:
    """A first convolution for images of so many channels, as in timm: summed for one, else repeated and rescaled."""
    given = kernel.shape[1]
    if channels == 1:
        log.info("first convolution: the weights of %d input channels are summed for 1", given)
        return kernel.float().sum(1, keepdim=True)
    log.info("first convolution: the weights of %d input channels are repeated or cut, scaled, for %d", given, channels)
    return kernel.float().repeat(1, -(-channels // given), 1, 1)[:, :channels] * (given / channels)


def _absent_head(sources: list[ModuleWeights], targets: list[tuple[str, nn.Module]]) -> list[str]:
    """The parts of the network's head that weights without a classifier end before."""
    missing = [name.partition(".")[0] for name, _ in targets[len(sources) :]]
    has_classifier = any(source.name.startswith("classifier") for source in sources)
    if has_classifier or not set(missing) <= {"conv_head", "hidden", "classifier"}:
        return []
    return list(dict.fromkeys(missing))


def _first_unpaired(sources: list[ModuleWeights], targets: list[tuple[str, nn.Module]]) -> str:
    """The first module that has no counterpart, where one side is longer."""
    if len(sources) > len(targets):
        extra = sources[len(targets)]
        shapes = ", ".join(f"{leaf} {tuple(tensor.shape)}" for leaf, tensor in sorted(extra.tensors.items()))
        return f"the network has no module for '{extra.name}' ({shapes})"
    name, module = targets[len(sources)]
    shapes = ", ".join(f"{leaf} {tuple(tensor.shape)}" for leaf, tensor in sorted(_own(module).items()))
    return f"the weights have nothing for the network's '{name}' ({shapes})"


def _eps_of(network: nn.Module) -> float:
    """The eps of a network's BatchNorm layers."""
    return next(module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def _warn_about_eps(trained: float | None, used: float) -> None:
    if trained is not None and trained != used:
        log.warning(
            "the weights were trained with BatchNorm eps %g and this network has %g, so their outputs differ; for "
            "equal outputs build dataclasses.replace(arch, bn_eps=%g), or load_space(...).with_bn_eps(%g)",
            trained, used, trained, trained,
        )  # fmt: skip
