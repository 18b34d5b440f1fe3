"""A network as a PyTorch file that a person would have written, which imports torch alone, and its weights."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from mnas.errors import BadInput
from mnas.export import weights
from mnas.export.checks import check_equal, plain_copy
from mnas.export.source import block_sources, docstring, network_source, tuple_source
from mnas.io.files import write_atomic
from mnas.nn.network import Network
from mnas.space.architecture import Architecture
from mnas.space.cost import cost

TOLERANCE = 1e-5
TEMPLATE = '''\
{docstring}

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn

RESOLUTION = {resolution}  # height and width of the images, in pixels
{classes}

{blocks}


{network}


{load_weights}


def build_model(pretrained: bool = True) -> nn.Module:
    """The trained network in eval mode; with pretrained=False an untrained one in training mode."""
    model = Network()
    if pretrained:
        model.load_state_dict(load_weights(Path(__file__).with_name("weights.safetensors")))
        model.eval()
    return model


if __name__ == "__main__":
    model = build_model()
    images = torch.zeros(1, 3, RESOLUTION, RESOLUTION)
    with torch.inference_mode():
        logits = model(images)
    params = sum(parameter.numel() for parameter in model.parameters())
    print(f"{{params:,}} parameters; {{tuple(images.shape)}} to {{tuple(logits.shape)}}")
'''


def model_source(arch: Architecture, classes: Sequence[str], *, title: str, notes: Sequence[str] = ()) -> str:
    """The text of model.py: `build_model()` gives the network with the weights of the file beside it."""
    costs, size = cost(arch, len(classes)), arch.resolution
    about = [
        title if title.endswith((".", "!", "?")) else f"{title}.",
        f"{costs.params:,} parameters, {costs.madds / 1e6:,.1f} M multiply-adds at {size}x{size}.",
        "Written by mnas, which searches image networks that keep a latency budget on a device "
        f"(architecture {arch.id}). It needs torch alone: build_model() gives the trained network, with the weights of "
        "weights.safetensors beside this file.",
        *notes,
    ]
    return TEMPLATE.format(
        docstring=docstring(about),
        resolution=size,
        classes=tuple_source("CLASSES", classes),
        blocks=block_sources(arch),
        network=network_source(arch, len(classes)),
        load_weights=inspect.getsource(weights.load_weights).rstrip(),
    )


def export_pytorch(
    network: Network, arch: Architecture, folder: Path, *, classes: Sequence[str], title: str, notes: Sequence[str] = ()
) -> list[Path]:
    """Write model.py, weights.safetensors and its sha256; MnasError where model.py computes other logits."""
    plain = plain_copy(network)
    state = {name: value.detach().contiguous() for name, value in plain.state_dict().items()}
    outputs = len(state["classifier.bias"])
    if len(classes) != outputs:
        raise BadInput(f"classes: expected {outputs} names, one for each output of the network, got {len(classes)}")
    source = model_source(arch, classes, title=title, notes=notes)
    data = save(state)
    weights_path, model_path = folder / "weights.safetensors", folder / "model.py"
    digest_path = folder / f"{weights_path.name}.sha256"
    write_atomic(weights_path, data)
    write_atomic(digest_path, f"{hashlib.sha256(data).hexdigest()}  {weights_path.name}\n")
    write_atomic(model_path, source)
    module: dict[str, Any] = {"__name__": "model", "__file__": str(model_path)}
    exec(compile(source, str(model_path), "exec"), module)  # an import would leave __pycache__ in the folder
    images = torch.randn(2, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        again = module["build_model"]()(images)
    check_equal(plain, images, again, TOLERANCE, str(model_path))
    return [model_path, weights_path, digest_path]
