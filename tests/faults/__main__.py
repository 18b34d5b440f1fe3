"""`python -m tests.faults --rounds 100`: kill searches at random moments for a night, and say what was lost."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from .kills import Killer, Round
from .processes import Zygote


def main() -> int:
    """Print a line a round and a summary; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the summary")
    given = parser.parse_args()
    began, done = time.monotonic(), list[Round]()
    with tempfile.TemporaryDirectory() as folder, Zygote(Path(folder)) as zygote:
        for one in Killer(Path(folder), zygote, given.seed).rounds(given.rounds):
            done.append(one)
            print(f"round {len(done):>4}  {one}", flush=True)
    facts = summary(done, time.monotonic() - began)
    print(json.dumps(facts, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 1 if facts["wrong"] else 0


def summary(done: list[Round], seconds: float) -> dict[str, Any]:
    """The figures of benchmarks/reliability.md."""
    lost = {unit: [one.lost.get(unit, 0) for one in done] for unit in ("steps", "rows")}
    asked = [one.ended.gone_s for one in done if one.signal.name != "SIGKILL"]
    return {
        "rounds": len(done), "seconds": round(seconds, 1), "phases": Counter(one.phase for one in done),
        "signals": Counter(one.signal.name for one in done),
        "lost": {unit: {"in all": sum(each), "at most": max(each, default=0)} for unit, each in lost.items()},
        "gone_s": round(max(asked, default=0.0), 2), "wrong": [str(one) for one in done if one.wrong],
        "python": platform.python_version(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
