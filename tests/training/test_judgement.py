"""Networks judged image by image."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import mnas
from mnas.data.images import BrokenImages
from mnas.data.sources import load_data
from mnas.data.splits import ArraySplit, FolderSplit
from mnas.training.judgement import Judgement, judge
from mnas.training.loop import accuracy

CPU = torch.device("cpu")


class Shades(nn.Module):
    """Says the class that the red channel of an image states, 10 levels apart; the next ones are its runners-up."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        red = (x[:, 0].mean((1, 2)) * 0.229 + 0.485) * 255  # normalisation undone
        return -(red[:, None] / 10 - torch.arange(self.classes)).abs()


def shaded(shades: list[int], labels: list[int]) -> ArraySplit:
    """Images of one shade each, which Shades takes for class `shade`."""
    images = np.broadcast_to(10 * np.asarray(shades)[:, None, None, None], (len(shades), 8, 8, 3))
    return ArraySplit(images.astype(np.uint8), np.asarray(labels))


def test_balanced_accuracy_counts_each_class_alike() -> None:
    labels = np.repeat([0, 1, 2], [90, 10, 0])
    judgement = Judgement(labels, np.zeros(100, np.int64), 3)  # says the first class, always
    assert (judgement.accuracy, judgement.balanced_accuracy, judgement.majority_share) == (0.9, 0.5, 0.9)
    half = Judgement(labels, np.where(np.arange(100) % 2 == 0, labels, 2), 3)
    assert (half.accuracy, half.balanced_accuracy) == (0.5, 0.5)
    empty = Judgement(labels[:0], labels[:0], 3)
    assert (empty.balanced_accuracy, empty.majority_share) == (0.0, 0.0)


def test_golden_counts() -> None:
    judgement = judge(
        Shades(3), shaded([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0]), size=8, device=CPU, num_classes=3, exact=True
    )
    assert judgement.predicted.tolist() == [0, 0, 1, 2, 2, 2]
    assert judgement.correct.tolist() == [True, False, True, True, True, False]
    assert judgement.accuracy == pytest.approx(4 / 6)
    assert judgement.confusion.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 2]]
    assert judgement.counts.tolist() == [2, 2, 2]
    assert judgement.recall.tolist() == [0.5, 0.5, 1.0]
    assert judgement.top5 is None


def test_a_class_without_images() -> None:
    judgement = judge(Shades(4), shaded([0, 1], [0, 0]), size=8, device=CPU, num_classes=4)
    assert judgement.counts.tolist() == [2, 0, 0, 0]
    assert judgement.recall[0] == 0.5
    assert np.isnan(judgement.recall[1:]).all()


@pytest.mark.parametrize(("classes", "expected"), [(10, None), (11, 3 / 4)])
def test_top5_where_there_are_more_than_ten_classes(classes: int, expected: float | None) -> None:
    split = shaded([5, 5, 5, 5], [5, 7, 3, 8])  # 3, 4, 5, 6, 7 are the five nearest to 5
    judgement = judge(Shades(classes), split, size=8, device=CPU, num_classes=classes)
    assert judgement.top5 == expected
    assert judgement.accuracy == 0.25


def test_as_the_accuracy_of_the_loop() -> None:
    data = load_data("digits")
    torch.manual_seed(0)
    network = mnas.build(mnas.zoo.get("mobilenet_v3_small", 0.35, 32), 10)
    judgement = judge(network, data.test, size=32, device=CPU, num_classes=10, exact=True)
    assert judgement.accuracy == accuracy(network, data.test, size=32, device=CPU, exact=True)
    assert judgement.labels.tolist() == data.test.labels.tolist(), "more than one batch, in order"
    assert judgement.confusion.sum() == len(judgement) == len(data.test)
    assert judgement.confusion.trace() == judgement.correct.sum()


def test_broken_images_are_left_out(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(np.full((8, 8, 3), 10, np.uint8)).save(path)
    paths[1].write_bytes(b"no image")
    split = FolderSplit(paths, np.asarray([1, 1, 0]), BrokenImages(5))
    judgement = judge(Shades(2), split, size=8, device=CPU, num_classes=2)
    assert (judgement.labels.tolist(), judgement.predicted.tolist()) == ([1, 0], [1, 1])


def test_no_images() -> None:
    judgement = judge(Shades(12), shaded([1], [1]).subset(np.zeros(0, np.int64)), size=8, device=CPU, num_classes=12)
    assert (len(judgement), judgement.accuracy, judgement.top5) == (0, 0.0, 0.0)
    assert judgement.confusion.shape == (12, 12)


@pytest.mark.parametrize("classes", [3, 12, 40_000])
def test_stored_and_read_back(classes: int) -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, classes, (2, 50))
    judgement = Judgement(labels, predicted, classes, rng.random(50) < 0.5 if classes > 10 else None)
    file = io.BytesIO()
    np.savez(file, **judgement.to_arrays())
    file.seek(0)
    again = Judgement.from_arrays(np.load(file))
    assert (again.labels == labels).all() and (again.predicted == predicted).all()
    assert (again.num_classes, again.top5) == (classes, judgement.top5)


def test_weights_of_images_give_the_balanced_accuracy() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [3])
    predicted = np.where(np.arange(100) % 3 == 0, labels, 0)
    judgement = Judgement(labels, predicted, 4)
    weights = judgement.class_weights
    assert weights.mean() == pytest.approx(1)
    assert np.average(judgement.correct, weights=weights) == pytest.approx(judgement.balanced_accuracy)
