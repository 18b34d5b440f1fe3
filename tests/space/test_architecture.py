"""Architectures as data: canonical form, YAML, sizes, errors."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from handmade import STEM, tiny
from hypothesis import given, settings
from strategies import architectures

from mnas.errors import BadInput
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block, Head

# --- canonical form ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stated", "canonical"), [
    (Block("mbconv", 3, 2, 8, "relu", hidden=24, skip="identity"), Block("mbconv", 3, 2, 8, "relu", hidden=24)),
    (Block("mbconv", 3, 1, 9, "relu", hidden=24, skip="identity"), Block("mbconv", 3, 1, 9, "relu", hidden=24)),
    (Block("mbconv", 3, 1, 16, "relu", hidden=8, se=2), Block("sepconv", 3, 1, 16, "relu", se=2)),
    (Block("sepconv", 3, 1, 16, "relu", hidden=24), Block("sepconv", 3, 1, 16, "relu")),
    (Block("conv", 3, 1, 16, "relu", hidden=24, se=4), Block("conv", 3, 1, 16, "relu")),
    (Block("conv", 3, 1, 16, "relu", output_activation="relu"), Block("conv", 3, 1, 16, "relu")),
    (Block("mbconv", 3, 1, 16, "relu", hidden=9, output_activation="relu"),
     Block("mbconv", 3, 1, 16, "relu", hidden=9)),
    (Block("mbconv", 3, 1, 16, "relu", hidden=8, output_activation="relu"), Block("sepconv", 3, 1, 16, "relu")),
])  # fmt: skip
def test_what_has_no_effect_is_not_stated(stated: Block, canonical: Block) -> None:
    one, other = tiny(stated), tiny(canonical)
    assert one.blocks == (canonical,)
    assert one == other
    assert hash(one) == hash(other)
    assert one.id == other.id


@pytest.mark.parametrize("block", [
    Block("mbconv", 3, 1, 8, "relu", hidden=24, skip="identity"),
    Block("conv", 3, 1, 8, "relu", skip="identity"),
    Block("sepconv", 3, 2, 12, "relu", skip="pool", output_activation="relu6"),
])  # fmt: skip
def test_what_has_an_effect_stays(block: Block) -> None:
    assert tiny(block).blocks == (block,)


def test_a_stem_is_canonical_too() -> None:
    arch = replace(tiny(Block("conv", 3, 1, 8, "relu")), stem=replace(STEM, hidden=4, se=4, skip="identity"))
    assert arch.stem == STEM


def test_a_gate_that_nothing_uses_is_not_stated() -> None:
    one, other = tiny(STEM, gate="sigmoid"), tiny(STEM, gate="hard_sigmoid")
    assert one == other
    assert hash(one) == hash(other)
    assert one.id == other.id
    gated = Block("sepconv", 3, 1, 8, "relu", se=4)
    assert tiny(gated, gate="sigmoid") != tiny(gated, gate="hard_sigmoid")


def test_a_head_activation_that_nothing_uses_is_not_stated() -> None:
    assert tiny(STEM, head=Head(0, 0, "relu")) == tiny(STEM, head=Head(0, 0, "none"))


def test_different_networks_differ() -> None:
    archs = {zoo.get(name, width, size) for name in zoo.names() for width in (0.5, 1.0) for size in (192, 224)}
    assert len(archs) == len({arch.id for arch in archs}) == 4 * len(zoo.names())


@settings(deadline=None, max_examples=30)
@given(architectures())
def test_canonical_form_is_a_fixed_point(arch: Architecture) -> None:
    again = replace(arch)
    assert again == arch
    assert hash(again) == hash(arch)


# --- as text ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(architectures())
def test_yaml_and_json_give_it_back(arch: Architecture) -> None:
    from_yaml = Architecture.from_yaml(arch.to_yaml())
    from_json = Architecture.from_dict(json.loads(json.dumps(arch.to_dict())))
    assert from_yaml == from_json == arch
    assert hash(from_yaml) == hash(arch)
    assert from_yaml.id == arch.id
    assert from_yaml.to_yaml() == arch.to_yaml()


def test_yaml_is_one_row_a_block() -> None:
    arch = tiny(Block("mbconv", 5, 1, 8, "relu", hidden=24, se=4, skip="identity"), STEM)
    assert arch.to_yaml() == """\
