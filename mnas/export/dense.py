"""The folder of a trained network with a head: written, found, read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save
from torch import nn

from mnas.data.dense.samples import WHOLE
from mnas.data.reading import MAX_PIXELS, Reading
from mnas.errors import BadInput
from mnas.export.folder import ARCHITECTURE_FILE, TASK_FILE
from mnas.export.pytorch import WEIGHTS_FILE
from mnas.io.checksum import write_with_sum
from mnas.io.files import read_json, write_atomic, write_json
from mnas.io.strict_yaml import read_text
from mnas.nn.dense import dense_network
from mnas.nn.weights import load_state, read_safetensors
from mnas.space.architecture import Architecture
from mnas.space.dense import DenseHead
from mnas.tasks.kinds import KINDS

KEYS = ("task", "head", "output_stride", "num_classes", "classes", "channels")


@dataclass(frozen=True)
class DenseModel:
    """A trained network with a head, and what it was trained for."""

    network: nn.Module
    """A SegmentationNetwork or DetectionNetwork, in eval mode."""
    architecture: Architecture
    task: str
    """segmentation or detection."""
    head: DenseHead
    classes: tuple[str, ...]
    """Names: of a mask's indices from 0, or of the boxes' labels from 1."""
    reading: Reading
    """How image files become pixels."""


def is_dense(target: str | Path) -> bool:
    """Whether a folder is one of a network with a head, or a run's whose winner has one."""
    return dense_folder(target) is not None


def dense_folder(target: str | Path) -> Path | None:
    """The folder of a network with a head: winner/ of a run, or `target` itself; None where it is none."""
    folders = (Path(target) / "winner", Path(target))
    return next((one for one in folders if (one / TASK_FILE).is_file()), None)


def write_dense(folder: str | Path, model: DenseModel) -> None:
    """Write weights.safetensors with its SHA-256, architecture.yaml and task.json."""
    folder, reading = Path(folder), model.reading
    write_weights(folder, model.network)
    write_atomic(folder / ARCHITECTURE_FILE, model.architecture.to_yaml())
    write_json(folder / TASK_FILE, {
        "task": model.task, "head": model.head.name, "output_stride": model.head.output_stride,
        "num_classes": model.head.num_classes, "classes": list(model.classes), "channels": reading.channels,
        "fit": reading.fit, "max_pixels": reading.max_pixels,
        "value_range": None if reading.value_range is None else list(reading.value_range),
    })  # fmt: skip


def write_weights(folder: Path, network: nn.Module) -> None:
    """Write weights.safetensors with its SHA-256."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_with_sum(folder / WEIGHTS_FILE, save(state))


def load_dense(folder: str | Path) -> DenseModel:
    """The trained network that `mnas train --task` wrote. Raises BadInput where a file is missing or damaged."""
    folder = dense_folder(folder) or Path(folder)
    path = folder / TASK_FILE
    stated = read_json(path, *KEYS)
    arch = Architecture.from_yaml(read_text(folder / ARCHITECTURE_FILE), str(folder / ARCHITECTURE_FILE))
    try:
        head = DenseHead(stated["head"], int(stated["num_classes"]), int(stated["output_stride"]))
        low_high = stated.get("value_range")
        value_range = None if low_high is None else (float(low_high[0]), float(low_high[1]))
        reading = Reading(WHOLE.fit, value_range, int(stated.get("max_pixels", MAX_PIXELS)), int(stated["channels"]))
        classes, task = tuple(map(str, stated["classes"])), str(stated["task"])
        if head.name not in KINDS[task].heads or head.num_classes != len(classes) + KINDS[task].background:
            raise BadInput(f"{len(classes)} classes and {head.num_classes} outputs of {head.name} for {task}")
    except (BadInput, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: damaged ({error}); restore it, or train the network again") from None
    if stated.get("fit", WHOLE.fit) != WHOLE.fit:
        raise BadInput(f"{path}: fit {stated['fit']}: this version of mnas reads images with {WHOLE.fit} here")
    network = dense_network(arch, head)
    _fill(network, folder / WEIGHTS_FILE)
    return DenseModel(network, arch, task, head, classes, reading)


def _fill(network: nn.Module, path: Path) -> None:
    if not path.exists():
        raise BadInput(f"{path}: missing; expected the weights that `mnas train` wrote")
    load_state(network, read_safetensors(path), path)
    network.eval()
