"""The picture of a confusion matrix, and that TensorBoard has it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from small_search import read

from mnas.monitor.confusion import LONGEST_NAME, MOST_CLASSES, draw_confusion, short_names, shown_classes
from mnas.monitor.tensorboard import TensorBoard


def overlap(texts: list[Text]) -> bool:
    boxes = [text.get_window_extent() for text in texts]
    return any(first.overlaps(second) for i, first in enumerate(boxes) for second in boxes[i + 1 :])


@pytest.mark.parametrize("n", [2, 3, 10, 25, 40, 50])
def test_names_and_numbers_are_readable(n: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (n, n)) + 900 * np.eye(n, dtype=np.int64)
    classes = [f"a rather long name of class {i}" for i in range(n)]
    figure = draw_confusion(counts, classes, "winner")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert len(labels) == len({label.get_text() for label in labels}) == n
        assert not overlap(labels)
        for label in labels:
            box = label.get_window_extent()
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    expected = {} if n > 25 else {(i, j): counts[i, j] for i, j in np.argwhere(counts)}
    assert written == expected
    assert not overlap(axes.texts)


def test_colours_are_shares_of_the_class() -> None:
    axes = draw_confusion(np.asarray([[3, 1, 0], [0, 0, 0], [0, 0, 5]]), ["a", "b", "c"]).axes[0]
    shares = np.ma.filled(axes.images[0].get_array(), np.nan)  # type: ignore[arg-type]
    assert shares[0].tolist() == [0.75, 0.25, 0]
    assert np.isnan(shares[1]).all(), "no image"
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("class", "prediction")


def test_of_many_classes_those_with_the_most_errors() -> None:
    counts = 10 * np.eye(120, dtype=np.int64)
    counts[np.arange(70, 119), np.arange(71, 120)] = 5
    shown = shown_classes(counts)
    assert shown == list(range(70, 120))
    axes = draw_confusion(counts, [str(i) for i in range(120)], "winner").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(i) for i in range(70, 120)]
    assert f"{MOST_CLASSES} of 120" in axes.get_title()


def test_short_names() -> None:
    long = [f"Canis lupus familiaris {breed}" for breed in ("pug", "poodle", "poodle toy", "big poodle")]
    names = short_names(["cat", "a\nb", "$5$", *long])
    assert names[:2] == ["cat", "a b"]
    assert all(len(name) <= LONGEST_NAME for name in names)
    assert len(set(names)) == len(names)


def test_the_picture_lands_in_the_event_file(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.confusion("winner", np.asarray([[8, 2], [1, 9]]), ["Katze", "猫 $x"])  # the font lacks that character
    board.close()
    events = read(tmp_path)
    assert events.Tags()["images"] == ["confusion_winner"]
    with Image.open(io.BytesIO(events.Images("confusion_winner")[0].encoded_image_string)) as image:
        assert min(image.size) > 300
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50
