"""Where a benchmark's result goes: a JSON file with figures, machine, versions, date and command."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import torch

from mnas.io.versions import versions
from mnas.latency.timing.device import device_name
from mnas.monitor.console import log_to_console

RESULTS = Path(__file__).parent / "results"
log_to_console()


def save(name: str, figures: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and print it."""
    _write(name, _result(figures))


def keep(name: str, part: str, figures: dict[str, Any]) -> None:
    """Write one part of benchmarks/results/NAME.json, beside those that were measured at other times or elsewhere."""
    print(f"{name}, {part}:")
    _write(name, _results(name) | {part: _result(figures)})


def kept(name: str) -> dict[str, dict[str, Any]]:
    """The figures of each part that was kept."""
    return {part: result["figures"] for part, result in _results(name).items()}


def _results(name: str) -> dict[str, Any]:
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
