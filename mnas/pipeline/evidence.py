"""What the test split says about the winner and the baselines, as metrics.json holds it: classes, seeds, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mnas.pipeline.kind import Judged
from mnas.pipeline.verdict import same_network, seed_facts, verdicts
from mnas.tasks.classification import Metric
from mnas.training.full import Trained
from mnas.training.judgement import Judgement

MATRIX_CLASSES = 100
"""Of more classes, metrics.json has the most confused pairs in place of the whole confusion matrix."""
PAIRS = 50


def accuracy_row(network: Judged[Judgement]) -> dict[str, Any]:
    """A network's part of metrics.json that comes from the test split."""
    first = network.judgements[0]
    row: dict[str, Any] = {"test_accuracy": first.accuracy, "balanced_accuracy": first.balanced_accuracy}
    if first.top5 is not None:
        row["top5_accuracy"] = first.top5
    return row | {"seeds": seed_facts(network.judgements)}


def evidence(
    main: Judged[Judgement], baselines: Sequence[Judged[Judgement]], classes: Sequence[str], metric: Metric = "accuracy"
) -> dict[str, Any]:  # fmt: skip
    """The rest of it: the first network's classes and confusion matrix, and the verdict, by `metric`, against each
    baseline.
    """
    judgement = main.judgements[0]
    found: dict[str, Any] = {
        "per_class": class_rows(judgement, classes), "confusion": confusion_facts(judgement, classes),
        "majority_share": judgement.majority_share,
    }  # fmt: skip
    if baselines:
        found["verdicts"] = [_verdict(main, one, metric) for one in baselines]
    return found


def _verdict(main: Judged[Judgement], baseline: Judged[Judgement], metric: Metric) -> dict[str, Any]:
    """The verdict against one baseline, which may be the network itself: the best reference may win the race."""
    name = baseline.trained.name
    if is_same(main.trained, baseline.trained):
        return same_network(name, len(main.judgements), metric)
    return verdicts(main.judgements, {name: baseline.judgements}, metric)[0]


def is_same(first: Trained, second: Trained) -> bool:
    """Whether they are one network: the best reference may win the race."""
    return (first.architecture, first.weights, first.epochs) == (second.architecture, second.weights, second.epochs)


def class_rows(judgement: Judgement, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each class its images, how many of them are classified correctly, and their share (None without images)."""
    correct = np.diag(judgement.confusion).tolist()
    return [
        {"class": name, "images": images, "correct": right, "accuracy": right / images if images else None}
        for name, images, right in zip(classes, judgement.counts.tolist(), correct, strict=True)
    ]


def confusion_facts(judgement: Judgement, classes: Sequence[str]) -> dict[str, Any]:
    """The confusion matrix, a row for each class and a column for each prediction, and the most confused pairs.

    Of more than MATRIX_CLASSES classes the pairs alone. At most PAIRS of them, the most frequent first.
    """
    counts = judgement.confusion
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [
        {"class": classes[row], "prediction": classes[column], "images": int(wrong[row, column])}
        for row, column in zip(*(part.tolist() for part in np.unravel_index(order, wrong.shape)), strict=True)
        if wrong[row, column]
    ]
    matrix = {"matrix": counts.tolist()} if len(classes) <= MATRIX_CLASSES else {}
    return {"pairs": pairs, **matrix}
