"""`python -m tests.fuzz --inputs 10000`: try inputs near valid ones at every entrance, and say what became of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # the helpers that tests share

from .entrances import entrances
from .harness import tried


def main() -> int:
    """Print a line an entrance; 1 where an input was neither accepted nor refused with one line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(entrances()), help="one entrance alone")
    given = parser.parse_args()
    chosen = {name: one for name, one in entrances().items() if given.only in (None, name)}
    print("| entrance | inputs | accepted | refused | faults | slowest, s | seconds | memory, MB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    all_faults = {}
    for name, one in chosen.items():
        found = tried(one, -(-given.inputs // len(chosen)), given.seed)
        print(
            f"| {name} | {found.inputs:,} | {found.accepted:,} | {found.refused:,} | {len(found.faults)} "
            f"| {found.slowest_s:.2f} | {found.seconds:.0f} | {found.grown_mb:.0f} |", flush=True,
        )  # fmt: skip
        all_faults |= {f"{name}: {where}": trace for where, trace in found.faults.items()}
    for where, trace in all_faults.items():
        print(f"\n{where}\n{trace}", file=sys.stderr)
    return 1 if all_faults else 0


if __name__ == "__main__":
    sys.exit(main())
