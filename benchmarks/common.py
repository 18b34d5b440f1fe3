"""What the benchmarks share: options, and result files with figures, machine, versions, date and command."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mnas.data.sources import ImageData
from mnas.io.versions import versions
from mnas.latency.timing.device import device_name
from mnas.monitor.console import log_to_console
from mnas.tasks.classification import Classification
from mnas.training.sizes import FULL_SIZE
from mnas.training.trainer import Trainer

RESULTS = Path(__file__).parent / "results"


def options_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose --help shows the script's docstring; from now on mnas's log goes to stderr."""
    log_to_console()
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def save(name: str, figures: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and print it."""
    _write(name, _result(figures))


def save_part(name: str, part: str, figures: dict[str, Any]) -> None:
    """Write one part of benchmarks/results/NAME.json and keep the other parts."""
    print(f"{name}, {part}:")
    _write(name, _read(name) | {part: _result(figures)})


def saved_parts(name: str) -> dict[str, dict[str, Any]]:
    """The figures of each part of benchmarks/results/NAME.json."""
    return {part: result["figures"] for part, result in _read(name).items()}


def _read(name: str) -> dict[str, Any]:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _result(figures: dict[str, Any]) -> dict[str, Any]:
    arguments = [Path(argument).name if "/" in argument else argument for argument in sys.argv]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "figures": figures,
        "machine": device_name() + gpu,
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/{' '.join(arguments)}",
    }


def _write(name: str, content: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(content, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


def cpu_trainer(data: ImageData, flip: bool = False, seed: int = 0) -> Trainer:
    """Trains each architecture on the CPU at its own resolution."""
    return Trainer(Classification(replace(data, flip=flip)), FULL_SIZE, torch.device("cpu"), seed)
