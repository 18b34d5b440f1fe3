"""Networks near the references."""

from __future__ import annotations

import random

import mnas
from mnas.pipeline.neighbours import FAR, LEAST, MOST, is_near, neighbours
from mnas.space.architecture import Architecture

SPACE = mnas.load_space("v3_small").with_resolutions((48, 64))
SMALL = mnas.zoo.get("mobilenet_v3_small", resolution=48)
LARGE = mnas.zoo.get("mobilenet_v3_large", resolution=48)


def anything(_: Architecture) -> bool:
    return True


def test_neighbours_differ_in_a_few_choices_and_cost_no_more() -> None:
    found = neighbours(SPACE, [SMALL], 12, anything, random.Random(0))
    own = SPACE.encode(SMALL)
    assert len(set(found)) == 12
    assert SMALL not in found
    for arch in found:
        choices = SPACE.encode(arch)
        assert arch.resolution == 48
        assert sum(choices.get(name) != choice for name, choice in own.items()) <= FAR * len(own)
        assert LEAST <= mnas.cost(arch).madds / mnas.cost(SMALL).madds <= MOST
        assert is_near(SPACE, arch, SMALL)


def test_each_reference_of_the_space_has_some() -> None:
    larger = mnas.zoo.get("mobilenet_v3_small", resolution=64)
    found = neighbours(SPACE, [SMALL, LARGE, larger], 10, anything, random.Random(0))
    assert LARGE not in SPACE
    sizes = [arch.resolution for arch in found]
    assert min(sizes.count(48), sizes.count(64)) >= 3
    assert neighbours(SPACE, [LARGE], 10, anything, random.Random(0)) == []
    assert not is_near(SPACE, found[0], LARGE)


def test_only_what_is_allowed_and_the_same_again_for_a_seed() -> None:
    def light(arch: Architecture) -> bool:
        return mnas.cost(arch).madds < mnas.cost(SMALL).madds

    found = neighbours(SPACE, [SMALL], 5, light, random.Random(3))
    assert all(map(light, found))
    assert found == neighbours(SPACE, [SMALL], 5, light, random.Random(3))
    assert neighbours(SPACE, [SMALL], 5, lambda arch: False, random.Random(3)) == []


def test_what_is_drawn_at_random_is_seldom_near() -> None:
    rng = random.Random(0)
    assert not any(is_near(SPACE, SPACE.sample(rng), SMALL) for _ in range(200))
    assert is_near(SPACE, SMALL, SMALL)
