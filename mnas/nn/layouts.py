"""State dicts as training programs write them: out of their wrappers, and which library's names they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnas.errors import BadInput
from mnas.space import zoo

LAYOUTS: dict[str, tuple[str, ...]] = {
    "torchvision": ("features", "layers", "classifier"),
    "timm": ("conv_stem", "bn1", "blocks", "conv_head", "bn2", "classifier"),
    "mnas": ("stem", "blocks", "conv_head", "hidden", "classifier"),
}
"""Each layout's outermost names, in the order in which the network runs them."""

_WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "network", "net",
)  # fmt: skip
"""Where training checkpoints keep the weights, the averaged ones first."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.")
"""What wrappers put before each name, in any order: DDP, torch.compile, Lightning modules."""
_COUNTERS = ("n_averaged",)
"""What averaged models hold beside the weights (torch.optim.swa_utils)."""


def unwrap(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Name -> tensor, taken out of a training checkpoint, without the prefixes of wrapper modules.

    A classifier beside a prefixed body has no prefix. Raises BadInput.
    """
    while isinstance(state_dict, Mapping):
        inside = [state_dict[key] for key in _WRAPPERS if isinstance(state_dict.get(key), Mapping)]
        if not inside:
            break
        state_dict = inside[0]
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise BadInput(f"weights: expected tensors by name, got {_kind(state_dict)}. {expected()}")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise BadInput(f"weights: expected a tensor at '{name}', got {_kind(value)}. {expected()}")
    names = {name: name for name in state_dict if name not in _COUNTERS}
    while prefix := next((one for one in _PREFIXES if _is_before_all(one, names.values())), ""):
        names = {full: name.removeprefix(prefix) for full, name in names.items()}
    return {name: state_dict[full] for full, name in names.items()}


def layout_of(tensors: Mapping[str, Tensor]) -> str:
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
            + f". {expected()}"
        )
    return layout


def eps_of_layout(tensors: Mapping[str, Tensor]) -> float | None:
    """BatchNorm's eps where these names were trained; None for mnas's own, which say it in architecture.yaml.

    It is 1e-3 in torchvision's MobileNetV3, whose blocks are called `block`, and 1e-5 in its other networks and timm's.
    Raises BadInput.
    """
    layout = layout_of(tensors)
    if layout == "mnas":
        return None
    is_v3 = layout == "torchvision" and any(name.startswith("features.1.block.") for name in tensors)
    return 1e-3 if is_v3 else 1e-5


def expected() -> str:
    """What may be given: the end of a refusal."""
    return f"Weights fit the equal network at the same width; the reference networks are {', '.join(zoo.names())}"


def _is_before_all(prefix: str, names: Any) -> bool:
    """Whether every name but a classifier's begins with `prefix`."""
    body = [name for name in names if not name.startswith("classifier.")]
    return bool(body) and all(name.startswith(prefix) for name in body)


def _kind(value: object) -> str:
    return "none" if isinstance(value, Mapping) else type(value).__name__
