"""The sizes at which architectures are trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnas.io.size import Size
from mnas.space import zoo
from mnas.space.space import load_space
from mnas.training.sizes import TrainingSizes, decoded_size, followed_resolutions, native_size, own_size


def test_sizes_shrink_in_proportion(tiny: Path) -> None:
    archs = list(load_space(tiny).enumerate())
    small, full = TrainingSizes(base=48, proxy=16), TrainingSizes(base=48, proxy=48)
    assert {arch.resolution: small.of(arch) for arch in archs} == {32: 12, 48: 16}
    assert {full.of(arch) for arch in archs} == {32, 48}


def test_both_sides_of_rectangles_shrink() -> None:
    arch, sizes = zoo.get("mobilenet_v3_small", resolution=(96, 160)), TrainingSizes(base=120, proxy=60)
    assert sizes.of(arch) == (48, 80)
    assert (decoded_size(50, (96, 160)), decoded_size(50, 224)) == ((96, 160), 56)


@pytest.mark.parametrize(("image_size", "expected"), [
    (8, (32, 48)), (28, (32, 48, 64, 88)), (32, (32, 48, 64, 96)), (64, (64, 96, 128)), (48, (48, 72, 96)),
    (100, (104, 160, 208)), (128, (128, 192, 224)), (200, (200, 224)), (224, (160, 192, 224)),
    (1000, (160, 192, 224)),
])  # fmt: skip
def test_resolutions_follow_small_images(image_size: int, expected: tuple[int, ...]) -> None:
    assert followed_resolutions(image_size, (160, 192, 224)) == expected


@given(st.integers(1, 500), st.lists(st.integers(4, 64).map(lambda n: 8 * n), min_size=1, unique=True))
def test_followed_resolutions(image_size: int, own: list[int]) -> None:
    found = followed_resolutions(image_size, tuple(own))
    if image_size >= max(own):
        assert found == tuple(own)
        return
    assert list(found) == sorted(set(found))
    assert all(size % 8 == 0 and 32 <= size <= max(own) for size in found)
    assert found[0] >= image_size or found[0] == max(own)


def test_the_native_size_loses_nothing() -> None:
    sizes = [native_size(size, 224) for size in (8, 28, 32, 33, 100, 128, 224, 500)]
    assert sizes == [32, 32, 32, 40, 104, 128, 224, 224]
    assert native_size(8, 16) == 16


@pytest.mark.parametrize(("image_size", "resolutions", "expected"), [
    (64, (64, 96, 128, 192), 64), (100, (104, 160), 104), (8, (32, 48), 48), (28, (32, 48, 64, 88), 48),
    (500, (160, 192, 224), 224), (100, ((96, 160), (120, 200)), (120, 200)),
])  # fmt: skip
def test_the_images_own_size_among_those_that_are_searched(
    image_size: int, resolutions: tuple[Size, ...], expected: Size
) -> None:
    assert own_size(image_size, resolutions) == expected
