"""What a data set holds, for the log: images by class and split."""

from __future__ import annotations

import logging

import numpy as np

from mnas.data.sources import ImageData

log = logging.getLogger("mnas")

SHOWN = 20
"""Classes that are listed, the most frequent first."""
UNEQUAL = 1.5
"""Where the largest class has so many times the mean's images, accuracy alone says too little."""


def log_classes(data: ImageData) -> None:
    """Log the number of images of each class in each split, and whether the classes are of unequal size."""
    splits = {"train": data.train, "search-validation": data.val, "test": data.test}
    counts = np.stack([np.bincount(split.labels, minlength=data.num_classes) for split in splits.values()])
    order = np.argsort(-counts[0], kind="stable")
    width = max(5, *(len(data.classes[i]) for i in order[:SHOWN]))
    log.info("images: %s  %s", "class".ljust(width), "  ".join(splits))
    for i in order[:SHOWN]:
        cells = "  ".join(f"{count:{len(name)}}" for count, name in zip(counts[:, i], splits, strict=True))
        log.info("images: %s  %s", data.classes[i].ljust(width), cells)
    if data.num_classes > SHOWN:
        log.info("images: and %d more classes", data.num_classes - SHOWN)
    share = counts[0].max() / max(1, counts[0].sum())
    if share * data.num_classes > UNEQUAL:
        log.info(
            "the classes are of unequal size: always '%s' would be right for %.1f%% of the training images; see "
            "--class-weights, and the balanced accuracy in metrics.json", data.classes[order[0]], 100 * share,
        )  # fmt: skip
