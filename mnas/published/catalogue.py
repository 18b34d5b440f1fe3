"""The published weights of the reference networks: names, licences, training data, accuracies, places.

timm's figures are of its results/results-imagenet.csv, torchvision's of its models' own documentation; both are top-1
on ImageNet-1k at 224 px. Once-for-all's (arXiv 1908.09791) are supernets, for which no single figure is published.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnas.errors import BadInput, nearest

IMAGENET, IMAGENET_21K = "ImageNet-1k", "ImageNet-21k-P, then ImageNet-1k"


@dataclass(frozen=True)
class Hub:
    """A file in a repository of the Hugging Face hub."""

    repo: str
    file: str = "model.safetensors"


@dataclass(frozen=True)
class Url:
    """A file at an address; the last part of its name begins its SHA-256 checksum, as torch.hub reads it."""

    address: str
    git_blob: str = ""
    """The checksum of a file without one in its name: what git calls its content in the repository that has it."""

    @property
    def file(self) -> str:
        """The file's name."""
        return self.address.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """The first digits of the checksum."""
        return self.file.rpartition("-")[2].partition(".")[0]


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that somebody published for a reference network."""

    name: str
    """Such as timm/mobilenetv3_large_100.ra_in1k."""
    network: str
    """The network, as `load_architecture` reads it: mobilenet_v3_small@0.75."""
    place: Hub | Url
    licence: str
    trained_on: str
    top1: float | None
    """Published top-1 accuracy on ImageNet-1k at 224 px, in percent."""
    normalisation: str = "imagenet"
    """Of the pixels in training, a key of `mnas.nn.origin.NORMALISATIONS`."""
    space: str = ""
    """The search space of a supernet; `network` is then the reference of that space."""


def _timm(
    model: str, network: str, top1: float, trained_on: str = IMAGENET, normalisation: str = "imagenet"
) -> PublishedWeights:
    name = f"timm/{model}"
    return PublishedWeights(name, network, Hub(name), "Apache-2.0", trained_on, top1, normalisation)


def _torchvision(tag: str, network: str, file: str, top1: float) -> PublishedWeights:
    address = f"https://download.pytorch.org/models/{file}"
    return PublishedWeights(f"torchvision/{tag}", network, Url(address), "BSD-3-Clause", IMAGENET, top1)


def _once_for_all(model: str, space: str, git_blob: str) -> PublishedWeights:
    address = f"https://raw.githubusercontent.com/han-cai/files/master/ofa/ofa_nets/{model}"
    place = Url(address, git_blob)
    return PublishedWeights(
        f"ofa/{model}", "mobilenet_v3_large", place, "Apache-2.0", IMAGENET, top1=None, space=space
    )


CATALOGUE: tuple[PublishedWeights, ...] = (
    _timm("mobilenetv3_large_100.miil_in21k_ft_in1k", "mobilenet_v3_large", 77.92, IMAGENET_21K, "unit"),
    _timm("mobilenetv3_large_100.ra4_e3600_r224_in1k", "mobilenet_v3_large", 76.31, normalisation="inception"),
    _timm("mobilenetv3_large_100.ra_in1k", "mobilenet_v3_large", 75.78),
    _torchvision("mobilenet_v3_large.IMAGENET1K_V2", "mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth", 75.27),
    _torchvision("mobilenet_v3_large.IMAGENET1K_V1", "mobilenet_v3_large", "mobilenet_v3_large-8738ca79.pth", 74.04),
    _torchvision("mobilenet_v3_small.IMAGENET1K_V1", "mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth", 67.67),
    _timm("mobilenetv3_small_100.lamb_in1k", "mobilenet_v3_small", 67.64),
    _timm("mobilenetv3_small_075.lamb_in1k", "mobilenet_v3_small@0.75", 65.28),
    _timm("mobilenetv2_100.ra_in1k", "mobilenet_v2", 72.91),
    _torchvision("mobilenet_v2.IMAGENET1K_V2", "mobilenet_v2", "mobilenet_v2-7ebf99e0.pth", 72.15),
    _torchvision("mobilenet_v2.IMAGENET1K_V1", "mobilenet_v2", "mobilenet_v2-b0353104.pth", 71.88),
    _timm("mobilenetv2_140.ra_in1k", "mobilenet_v2@1.4", 76.53),
    _timm("mobilenetv2_050.lamb_in1k", "mobilenet_v2@0.5", 65.93),
    _timm("mobilenetv1_100.ra4_e3600_r224_in1k", "mobilenet_v1", 75.39, normalisation="inception"),
    _timm("mobilenetv1_125.ra4_e3600_r224_in1k", "mobilenet_v1@1.25", 76.92, normalisation="inception"),
    _timm("semnasnet_100.rmsp_in1k", "mnasnet_a1", 75.45),
    _timm("semnasnet_075.rmsp_in1k", "mnasnet_a1@0.75", 73.0),
    _timm("mnasnet_100.rmsp_in1k", "mnasnet_b1", 74.67),
    _torchvision("mnasnet1_0.IMAGENET1K_V1", "mnasnet_b1", "mnasnet1.0_top1_73.512-f206786ef8.pth", 73.46),
    _torchvision("mnasnet1_3.IMAGENET1K_V1", "mnasnet_b1@1.3", "mnasnet1_3-a4c69d6f.pth", 76.51),
    _torchvision("mnasnet0_75.IMAGENET1K_V1", "mnasnet_b1@0.75", "mnasnet0_75-7090bc5f.pth", 71.18),
    _torchvision("mnasnet0_5.IMAGENET1K_V1", "mnasnet_b1@0.5", "mnasnet0.5_top1_67.823-3ffadce67e.pth", 67.73),
    _timm("mnasnet_small.lamb_in1k", "mnasnet_small", 66.2),
    _once_for_all("ofa_mbv3_d234_e346_k357_w1.0", "ofa_mbv3_w1.0", "55d835981d8acd1053657a951b18887a724ddcbf"),
    _once_for_all("ofa_mbv3_d234_e346_k357_w1.2", "ofa_mbv3", "d75a3613bae216091f61fc4b7df77d49cc82ed32"),
)
"""All that is known, the first of a network being its default."""


def weights_of(network: str) -> tuple[PublishedWeights, ...]:
    """The weights of a network (NAME or NAME@WIDTH), the default first; no supernets."""
    return tuple(weights for weights in CATALOGUE if weights.network == network and not weights.space)


def supernets_of(space: str) -> tuple[PublishedWeights, ...]:
    """The published supernets of a search space."""
    return tuple(weights for weights in CATALOGUE if space and weights.space == space)


def find(name: str) -> PublishedWeights:
    """The weights of that name; timm's and once-for-all's may be named without 'timm/' and 'ofa/'. Raises BadInput."""
    by_name = {weights.name: weights for weights in CATALOGUE}
    found = by_name.get(name) or by_name.get(f"timm/{name}") or by_name.get(f"ofa/{name}")
    if found is None:
        raise BadInput(f"--pretrained {name}: unknown weights{nearest(name, by_name)}; `mnas zoo` lists them")
    return found
