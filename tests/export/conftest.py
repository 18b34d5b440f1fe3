"""One trained network's folder, written once for all tests of the export."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from handmade import HAND_MADE, usual_network

from mnas.data.sources import ImageData
from mnas.export.folder import write_metrics, write_model
from mnas.nn.network import Network
from mnas.space.architecture import Architecture
from mnas.training.full import Trained

DEVICE: dict[str, Any] = {
    "device": "a 2-core x86 machine", "runtime": "torch", "threads": 1, "batch": 1, "budget_ms": 15.0,
    "how": "measured",
}  # fmt: skip
METRICS: dict[str, Any] = {
    "title": "A network for digits",
    "networks": [
        {
            "name": "winner", "role": "winner", "test_accuracy": 0.975, "madds": 61_234_567, "params": 1_234_567,
            "latencies": [{
                **DEVICE, "latency_ms": 11.234, "spread_ms": 0.31, "keeps": True,
                "exported_latency_ms": 4.321, "exported_spread_ms": 0.1, "exported_keeps": True,
            }],
            "keeps_budget": True, "resolution": 224, "accuracy_resolution": 224, "weights": "inherited",
        },
        {
            "name": "mobilenet_v3_large", "role": "baseline", "test_accuracy": 0.9694, "madds": 215_300_000,
            "params": 4_214_842, "latencies": [{**DEVICE, "latency_ms": 17.5, "spread_ms": 0.42, "keeps": False}],
            "keeps_budget": False, "resolution": 224, "accuracy_resolution": 32, "weights": "inherited",
        },
    ],
    "latency": {**DEVICE, "resolution": 224},
    "accuracy": {
        "resolution": 224, "data": "digits", "train_images": 1149, "val_images": 288, "test_images": 360, "epochs": 30,
    },
    "search": {
        "space": "v3_large", "objective": "mnasnet", "sampler": "tpe", "trials": 57, "seed": 3, "elapsed_s": 3725.2,
        "estimator": "supernet", "winner": "trial 12", "chosen_trial": 12, "chosen_estimate": 0.9512,
        "chosen_grade": "fine-tuned",
    },
    "versions": {"mnas": "0.1.0", "torch": "2.13.0"},
    "date": "2026-11-20",
}  # fmt: skip


@pytest.fixture
def metrics() -> dict[str, Any]:
    """A copy of a search's metrics.json that a test may change."""
    return copy.deepcopy(METRICS)


@dataclass(frozen=True)
class Written:
    """A folder, with the network and the architecture that were written into it."""

    folder: Path
    network: Network
    architecture: Architecture


@pytest.fixture(scope="session")
def written(few: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The folder of a small network of 32 px; its weights were in channels_last."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run") / "winner"
    arch = HAND_MADE["inverted_residuals"]
    network = usual_network(arch, len(few.classes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    write_model(folder, Trained("winner", arch, network, 0.9), few, title="A network for digits")
    write_metrics(folder, copy.deepcopy(METRICS), few.classes)
    return Written(folder, network.eval(), arch)
