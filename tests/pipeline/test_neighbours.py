"""Networks near the references."""

from __future__ import annotations

import random

import pytest

import mnas
from mnas.pipeline.neighbours import FAR, LEAST, MOST, neighbours, shallow
from mnas.pipeline.references import WIDTHS
from mnas.space.architecture import Architecture

SPACE = mnas.load_space("v3_small").with_resolutions((48, 64))
SMALL = mnas.zoo.get("mobilenet_v3_small", resolution=48)
LARGE = mnas.zoo.get("mobilenet_v3_large", resolution=48)


def anything(_: Architecture) -> bool:
    return True


@pytest.mark.parametrize("width", WIDTHS)
def test_neighbours_differ_in_a_few_choices_and_cost_no_more(width: float) -> None:
    reference = mnas.zoo.get("mobilenet_v3_small", width, 48)
    space = SPACE.with_width(width)
    found = [*neighbours(SPACE, {"small": reference}, 6, anything, random.Random(0)).values()]
    own = space.encode(reference)
    assert len({*found}) == 6
    assert reference not in found
    for arch in found:
        choices = space.encode(arch)
        assert arch.resolution == 48
        assert sum(choices.get(name) != choice for name, choice in own.items()) <= FAR * len(own)
        assert LEAST <= mnas.cost(arch).madds / mnas.cost(reference).madds <= MOST


def test_each_reference_of_the_spaces_design_has_some_that_are_named_after_it() -> None:
    references = {"small": SMALL, "large": LARGE, "larger": mnas.zoo.get("mobilenet_v3_small", 0.85, 64)}
    found = neighbours(SPACE, references, 10, anything, random.Random(0))
    sizes = {"small": 48, "larger": 64}
    for name, arch in found.items():
        assert arch.resolution == sizes[name.split(" of ")[1]]
    assert [int(name.split()[1]) for name in found] == [*range(1, 11)]
    assert min(sum(name.endswith(f" of {one}") for name in found) for one in sizes) >= 3, "by turns"
    assert neighbours(SPACE, {"large": LARGE}, 10, anything, random.Random(0)) == {}


def test_only_what_is_allowed_and_the_same_again_for_a_seed() -> None:
    def light(arch: Architecture) -> bool:
        return mnas.cost(arch).madds < mnas.cost(SMALL).madds

    found = neighbours(SPACE, {"small": SMALL}, 5, light, random.Random(3))
    assert found and all(map(light, found.values()))
    assert found == neighbours(SPACE, {"small": SMALL}, 5, light, random.Random(3))
    assert neighbours(SPACE, {"small": SMALL}, 5, lambda arch: False, random.Random(3)) == {}


@pytest.mark.parametrize("space", ["v3_small", "v3_large", "v2", "mnasnet"])
def test_a_shallow_one_has_fewer_and_wider_layers(space: str) -> None:
    opened = mnas.load_space(space).with_resolutions((64,))
    reference = mnas.zoo.get(opened.reference, 0.85 if space != "mnasnet" else 1.0, 64)
    arch = shallow(opened, reference)
    assert arch is not None
    assert arch.resolution == 64
    depths = [(len(before), len(after)) for before, after in zip(reference.stages, arch.stages, strict=True)]
    assert all(after in (before - 1, before) for before, after in depths)
    assert sum(after < before for before, after in depths) >= 4
    for before, after in zip(reference.stages, arch.stages, strict=True):
        assert all(one.hidden >= other.hidden and one.channels == other.channels
                   for one, other in zip(after, before, strict=False))  # fmt: skip
    assert mnas.cost(arch).madds < mnas.cost(reference).madds


def test_what_cannot_be_shallower() -> None:
    assert shallow(SPACE, LARGE) is None, "of another design"
    v1 = mnas.load_space("v1").with_resolutions((64,))
    assert shallow(v1, mnas.zoo.get("mobilenet_v1", 0.5, 64)) is None, "without such choices"
    least = shallow(SPACE, SMALL)
    assert least is not None
    assert [len(stage) for stage in least.stages] == [1, 1, 2, 1, 2]
    assert shallow(SPACE, least) is None
