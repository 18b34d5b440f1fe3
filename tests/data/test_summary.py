"""What the log says about the classes of a data set."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from mnas.data.sources import ImageData
from mnas.data.splits import ArraySplit
from mnas.data.summary import SHOWN, log_classes


def data(*counts: int) -> ImageData:
    def split(factor: int) -> ArraySplit:
        labels = np.repeat(np.arange(len(counts)), np.array(counts) * factor)
        return ArraySplit(np.zeros((len(labels), 2, 2), np.uint8), labels)

    return ImageData("d", tuple(f"class {i}" for i in range(len(counts))), 2, True, split(3), split(1), split(2))


def lines(images: ImageData, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.INFO, "mnas"):
        log_classes(images)
    return [record.getMessage() for record in caplog.records]


def test_each_class_with_its_images_the_most_frequent_first(caplog: pytest.LogCaptureFixture) -> None:
    shown = lines(data(4, 5), caplog)
    assert [line.split()[1:] for line in shown] == [
        ["class", "train", "search-validation", "test"],
        ["class", "1", "15", "5", "10"],
        ["class", "0", "12", "4", "8"],
    ]
    assert len({len(line) for line in shown}) == 1, "in columns"


def test_many_classes_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    shown = lines(data(*[2] * 30), caplog)
    assert len(shown) == SHOWN + 2
    assert "10 more" in shown[-1]


@pytest.mark.parametrize(("counts", "said"), [
    ((9, 1), True), ((6, 4), False), ((50, 30, 10), True), ((1, 1, 1), False),
])  # fmt: skip
def test_unequal_classes_are_said(counts: tuple[int, ...], said: bool, caplog: pytest.LogCaptureFixture) -> None:
    shown = lines(data(*counts), caplog)
    assert ("class 0' would be right" in shown[-1]) == said
