"""Files of one network in several formats and precisions: written, compared with PyTorch, judged."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnas.data.augment import normalise
from mnas.errors import MnasError, one_line
from mnas.export.checks import check_equal, plain_copy
from mnas.export.formats import EMBEDDED, QUANTISED, Format, Model, embedding, file_name, get_format, quantising
from mnas.export.pixels import as_pixels
from mnas.export.quantize.sensitivity import most_sensitive
from mnas.latency.runtimes import Classifier, get_runtime
from mnas.latency.timing.rounds import Measurement

log = logging.getLogger("mnas")

TOLERANCE = 1e-3
"""Of float32 logits, relative for those above 1: see check_equal."""
ROUNDING = 0.1
"""Of int8 logits of the same file with and without pixels as input: an input's rounding may fall on the other side."""
CHECKED = 32
"""Images on which a file must equal the network, or with pixels as input the plain file; the others are counted."""
COST = 0.005
"""What int8 may cost in accuracy before layers are kept in float32."""
KEPT = (1, 2, 4, 8)
"""How many of the most sensitive layers are kept, in turn, until that is so."""
RANKED = 32
"""Images by which layers are ranked."""
STATUS = 300
"""Characters of a converter's error that are shown."""


@dataclass(frozen=True)
class Evidence:
    """Images on which files are compared, judged and calibrated; normalised float32 (n, c, h, w)."""

    images: Tensor
    """Of the search-validation split, or random ones."""
    labels: NDArray[np.int64] | None
    """Their classes (n,); None of random ones."""
    calibration: Tensor
    """Of the training split, or random ones."""

    @property
    def real(self) -> bool:
        return self.labels is not None


@dataclass(frozen=True)
class Expected:
    """What PyTorch computes of the images of an `Evidence`."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64] | None

    def accuracy(self, logits: NDArray[np.float32]) -> float | None:
        """The share (0..1) of images whose largest logit is that of their class; None for images without classes."""
        return None if self.labels is None else float((logits.argmax(1) == self.labels).mean())

    def lost(self, logits: NDArray[np.float32]) -> float | None:
        """How much less accurate these logits are than the network's own, as a share; None without classes."""
        exact, own = self.accuracy(self.logits), self.accuracy(logits)
        return None if exact is None or own is None else round(exact - own, 6)


class Wanted(NamedTuple):
    """A file to be made."""

    format: str
    precision: str
    pixels: bool = False
    """Whether it takes uint8 pixels (b, h, w, c) and normalises them itself."""


def wanted_of(formats: Sequence[str], precisions: Sequence[str], pixels: bool = False) -> list[Wanted]:
    """Every format in every precision that it has; with `pixels`, those that take pixels after the plain ones."""
    wanted = []
    for name in formats:
        for precision in precisions:
            if precision == "fp32" or name in QUANTISED:
                wanted.append(Wanted(name, precision))
                if pixels and name in EMBEDDED:
                    wanted.append(Wanted(name, precision, True))
    return wanted


@dataclass
class Artifact:
    """One row of the table: a file that was wanted, and what is known of it."""

    wanted: Wanted
    files: list[Path] = field(default_factory=list)
    status: str = "ok"
    """ok, or what is wrong, in one line."""
    logits: NDArray[np.float32] | None = None
    kept: list[str] = field(default_factory=list)
    """Layers that int8 hurts and that stay in float32."""
    float_operators: dict[str, int] = field(default_factory=dict)
    """Of an int8 file: operators that compute in float32, and how often."""
    latency: Measurement | None = None

    @property
    def ok(self) -> bool:
        return self.status == "ok"


def expected_of(model: Model, evidence: Evidence) -> Expected:
    """PyTorch's logits (n, classes), in float32 on the CPU."""
    network = plain_copy(model.network)
    with torch.inference_mode():
        logits = torch.cat([network(part) for part in torch.split(evidence.images, 64)])
    return Expected(logits.numpy(), evidence.labels)


