"""What metrics.json says of the test split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from trainers import trainer

import mnas
from mnas.data.sources import ImageData
from mnas.pipeline.classification import ClassificationSearch
from mnas.pipeline.evidence import accuracy_row, class_rows, confusion_facts, evidence
from mnas.pipeline.kind import Judged, judged
from mnas.training.full import Trained
from mnas.training.judgement import Judgement

ARCH = mnas.zoo.get("mobilenet_v3_small", 0.35, 32)
LABELS = np.asarray([0, 0, 0, 0, 1, 1, 1])
JUDGEMENT = Judgement(LABELS, np.asarray([0, 1, 1, 2, 1, 1, 0]), 4)
CLASSES = ("ant", "bee", "cat", "dog")


OTHER = mnas.zoo.get("mobilenet_v3_small", 0.5, 32)


def network(name: str = "winner", *judgements: Judgement, arch: mnas.Architecture = ARCH) -> Judged:
    return Judged(Trained(name, arch, mnas.build(ARCH, 4), 0.5), judgements or (JUDGEMENT,))


def test_classes() -> None:
    assert class_rows(JUDGEMENT, CLASSES) == [
        {"class": "ant", "images": 4, "correct": 1, "accuracy": 0.25},
        {"class": "bee", "images": 3, "correct": 2, "accuracy": 2 / 3},
        {"class": "cat", "images": 0, "correct": 0, "accuracy": None},
        {"class": "dog", "images": 0, "correct": 0, "accuracy": None},
    ]


def test_confusion() -> None:
    facts = confusion_facts(JUDGEMENT, CLASSES)
    assert facts["matrix"] == [[1, 2, 1, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert facts["pairs"] == [
        {"class": "ant", "prediction": "bee", "images": 2},
        {"class": "ant", "prediction": "cat", "images": 1},
        {"class": "bee", "prediction": "ant", "images": 1},
    ]


@pytest.mark.parametrize(("classes", "matrix"), [(100, True), (101, False)])
def test_of_many_classes_the_most_confused_pairs(classes: int, matrix: bool) -> None:
    labels = np.repeat(np.arange(classes), 3)
    predicted = (labels + 1) % classes
    predicted[1] = 7  # of class 0, so that no pair of it is frequent
    facts = confusion_facts(Judgement(labels, predicted, classes), [f"c{i}" for i in range(classes)])
    assert ("matrix" in facts) == matrix
    assert len(facts["pairs"]) == 50
    assert {pair["images"] for pair in facts["pairs"]} == {3}


def test_rows_and_verdicts() -> None:
    better = replace(JUDGEMENT, predicted=LABELS)
    row = accuracy_row(network("winner", JUDGEMENT, better))
    assert (row["test_accuracy"], row["seeds"]["accuracies"]) == (3 / 7, [3 / 7, 1.0])
    assert row["balanced_accuracy"] == pytest.approx((1 / 4 + 2 / 3) / 2)
    assert "top5_accuracy" not in row
    others = [network("one", better, arch=OTHER), network("two", arch=OTHER), network("three")]
    assert evidence(network(), [], CLASSES)["majority_share"] == 4 / 7
    found = evidence(network(), others, CLASSES)["verdicts"]
    assert [(one["baseline"], one["points"]) for one in found] == [
        ("one", pytest.approx(-100 * 4 / 7)), ("two", 0.0), ("three", 0.0),
    ]  # fmt: skip
    assert [one["verdict"].split(" (")[0] for one in found[1:]] == ["can not be told apart", "the same network"]
    assert "verdicts" not in evidence(network(), [], CLASSES)


def test_top5() -> None:
    many = Judgement(LABELS, JUDGEMENT.predicted, 11, np.asarray([True] * 6 + [False]))
    assert accuracy_row(network("winner", many))["top5_accuracy"] == 6 / 7


def test_judged_once_a_seed(few: ImageData) -> None:
    """The first network is handed over; the test split is read, not another."""
    networks = [Trained("winner", ARCH, replace_seed(seed, few), 0.5) for seed in (0, 1)]
    found = judged(ClassificationSearch(), networks, trainer(few, 32))
    assert found.trained is networks[0]
    assert [one.labels.tolist() for one in found.judgements] == [few.test.labels.tolist()] * 2
    assert (found.judgements[0].predicted != found.judgements[1].predicted).any()


def replace_seed(seed: int, few: ImageData) -> mnas.Network:
    return replace(trainer(few, 32), seed=seed).build(ARCH)
