"""Writes the figures of README.md out of the result files, or says with --check where README differs from them.

    python benchmarks/readme_figures.py [--check]
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, options_parser

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def figures(name: str, part: str | None = None) -> dict[str, Any]:
    """The figures of a result file, or of one part of it."""
    content = json.loads((RESULTS / f"{name}.json").read_text())
    result: dict[str, Any] = (content if part is None else content[part])["figures"]
    return result


def network(rows: Sequence[dict[str, Any]]) -> str:
    """A network over its runs or seeds."""
    accuracy = statistics.mean(row["seeds"]["mean"] for row in rows)
    return f"{accuracy:.1%} at {statistics.mean(row['latency_ms'] for row in rows):.1f} ms"


def searches() -> str:
    """What whole searches found, beside the best scaled reference network of the same race."""
    rows = ["| images, budget | found | the best published network, scaled to the budget |", "|---|---|---|"]
    content = json.loads((RESULTS / "found_vs_reference.json").read_text())
    for part, title in (
        ("fashion_mnist", "20,000 of Fashion-MNIST"), ("cifar10", "20,000 of CIFAR-10"),
        ("photos", "2,000 of CIFAR-10 at 64 px"), ("default", "scikit-learn's digits, the default command"),
    ):  # fmt: skip
        if part not in content:
            continue
        found = content[part]["figures"]
        runs = found.get("runs", [found])
        winners, opponents = [run["winner"] for run in runs], [run["opponents"][0] for run in runs]
        minutes = statistics.median(run["wall_s"] for run in runs) / 60
        repeated = f"{len(runs)} runs of " * (len(runs) > 1)
        budget_ms = found.get("budget_ms", 15)
        rows.append(
            f"| {title}, {budget_ms:.2g} ms, {repeated}{minutes:.0f} min | {network(winners)} | {network(opponents)} |"
        )
    return "\n".join(rows)


def tables() -> str:
    """How exact latency tables are, and how far the networks agree with others' implementations."""
    rows = ["| | |", "|---|---|"]
    for runtime in ("onnxruntime", "torch"):
        error = figures("latency_fidelity", runtime)["error"]
        rows.append(
            f"| predicted against measured latency, {runtime}, 40 new networks of v3_large | mean error "
            f"{error['mean_error']:.1%}, largest {error['max_error']:.1%}, rank correlation {error['spearman']:.3f} |"
        )
    speed = figures("predict_speed")["predict_many_architectures_per_s"]
    rows.append(f"| predictions per second | {round(speed, -4):,} |")
    parity = figures("parity").values()
    difference = max(row["largest_output_difference"] for row in parity)
    rows.append(
        f"| the {len(parity)} reference networks against torchvision's and timm's, same weights | equal parameters, "
        f"outputs differ by at most {difference:.0e} |"
    )
    return "\n".join(rows)


BLOCKS = {"searches": searches, "tables": tables}


def updated(text: str) -> str:
    """README's text with every marked block written anew."""
    return BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}\n{match[3]}", text)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where README differs")
    check = parser.parse_args(arguments).check
    text = README.read_text(encoding="utf-8")
    if not check:
        README.write_text(updated(text), encoding="utf-8")
    elif updated(text) != text:
        sys.exit("README.md differs from the result files: run benchmarks/readme_figures.py")


if __name__ == "__main__":
    main()