def made(
    model: Model, wanted: Sequence[Wanted], evidence: Evidence, folder: Path
) -> tuple[list[Artifact], Expected]:
    """The wanted files in `folder`, each compared with the network, and what the network computes.

    What cannot be made, or differs, says so in its row.
    """
    network, expected = plain_copy(model.network), expected_of(model, evidence)
    artifacts = []
    for one in wanted:
        artifact = Artifact(one)
        try:
            form = get_format(one.format)
            path = folder / file_name(one.format, one.precision)
            if one.pixels:
                _embed(artifact, form, model, evidence, path)
            elif one.precision == "fp32":
                artifact.files = form.write(model, path)
                artifact.logits = _compared(form, path, model, evidence, network)
            else:
                _quantise(artifact, form, model, evidence, path, expected)
        except MnasError as error:
            artifact.status = str(error)
        except OSError:
            raise
        except Exception as error:  # the converters' own exceptions have no common base
            log.debug("%s", one, exc_info=True)
            artifact.status = one_line(f"its converter failed: {type(error).__name__}: {error}")[:STATUS]
        log.info("%s %s: %s", one.format, one.precision, artifact.status)
        artifacts.append(artifact)
    return artifacts, expected


def _compared(
    form: Format, path: Path, model: Model, evidence: Evidence, network: torch.nn.Module
) -> NDArray[np.float32]:
    """The file's logits of all images (n, classes); MnasError where they differ from the network's."""
    logits, some = outputs(form, path, evidence.images), slice(CHECKED)  # the exact check takes float64
    check_equal(network, evidence.images[some], torch.from_numpy(logits[some]), TOLERANCE, str(path))
    if form.FREE_BATCH:
        three = evidence.images[:3] if len(evidence.images) >= 3 else evidence.images.repeat(3, 1, 1, 1)[:3]
        with _opened(form, path, three) as run:
            check_equal(network, three, torch.from_numpy(run(three)), TOLERANCE, f"{path} with three images at once")
    return logits


def outputs(form: Format, path: Path, images: Tensor) -> NDArray[np.float32]:
    """The outputs of a file for images (n, c, h, w), one by one."""
    with _opened(form, path, images[:1]) as run:
        return np.concatenate([run(image[None].contiguous()) for image in images])


@contextlib.contextmanager
def _opened(form: Format, path: Path, example: Tensor) -> Iterator[Classifier]:
    if form.RUNTIME is None:
        yield form.open_file(path, example)  # type: ignore[attr-defined]
        return
    runtime = get_runtime(form.RUNTIME)
    with runtime.threads(1):
        yield runtime.open_file(path, example, 1)


def _quantise(
    artifact: Artifact, form: Format, model: Model, evidence: Evidence, path: Path, expected: Expected
) -> None:
    """Fill in the row of an int8 file: with as few layers in float32 as keep the accuracy, or come closest to it."""
    quantiser = quantising(form)
    assert quantiser is not None

    def write(kept: list[str]) -> float:
        """What the file costs in accuracy."""
        artifact.kept, artifact.files = kept, quantiser.quantise(model, evidence.calibration, kept, path)
        artifact.logits = outputs(form, path, evidence.images)
        return expected.lost(artifact.logits) or 0.0

    costs = {0: write([])}
    if costs[0] > COST:
        ranking = most_sensitive(plain_copy(model.network), evidence.calibration[:RANKED])
        for count in KEPT:
            log.info("%s int8 costs %.1f points of accuracy: keeping %d of %d layers in float32",
                     artifact.wanted.format, 100 * [*costs.values()][-1], count, len(ranking))  # fmt: skip
            costs[count] = write(ranking[:count])
            if costs[count] <= COST:
                break
        else:
            best = min(costs, key=lambda count: (costs[count], count))
            if best != KEPT[-1]:
                write(ranking[:best])
    artifact.float_operators = quantiser.operators(path)


def _embed(artifact: Artifact, form: Format, model: Model, evidence: Evidence, plain: Path) -> None:
    """Fill in the row of a file that takes pixels; MnasError where it computes another thing than the plain one."""
    embedder = embedding(form)
    assert embedder is not None
    if not plain.exists():
        raise MnasError(f"{plain.name} could not be made")
    path = plain.with_name(file_name(*artifact.wanted))
    artifact.files = embedder.take_pixels(plain, model, path)
    pixels = as_pixels(evidence.images[:CHECKED])
    own = outputs(form, path, pixels)
    images = normalise(pixels.permute(0, 3, 1, 2), model.size)[:, : pixels.shape[-1]].contiguous()
    logits = outputs(form, plain, images)
    difference = float(np.abs(own - logits).max())
    tolerance = TOLERANCE if artifact.wanted.precision == "fp32" else ROUNDING
    if not difference <= tolerance * max(1.0, float(np.abs(logits).max())):
        raise MnasError(f"{path}: its logits differ from those of {plain.name} by {difference:.3g}")
