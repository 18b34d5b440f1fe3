"""What a model file says of images: the logits that a runtime computes by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mnas.errors import BadInput

if TYPE_CHECKING:
    from mnas.latency.runtimes import Classifier, Runtime


class FileLogits:
    """Runs a model file on one image at a time, on one thread."""

    def __init__(self, path: str | Path, runtime: Runtime, classes: int):
        self.path, self.runtime, self.classes = Path(path), runtime, classes
        self._opened: Classifier | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (b, classes) of images in the file's layout: normalised (b, c, h, w), or pixels (b, h, w, c).

        Raises BadInput where the file does not run on them.
        """
        with self.runtime.threads(1):
            run = self._opened = self._opened or self._open(images[:1].contiguous())
            return torch.from_numpy(np.concatenate([run(image[None].contiguous()) for image in images]))

    def _open(self, image: Tensor) -> Classifier:
        run = self.runtime.open_file(self.path, image, 1)
        shape = run(image).shape
        if shape != (1, self.classes):
            raise BadInput(
                f"{self.path}: its output is {list(shape)}; expected [1, {self.classes}], logits of the folder's "
                "classes"
            )
        return run
