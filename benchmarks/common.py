"""Where a benchmark's result goes: a JSON file with figures, machine, versions, date and command."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from mnas.handover import versions
from mnas.latency.device import device_name

RESULTS = Path(__file__).parent / "results"


def save(name: str, figures: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and print it."""
    arguments = [Path(argument).name if "/" in argument else argument for argument in sys.argv]
    result = {
        "figures": figures,
        "machine": device_name(),
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/{' '.join(arguments)}",
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
