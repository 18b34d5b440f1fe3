"""Options that several commands share, and what their words mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mnas.config import MOST_THREADS
from mnas.errors import BadInput

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Data = Annotated[str, typer.Option(help="digits, a folder of class folders, an .npz, or torchvision:NAME.")]
RUNTIMES = "What executes the network: torch, onnxruntime, litert, ... (see `mnas doctor`)."
Runtime = Annotated[str, typer.Option(help=RUNTIMES)]
Threads = Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="Threads that the runtime may use.")]
Batch = Annotated[int, typer.Option(min=1, help="Images a run.")]
Classes = Annotated[int, typer.Option(min=2, help="Outputs of the classifier.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="What trains: auto, cpu, cuda, mps.")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Any other key of the run's config.yaml.")]
Sizes = Annotated[str | None, typer.Option(metavar="PX[,PX...]", help="Input sizes, such as 160,192,224.")]


def sizes(text: str | None) -> list[int] | None:
    """The pixels that --resolution names."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(f"--resolution {text}: expected sizes in pixels, such as 160,192,224") from None


def repeated(args: Sequence[str], option: str) -> list[str]:
    """`--latency-ms 5 10` as `--latency-ms 5 --latency-ms 10`: the option before each further number."""
    spread: list[str] = []
    goes_on = has_value = False
    for arg in args:
        if goes_on and has_value and _is_number(arg):
            spread.append(option)
        elif not goes_on or has_value:
            goes_on, has_value = arg.partition("=")[0] == option, "=" in arg
        else:
            has_value = True
        spread.append(arg)
    return spread


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def by_device(
    order: Sequence[str], runtimes: list[str], tables: list[Path], budgets: int
) -> tuple[Sequence[str | None], Sequence[Path | None]]:
    """Runtimes and tables; in the order of the devices where each has one of both, as `order` says; else as given."""
    if len(order) != budgets or len({*order}) < 2:
        return runtimes, tables
    names, files = iter(runtimes), iter(tables)
    pairs = [(next(names), None) if option == "--runtime" else (None, next(files)) for option in order]
    return [name for name, _ in pairs], [file for _, file in pairs]


def assignments(items: Sequence[str]) -> dict[str, str]:
    """The keys and values of every --set."""
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise BadInput(f"--set {item}: expected KEY=VALUE, such as recipe.epochs=10")
        pairs[key] = value
    return pairs
