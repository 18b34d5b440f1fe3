"""A space without some choices has just the networks that lack them, and the references follow."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_search import TINY_SPACE

from mnas.errors import BadInput
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block
from mnas.space.layer import round_channels
from mnas.space.narrowing import adapted, narrowed, option_names
from mnas.space.space import SearchSpace, load_space

LACKS: dict[str, Callable[[Block], bool]] = {
    "se": lambda block: block.se == 0,
    "kernel5": lambda block: block.kernel != 5,
    "relu6": lambda block: block.activation != "relu6",
    "pool": lambda block: block.skip != "pool",
}
"""Choices of `CHOICES`, and whether a block lacks them."""
CHOICES = """
name: choices
reference: mobilenet_v3_small
resolution: 32
stem: {channels: 8, activation: relu}
stages:
  - {channels: 8, stride: 1, depth: 1, kernel: 3, expansion: 1, activation: relu}
  - channels: 16
    stride: 2
    depth: [1, 2]
    operator: [sepconv, mbconv]
    kernel: [3, 5]
    expansion: [2, 3]
    se: [0, 0.25]
    activation: [relu, relu6]
    skip: [none, identity, pool]
head: {channels: 16, activation: relu}
"""


@pytest.fixture
def choices(tmp_path: Path) -> SearchSpace:
    (tmp_path / "choices.yaml").write_text(CHOICES)
    return load_space(tmp_path / "choices.yaml")


@pytest.fixture
def tiny(tmp_path: Path) -> SearchSpace:
    (tmp_path / "tiny.yaml").write_text(TINY_SPACE)
    return load_space(tmp_path / "tiny.yaml")


@pytest.mark.parametrize("names", ["se", "kernel5", "relu6", "pool", "se,kernel5", "pool,relu6,se"])
def test_it_has_just_the_networks_without_the_choices(choices: SearchSpace, names: str) -> None:
    left = choices.without(names)
    lacking = {
        arch for arch in choices.enumerate()
        if all(LACKS[name](block) for name in names.split(",") for block in arch.blocks)
    }  # fmt: skip
    found = set(left.enumerate())
    assert found == lacking
    assert left.size == len(found) < choices.size
    assert all(left.decode(left.encode(arch)) == arch for arch in found)
    assert left.layers(10) == {layer for arch in found for layer in arch.layers(10)}


def test_an_expansion_is_left_out(choices: SearchSpace) -> None:
    left = choices.without(["expand3"])
    assert {block.hidden / 8 for arch in left.enumerate() for block in arch.blocks[1:2] if block.hidden} == {2}
    assert left.size < choices.size


def test_its_name_says_what_is_left_out_and_one_may_go_on(choices: SearchSpace) -> None:
    left = choices.without(" se , kernel5,")
    assert left.name == "choices without se, kernel5"
    again = left.without(["se", "pool"])
    assert again.name == "choices without se, kernel5, pool"
    assert again.file == choices.without("se,kernel5,pool").file
    assert choices.without("") is choices is choices.without([])


def test_a_spaces_file_may_say_it(tmp_path: Path, choices: SearchSpace) -> None:
    path = tmp_path / "narrow.yaml"
    path.write_text(CHOICES + "without: [se, kernel5]\n")
    assert load_space(path).file == choices.without("se,kernel5").file
    path.write_text(yaml.safe_dump(load_space(path).file.model_dump(mode="json")))
    assert load_space(path).file == choices.without("se,kernel5").file


@pytest.mark.parametrize(("name", "space", "meant"), [
    ("kernel9", "v3_large", "kernel7"), ("hardswish", "v3_large", "hard_swish"), ("kernel7", "mnasnet", "kernel5"),
    ("SE", "v3_small", ""), ("expand5", "v2", "expand"), ("width", "v3_large", ""),
])  # fmt: skip
def test_an_unknown_name_gets_the_nearest_ones(name: str, space: str, meant: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_space(space).without(name)
    text = str(caught.value)
    assert text.startswith(f"--without {name}: ")
    assert meant in text.partition("Known: ")[0]
    assert text.partition("Known: ")[2].split(", ") == sorted(option_names(load_space(space).file))


@pytest.mark.parametrize(("name", "space", "stage"), [
    ("se", "ofa_mbv3", 3), ("hard_swish", "ofa_mbv3", 4), ("kernel3", "v1", 1), ("relu6", "v1", 1),
    ("kernel3,kernel5,kernel7", "v3_large", 1), ("relu,hard_swish", "v3_large", 1), ("expand1", "v3_large", 1),
    ("expand3,expand4,expand6", "v2", 2),
])  # fmt: skip
def test_the_only_one_of_a_stage_cannot_be_left_out(name: str, space: str, stage: int) -> None:
    with pytest.raises(BadInput, match=rf"^--without \S+: stage {stage} of space '{space}' "):
        load_space(space).without(name)


def test_stem_and_head_lose_an_activation_too() -> None:
    left = load_space("v3_large").without("hard_swish")
    arch = left.sample(random.Random(0))
    assert {arch.stem.activation, arch.head.activation, *(block.activation for block in arch.blocks)} == {"relu"}
    left = load_space("v3_large").without("relu")
    assert {block.activation for block in left.sample(random.Random(0)).blocks} == {"hard_swish"}


# --- reference networks


@pytest.mark.parametrize(("space", "names", "had"), [
    ("v3_large", "kernel7", ""), ("v3_large", "se,kernel7", "se"),
    ("v3_large", "se,hard_swish,kernel7", "se, hard_swish"),
    ("v3_large", "kernel3", "kernel3"), ("v3_large", "kernel5", "kernel5"), ("v3_large", "expand6", "expand6"),
    ("v3_large", "relu", "relu"), ("v3_small", "hard_swish,kernel5", "hard_swish, kernel5"),
    ("v2", "expand6", "expand6"),
    ("mnasnet", "se", "se"), ("mnasnet", "kernel5,expand6,se", "kernel5, expand6, se"), ("mnasnet", "pool", ""),
])  # fmt: skip
def test_the_reference_follows_and_is_in_the_space(space: str, names: str, had: str) -> None:
    whole = load_space(space)
    left = whole.without(names)
    published = whole.published(whole.reference)
    name, arch = left.rival(whole.reference)
    assert name == (f"{whole.reference} without {had}" if had else whole.reference)
    assert arch in left
    assert (arch == published) == (not had)
    assert left.published(whole.reference) == published, "what weights are published of"
    assert whole.rival(whole.reference) == (whole.reference, published)


def test_what_the_reference_becomes() -> None:
    left = load_space("v3_large").without("se,hard_swish,kernel5,expand6")
    _, arch = left.rival("mobilenet_v3_large")
    before = zoo.get("mobilenet_v3_large")
    assert not any(block.se for block in arch.blocks)
    assert {block.kernel for block in arch.blocks} == {3}
    assert {arch.stem.activation, arch.head.activation, *(block.activation for block in arch.blocks)} == {"relu"}
    assert [row[0].channels for row in arch.stages] == [row[0].channels for row in before.stages]
    assert [block.hidden for block in arch.stages[4]] == [320, 448]  # 80 x 4, 112 x 4
    assert [block.hidden for block in arch.stages[3]] == [160, 200, 184, 184]  # 40 x 4
    assert arch.head.channels == before.head.channels


def test_squeezed_channels_follow_the_hidden_ones() -> None:
    left = load_space("v3_large").without("expand6")
    _, arch = left.rival("mobilenet_v3_large")
    for block in arch.blocks:
        assert block.se in (0, round_channels(block.hidden / 4))
    _, grey = left.with_channels(1).rival("mobilenet_v3_large@0.5:160")
    assert (grey.channels, grey.resolution) == (1, 160)


def test_a_network_of_another_design_is_adapted_too(tiny: SearchSpace) -> None:
    left = tiny.without("se,kernel5")
    name, arch = left.rival("mobilenet_v3_small@0.5:48")
    assert name == "mobilenet_v3_small@0.5:48 without se, kernel5"
    assert {block.kernel for block in arch.blocks} == {3} and not any(block.se for block in arch.blocks)
    assert isinstance(arch, Architecture)
    again, had = adapted(arch, narrowed(tiny.file, ["se", "kernel5"]))
    assert (again, had) == (arch, ())
