"""Weights of the classes: equal totals, a mean of 1, and only where they are asked for and needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnas.data.balance import class_weights, loss_weights


def labels(*counts: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.repeat(np.arange(len(counts)), counts)


def test_golden() -> None:
    assert class_weights(labels(30, 10, 20), 3).tolist() == pytest.approx([2 / 3, 2.0, 1.0])


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12).filter(any))
def test_classes_weigh_the_same_and_images_one_on_average(counts: list[int]) -> None:
    weights = class_weights(labels(*counts), len(counts))
    assert weights.shape == (len(counts),) and weights.dtype == torch.float32
    totals = weights * torch.tensor(counts)
    present = torch.tensor(counts) > 0
    assert float(weights[torch.from_numpy(labels(*counts))].mean()) == pytest.approx(1, abs=1e-4)
    assert float(totals[present].max() - totals[present].min()) < 1e-3 * float(totals.max())
    assert not weights[~present].any()


def test_classes_without_images_at_the_end() -> None:
    assert class_weights(labels(4, 4), 4).tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(("counts", "weighted"), [
    ((30, 10), False), ((31, 10), True), ((31, 10, 0), True), ((10, 0), False), ((10, 10), False), ((0, 0), False),
])  # fmt: skip
def test_auto_asks_for_more_than_three_times_as_many(counts: tuple[int, ...], weighted: bool) -> None:
    found = loss_weights("auto", labels(*counts), len(counts))
    assert (found is not None) == weighted
    if found is not None:
        assert found.equal(class_weights(labels(*counts), len(counts)))
    assert loss_weights("none", labels(*counts), len(counts)) is None
