"""Batches in parts: the same gradients in less memory, and what happens where memory is short."""

from __future__ import annotations

import pytest
import torch

import mnas
from mnas.config import Recipe
from mnas.data.sources import load_data
from mnas.training.lessons import ClassLessons
from mnas.training.loop import Setting, Training
from mnas.training.memory import LIMIT_BYTES, accumulate, activation_bytes, bounds, judged_at_once, parts_of

CPU = torch.device("cpu")
SMALL = mnas.zoo.get("mobilenet_v3_small", 0.5, 32)
LARGE = mnas.zoo.get("mobilenet_v3_large", 1.0, 224)


@pytest.mark.parametrize(("batch", "parts"), [(64, 1), (64, 3), (7, 3), (2, 1), (5, 2)])
def test_parts_are_all_images_once(batch: int, parts: int) -> None:
    found = bounds(batch, parts)
    assert [i for first, last in found for i in range(first, last)] == list(range(batch))
    sizes = [last - first for first, last in found]
    assert max(sizes) - min(sizes) <= 1


def test_a_batch_is_split_where_its_activations_are_large() -> None:
    assert parts_of(64, SMALL, 32, CPU) == 1
    parts = parts_of(64, LARGE, 224, CPU)
    assert 64 / parts * activation_bytes(LARGE) <= 1.2 * LIMIT_BYTES
    assert parts_of(64, LARGE, 112, CPU) <= -(-parts // 3)
    assert parts_of(64, LARGE, 224, torch.device("cuda")) == 1, "a GPU says so when it is short of memory"
    assert parts_of(2, mnas.zoo.get("mobilenet_v3_large", 1.5, 2048), 2048, CPU) == 1, "batch normalisation needs two"


def test_a_split_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mnas")
    for parts in (3, 1, 3):
        accumulate(lambda: None, lambda part: None, 97, parts)
    assert [record.args for record in caplog.records] == [(97, 3)]


def test_large_images_are_judged_in_smaller_batches() -> None:
    assert [judged_at_once(size) for size in (32, 112, 224, 4096)] == [256, 256, 64, 16]
    assert judged_at_once((112, 448)) == 64


def test_rectangles_count_by_their_pixels() -> None:
    wide, square = (mnas.zoo.get("mobilenet_v3_large", resolution=size) for size in ((128, 512), 256))
    assert activation_bytes(wide) == activation_bytes(square)
    assert parts_of(64, wide, (128, 512), CPU) == parts_of(64, square, 256, CPU) > 1
    assert parts_of(64, wide, (64, 256), CPU) == parts_of(64, square, 128, CPU)


class Apart(torch.nn.Module):
    """Without batch normalisation, so that parts can be exact."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_train_as_the_whole_batch(parts: int) -> None:
    digits, found = load_data("digits"), []
    for split in (1, parts):
        torch.manual_seed(0)
        network = Apart()
        recipe, setting = Recipe(epochs=1, mixup=0.2), Setting(32, CPU, 0, 10, parts=split)
        training = Training(network, ClassLessons(digits.train, recipe, setting), recipe, setting)
        found.append((training.epoch().loss, network.linear.weight.detach().clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


def test_out_of_memory_halves_the_parts_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    added, began = list[slice](), [0]

    def begin() -> None:
        began[0] += 1
        added.clear()

    def add(part: slice) -> None:
        if part.stop - part.start > 20:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        added.append(part)

    assert accumulate(begin, add, 64, 1) == 4
    assert [(part.start, part.stop) for part in added] == bounds(64, 4)
    assert began[0] == 3, "each time from the beginning"
    assert "64" in caplog.text


@pytest.mark.parametrize("error", [
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), torch.OutOfMemoryError("CUDA"),
    RuntimeError("shapes do not match"),
])  # fmt: skip
def test_errors_that_parts_do_not_help(error: RuntimeError) -> None:
    def add(part: slice) -> None:
        raise error

    with pytest.raises(RuntimeError) as raised:
        accumulate(lambda: None, add, 16, 1)
    assert raised.value is error
