"""Reference networks against torchvision and timm: parameters, MAdds, and the largest difference of outputs.

    pip install --no-deps torchvision==0.28.0 timm ofa
    python benchmarks/parity.py

Weights and batch normalisation statistics are random and equal on both sides; images are 224x224. Once-for-all's two
supernets are compared too: random subnets, with random kernel transforms.
"""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from common import options_parser, save

import mnas
from mnas.nn.ofa import load_ofa

PAIRS = [  # the name in mnas, the library, the name there
    ("mobilenet_v1", "timm", "mobilenetv1_100"),
    ("mobilenet_v2", "torchvision", "mobilenet_v2"),
    ("mobilenet_v2@0.5", "timm", "mobilenetv2_050"),
    ("mobilenet_v2@1.4", "timm", "mobilenetv2_140"),
    ("mobilenet_v3_large", "torchvision", "mobilenet_v3_large"),
    ("mobilenet_v3_small", "torchvision", "mobilenet_v3_small"),
    ("mobilenet_v3_small@0.75", "timm", "mobilenetv3_small_075"),
    ("mnasnet_b1", "torchvision", "mnasnet1_0"),
    ("mnasnet_a1", "timm", "semnasnet_100"),
    ("mnasnet_small", "timm", "mnasnet_small"),
]


def library(name: str) -> ModuleType:
    """torchvision or timm, imported as the tests import it."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from references import reference

    return reference(name)


def randomise(network: torch.nn.Module) -> None:
    """Give batch normalisation statistics that no new network has, so that eps and order matter."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=generator))
            assert module.running_var is not None
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))


@torch.no_grad()
def compare(name: str, package: str, name_there: str) -> dict[str, Any]:
    models = library(package)
    torch.manual_seed(0)
    make = models.create_model if package == "timm" else models.models.get_model
    theirs = make(name_there)
    randomise(theirs)
    arch = mnas.zoo.load_architecture(name)
    if package == "timm":
        arch = dataclasses.replace(arch, bn_eps=1e-5)
    ours = mnas.load_reference(mnas.build(arch), theirs.state_dict()).eval()
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    cost = mnas.cost(arch)
    return {
        "same_as": f"{package} {name_there}", "params": cost.params, "madds_millions": round(cost.madds / 1e6, 3),
        "params_equal": cost.params == sum(p.numel() for p in theirs.parameters()),
        "largest_output_difference": float((ours(x) - theirs.eval()(x)).abs().max()),
    }  # fmt: skip


SUPERNETS = {"ofa_mbv3_w1.0": 1.0, "ofa_mbv3": 1.2}
SUBNETS = 20


@torch.no_grad()
def compare_supernet(space: str, width: float) -> dict[str, Any]:
    """Subnets of once-for-all's supernet, run by its code and as networks of the space."""
    library("torchvision")
    from references import once_for_all

    torch.manual_seed(0)
    options = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
    theirs = once_for_all().OFAMobileNetV3(width_mult=width, dropout_rate=0, **options)
    randomise(theirs)
    for name, matrix in theirs.named_parameters():
        if name.endswith("_matrix"):
            matrix.add_(0.1 * torch.randn_like(matrix))
    ours, rng = load_ofa({"state_dict": theirs.eval().state_dict()}).eval(), random.Random(0)
    x, worst = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2)), 0.0
    for _ in range(SUBNETS):
        depths = rng.choices([2, 3, 4], k=5)
        kernels, expansions = rng.choices([3, 5, 7], k=20), rng.choices([3, 4, 6], k=20)
        theirs.set_active_subnet(ks=kernels, e=expansions, d=depths)
        choices: dict[str, Any] = {f"stage{i + 2}.depth": depth for i, depth in enumerate(depths)} | {"resolution": 224}
        for i, (kernel, expansion) in enumerate(zip(kernels, expansions, strict=True)):
            layer = f"stage{i // 4 + 2}.layer{i % 4 + 1}"
            choices |= {f"{layer}.kernel": kernel, f"{layer}.expansion": expansion}
        network = ours.extract(ours.space.decode(choices))
        worst = max(worst, float((network(x) - theirs(x)).abs().max()))
    return {"same_as": f"ofa OFAMobileNetV3 {width}", "subnets": SUBNETS, "largest_output_difference": worst}


def main(arguments: Sequence[str] | None = None) -> None:
    options_parser(__doc__).parse_args(arguments)
    save("parity", {name: compare(name, package, name_there) for name, package, name_there in PAIRS})
    save("parity_ofa", {space: compare_supernet(space, width) for space, width in SUPERNETS.items()})


if __name__ == "__main__":
    main()
