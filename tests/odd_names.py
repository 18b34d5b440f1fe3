"""Images whose classes and files have names that are HTML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mnas import load_data

CLASSES = ("<script>alert(1)<", 'b"><img src=x onerror=alert(2)>', "plain & simple")
"""No file system takes a slash in a name."""


def odd_folder(folder: Path, images: int = 40) -> Path:
    """Real digits in folders of these classes."""
    split = load_data("digits").train
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number, row in enumerate(np.flatnonzero(split.labels == label)[:images]):
            pixels = split.fetch([row], 8)[0].permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / name / f"<b>{number}&.png")
    return folder
