"""A candidate's accuracy as a linear classifier on its features, which it has from trained weights before any training.

So what breaks the paths of the trained network (another activation, squeeze-and-excitation left out, fewer channels)
costs accuracy, and the search sees it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mnas.data.augment import normalise
from mnas.data.loader import batches
from mnas.data.splits import Split
from mnas.errors import BadInput
from mnas.estimators import Report
from mnas.io.size import Size
from mnas.nn.network import Network
from mnas.space.architecture import Architecture
from mnas.training.precision import autocast
from mnas.training.trainer import Trainer

TRAIN_IMAGES, VAL_IMAGES = 1500, 1000
"""Images on which the classifier is fitted and judged, drawn evenly from the classes."""
STATISTICS_IMAGES = 512
"""Training images from which batch normalisation gets its statistics."""
RIDGE = 0.05
"""The penalty on the classifier's weights, as a part of the features' mean square."""
BATCH = 64


class ProbeEstimator:
    """Fits a linear classifier to the features of each candidate, as it starts from an origin's weights.

    The features are what the network's classifier reads. Ridge regression of the one-hot labels gives it in closed
    form. Raises BadInput where the trainer has no origin: features of random weights say little.
    """

    fidelity = "probe"

    def __init__(self, trainer: Trainer):
        if not trainer.origins:
            raise BadInput(
                "--estimator probe: judges the features of trained weights, and there are none: expected --pretrained "
                "or --init FILE"
            )
        self._trainer = trainer.limited(train=TRAIN_IMAGES, val=VAL_IMAGES, seed=0)
        self.images: int | None = len(self._trainer.data.val)

    def __call__(self, arch: Architecture, report: Report) -> float:
        """Accuracy (0..1) on the search-validation split; nothing is reported on the way."""
        trainer, size = self._trainer, self._trainer.sizes.of(arch)
        network = trainer.build(arch).to(trainer.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trainer.finish(network, arch, STATISTICS_IMAGES)
        x, labels = _features(network, trainer.data.train, size, trainer.device)
        classifier = ridge(x, labels, trainer.data.num_classes)
        x, labels = _features(network, trainer.data.val, size, trainer.device)
        correct = (classifier(x).argmax(1) == labels).double()
        if trainer.metric == "balanced":
            shares = [correct[labels == number].mean() for number in range(trainer.data.num_classes)]
            return float(torch.stack(shares).nanmean())
        return float(correct.mean())


@torch.inference_mode()
def _features(network: Network, split: Split, size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the classifier reads of each image, (n, features) in float64 on the CPU, and the labels (n,)."""
    network.eval()
    classifier, network.classifier = network.classifier, nn.Identity()
    features, labels = [], []
    for raw, of_batch in batches(split, batch_size=BATCH, size=size, device=device):
        with autocast(device):
            features.append(network(normalise(raw, size)).double().cpu())
        labels.append(of_batch.cpu())
    network.classifier = classifier
    return torch.cat(features), torch.cat(labels)


def ridge(x: Tensor, labels: Tensor, num_classes: int) -> Callable[[Tensor], Tensor]:
    """The classifier that ridge regression fits to features (n, d) and labels (n,): features to scores (m, classes)."""
    mean = x.mean(0)
    centred = x - mean
    targets = nn.functional.one_hot(labels, num_classes).to(x.dtype)
    offset = targets.mean(0)
    gram = centred @ centred.T  # (n, n): images are fewer than, or about as many as features
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()) + 1e-9)
    dual = torch.linalg.solve(gram, targets - offset)  # (n, classes)
    weights = centred.T @ dual  # (d, classes)
    return lambda other: (other - mean) @ weights + offset
