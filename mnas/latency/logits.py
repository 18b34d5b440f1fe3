"""What a model file says of images: the logits that a runtime computes by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mnas.errors import BadInput

if TYPE_CHECKING:
    from mnas.latency.runtimes import Runtime


class FileLogits:
    """Runs a model file on one thread; one that takes a single image only is run on an image at a time."""

    def __init__(self, path: str | Path, runtime: Runtime, classes: int):
        self.path, self.runtime, self.classes = Path(path), runtime, classes
        self._takes_batches = True

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (b, classes) of normalised images (b, c, h, w). Raises BadInput where the file does not run on them.
        """
        images = images.contiguous()
        with self.runtime.threads(1):
            if len(images) > 1 and self._takes_batches:
                try:
                    return self._run(images)
                except BadInput:
                    self._takes_batches = False
            return torch.cat([self._run(image[None]) for image in images])

    def _run(self, images: Tensor) -> Tensor:
        run = self.runtime.prepare_file(self.path, images, 1)
        said = run()
        # a copy while `run` is there, whose memory it may be
        out = said.clone() if isinstance(said, Tensor) else torch.from_numpy(np.array(said))
        if tuple(out.shape) != (len(images), self.classes):
            raise BadInput(
                f"{self.path}: its output is {list(out.shape)}; expected [{len(images)}, {self.classes}], logits "
                "of the folder's classes"
            )
        return out