resolution: 32
gate: hard_sigmoid
bn_eps: 1.0e-05
stem: {operator: conv, kernel: 3, stride: 2, channels: 8, activation: relu}
stages:
- - {operator: mbconv, kernel: 5, stride: 1, channels: 8, activation: relu, hidden: 24, se: 4, skip: identity}
  - {operator: conv, kernel: 3, stride: 2, channels: 8, activation: relu}
head: {channels: 0, hidden: 0, activation: none}
"""


def test_an_id_is_stable() -> None:
    assert len(zoo.get("mobilenet_v3_large").id) == 10
    assert tiny(STEM).id == tiny(STEM).id != tiny(STEM, STEM).id


TEXT = tiny(Block("mbconv", 5, 1, 8, "relu", hidden=24, se=4)).to_yaml()


@pytest.mark.parametrize(("old", "new", "parts"), [
    ("resolution:", "resolutoin:", "'resolutoin'; did you mean 'resolution'"),
    ("kernel: 5", "kernal: 5", "'stages[0][0].kernal'"),
    ("kernel: 5, ", "", "'stages[0][0].kernel'"),
    ("kernel: 5", "kernel: five", "stages[0][0].kernel: |'five'"),
    ("kernel: 5", "kernel: 5.0", "stages[0][0].kernel: |5.0"),
    ("kernel: 5", "kernel: true", "stages[0][0].kernel: |True"),
    ("kernel: 5", "kernel: 4", "kernel 4"),
    ("kernel: 5", "kernel: -1", "kernel -1"),
    ("stride: 1", "stride: 3", "stride 3"),
    ("channels: 8, activation: relu, hidden: 24", "channels: 0, activation: relu", "channels 0"),
    ("hidden: 24, ", "", "hidden 0|mbconv"),
    ("se: 4", "se: -4", "se -4"),
    ("mbconv", "mbconf", "stages[0][0].operator: |'sepconv'|'mbconf'"),
    ("stem: {operator: conv", "stem: {operator: sepconv", "stem.operator sepconv"),
    ("activation: none", "activation: swish", "head.activation: |'relu6'|'swish'"),
    ("gate: hard_sigmoid", "gate: tanh", "gate: |'sigmoid'|'tanh'"),
    ("resolution: 32", "resolution: 7", "resolution 7| 8 "),
    ("resolution: 32", "resolution: no", "line 1: |'no'"),
    ("bn_eps: 1.0e-05", "bn_eps: 1e-5", "line 3: |'1e-5'"),
    ("resolution: 32", "resolution: 32\nresolution: 64", "line 2: |'resolution'"),
])  # fmt: skip
def test_errors_name_file_place_and_value(old: str, new: str, parts: str) -> None:
    assert TEXT.count(old) >= 1
    with pytest.raises(BadInput) as caught:
        Architecture.from_yaml(TEXT.replace(old, new, 1), "net.yaml")
    assert str(caught.value).startswith("net.yaml")
    assert str(caught.value).count("net.yaml") == 1
    assert all(part in str(caught.value) for part in parts.split("|"))


@pytest.mark.parametrize(("old", "new", "message"), [
    ("kernel: 5", "kernal: 5", "'stages[0][0].kernal'; did you mean 'kernel'? Known: activation, channels"),
    ("head: {channels", "head: {chanels", "'head.chanels'; did you mean 'channels'? Known: activation, channels"),
    ("resolution:", "resolutoin:", "did you mean 'resolution'? Known: bn_eps, channels, gate, head"),
    ("resolution:", "resolution-px: 3\nresolution:", "unknown key 'resolution-px'"),
])  # fmt: skip
def test_unknown_keys_show_the_known_ones(old: str, new: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        Architecture.from_yaml(TEXT.replace(old, new, 1))
    assert message in str(caught.value)


@pytest.mark.parametrize(("old", "new"), [
    ("head: {channels: 0", "head: {channels: -5"),
    ("head: {channels: 0, hidden: 0", "head: {channels: 0, hidden: -5"),
    ("bn_eps: 1.0e-05", "bn_eps: -1.0"),
    ("bn_eps: 1.0e-05", "bn_eps: .nan"),
    ("bn_eps: 1.0e-05", "bn_eps: .inf"),
])  # fmt: skip
def test_values_of_head_and_eps_are_checked(old: str, new: str) -> None:
    with pytest.raises(BadInput):
        Architecture.from_yaml(TEXT.replace(old, new, 1))


@pytest.mark.parametrize("stages", ["[]", "[[]]"])
def test_stages_must_not_be_empty(stages: str) -> None:
    data = {**tiny(STEM).to_dict(), "stages": json.loads(stages)}
    with pytest.raises(BadInput, match=r"net\.yaml: stages"):
        Architecture.from_dict(data, "net.yaml")


@pytest.mark.parametrize("text", ["", "- 1", "text", "3"])
def test_text_that_is_no_mapping(text: str) -> None:
    with pytest.raises(BadInput, match=r"^net\.yaml: .*mapping"):
        Architecture.from_yaml(text, "net.yaml")


@settings(deadline=None, max_examples=30)
@given(architectures())
def test_copies_are_equal(arch: Architecture) -> None:
    hash(arch)
    for same in (pickle.loads(pickle.dumps(arch)), copy.deepcopy(arch), copy.copy(arch), replace(arch)):
        assert same == arch
        assert hash(same) == hash(arch)
        assert same.layers(10) == arch.layers(10)
        assert same.layer_numbers(10) == arch.layer_numbers(10)
    assert pickle.loads(pickle.dumps(arch.layers())) == arch.layers()
    assert copy.deepcopy(arch.blocks) == arch.blocks


def test_a_pickle_of_another_process() -> None:
    """Text hashes differently there and layers have other numbers, so that neither may travel."""
    program = (
        "import pickle, sys; from mnas import zoo; arch = zoo.get('mobilenet_v3_small');"
        "hash(arch), set(arch.layers()); sys.stdout.buffer.write(pickle.dumps((arch, arch.layers())))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    other, here = zoo.get("mobilenet_v2"), zoo.get("mobilenet_v3_small")
    assert other != here
    arch, layers = pickle.loads(output)
    assert arch in {here}
    assert set(layers) == set(here.layers())
    assert arch.layer_numbers() == here.layer_numbers()


def test_numbers_of_other_types_stay_out() -> None:
    """Equal parts become one object, and 3.0 == 3: what one caller states must not show in another's network."""
    block = Block("mbconv", 3, 1, 8, "relu", hidden=26)  # no other test has 26, and this one states it last
    for odd in (
        replace(block, hidden=26.0),  # type: ignore[arg-type]
        replace(block, kernel=np.int64(3)),  # type: ignore[arg-type]
        replace(block, stride=True),
    ):
        with pytest.raises(BadInput, match=r"Block\("):
            tiny(odd, head=Head(0, 0, "none"))
    for head in (Head(18.0, 0, "relu"), Head(18, np.int64(22), "relu")):  # type: ignore[arg-type]
        with pytest.raises(BadInput, match=r"Head\("):
            tiny(block, head=head)
    with pytest.raises(BadInput, match=r"resolution 32\.0"):
        replace(tiny(block), resolution=32.0)  # type: ignore[arg-type]
    assert type(tiny(block).layers(np.int64(123))[-1].out_channels) is int  # type: ignore[arg-type]
    text = tiny(block, head=Head(18, 22, "relu")).to_yaml()
    assert Architecture.from_yaml(text).to_yaml() == text


def test_it_is_frozen() -> None:
    arch = tiny(STEM)
    for thing, name in ((arch, "resolution"), (arch.stem, "kernel"), (arch.head, "hidden"), (arch.layers()[0], "size")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, 5)
