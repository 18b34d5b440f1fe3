"""The catalogue: every entry is of a network of the zoo, and says what the libraries say."""

from __future__ import annotations

import pytest
from references import reference

from mnas.errors import BadInput
from mnas.nn.network import build
from mnas.nn.origin import NORMALISATIONS
from mnas.nn.pretrained import load_reference
from mnas.published.catalogue import CATALOGUE, Hub, PublishedWeights, Url, find, supernets_of, weights_of
from mnas.space import zoo
from mnas.space.space import load_space

NAMES = [weights.name for weights in CATALOGUE]
OF_NETWORKS = [weights for weights in CATALOGUE if not weights.space]


def test_names_are_unique_and_found() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for weights in CATALOGUE:
        assert find(weights.name) is weights
        assert (weights in weights_of(weights.network)) == (not weights.space)
        assert weights.normalisation in NORMALISATIONS
        zoo.load_architecture(weights.network)
        assert not weights.space or load_space(weights.space).reference == weights.network
    assert find("ofa_mbv3_d234_e346_k357_w1.2").space == "ofa_mbv3"
    assert find("mobilenetv3_large_100.ra_in1k").name == "timm/mobilenetv3_large_100.ra_in1k"
    with pytest.raises(BadInput, match="ra_in1k"):
        find("mobilenetv3_large_100.ra_in2k")


def test_every_reference_network_has_weights() -> None:
    for name in zoo.names():
        assert weights_of(name), name


def test_a_space_of_once_for_all_has_its_supernet() -> None:
    for space in ("ofa_mbv3", "ofa_mbv3_w1.0"):
        assert [weights.space for weights in supernets_of(space)] == [space]
    assert supernets_of("") == supernets_of("v3_large") == ()


def test_published_in21k_weights_come_first() -> None:
    assert weights_of("mobilenet_v3_large")[0].name == "timm/mobilenetv3_large_100.miil_in21k_ft_in1k"
    assert weights_of("mobilenet_v3_large")[0].top1 == 77.92


@pytest.mark.parametrize("weights", OF_NETWORKS, ids=lambda weights: weights.name)
def test_it_says_what_the_library_says(weights: PublishedWeights) -> None:
    model = weights.name.partition("/")[2]
    if isinstance(weights.place, Hub):
        timm = reference("timm")
        cfg = timm.models.get_pretrained_cfg(model)
        assert cfg is not None and cfg.hf_hub_id == weights.place.repo
        assert (cfg.mean, cfg.std) == NORMALISATIONS[weights.normalisation]
        assert cfg.license.lower() == weights.licence.lower()
        network = timm.create_model(model.partition(".")[0], pretrained=False)
    else:
        assert isinstance(weights.place, Url)
        models = reference("torchvision").models
        name, tag = model.split(".")
        entry = models.get_weight(f"{models.get_model_weights(name).__name__}.{tag}")
        assert entry.url == weights.place.address
        assert round(entry.meta["_metrics"]["ImageNet-1K"]["acc@1"], 2) == weights.top1
        assert len(weights.place.sha256) >= 8
        network = models.get_model(name, weights=None)
    load_reference(build(zoo.load_architecture(weights.network), 1000), network.state_dict())
