"""`mnas latency kit` and `mnas latency import`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mnas.cli.latency import latency_app as latency_app
from mnas.cli.latency import suggest
from mnas.cli.options import Batch, Channels, Classes, Json, Seed, Sizes, Threads, Without, sizes
from mnas.cli.output import show
from mnas.errors import BadInput


@latency_app.command("kit")
def latency_kit(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .zip to write.")],
    space: Annotated[str, typer.Option(help="A preset's name or a YAML file's path.")] = "v3_large",
    without: Without = None,
    runtime: Annotated[str, typer.Option(help="What executes the layers there: onnxruntime, litert.")] = "onnxruntime",
    threads: Threads = 1,
    batch: Batch = 1,
    classes: Classes = 1000,
    resolution: Sizes = None,
    channels: Channels = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Bundle every layer of a space with a script that measures them on a device where mnas is not installed.

    Copy the .zip there and run: python3 kit.zip. It needs only the runtime and numpy. Then import its results.json.

    Example: mnas latency kit --space v3_large --runtime litert -o kit.zip
    """
    from mnas.commands import latency as latency_commands
    from mnas.commands import latency_kit as kits
    from mnas.latency.conditions import Conditions

    choice = latency_commands.SpaceChoice(space, classes, sizes(resolution), channels, without or "")
    done = kits.make_latency_kit(choice, Conditions(runtime, threads, batch), output=output, seed=seed)
    show(done, as_json, lambda: typer.echo(
        f"{done['path']}: {done['layers']} layers of space {done['space']} and {done['networks']} networks, "
        f"{done['megabytes']:.1f} MB; on the device: pip install {done['needs']} numpy; python3 {output.name}"
    ))  # fmt: skip


@latency_app.command("import")
def latency_import(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(
        metavar="SOURCE",
        help="A kit's results.json (the rest is in it), OFA-like YAML or JSON, a folder of it by resolution, or a CSV.",
    )],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table's file to write.")],
    device: Annotated[str | None, typer.Option(
        help='The device that the table was measured on: "Galaxy Note10".',
    )] = None,
    space: Annotated[str | None, typer.Option(
        help="The space whose layers are looked up: a preset's name or a YAML file's path.",
    )] = None,
    without: Without = None,
    runtime: Annotated[str, typer.Option(help="What executed the layers there, in your words: tflite.")] = "unknown",
    runtime_version: Annotated[str, typer.Option(help="Its version.")] = "unknown",
    threads: Annotated[int, typer.Option(min=1, help="Threads that it used.")] = 1,
    batch: Batch = 1,
    classes: Annotated[int, typer.Option(
        min=2, help="Outputs of the classifier, scaled where the table has others.",
    )] = 1000,
    unit: Annotated[str | None, typer.Option(help="ms, us or s; milliseconds by default, if plausible.")] = None,
    resolution: Sizes = None,
    channels: Channels = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Bring what a kit measured, or a latency table of others, into the form that a search reads.

    Example: mnas latency import results.json -o table.yaml

    Example: mnas latency import note10 --space ofa_mbv3 --device "Galaxy Note10" -o note10.yaml
    """
    from mnas.commands import latency as latency_commands
    from mnas.commands import latency_kit as kits
    from mnas.latency.conditions import Conditions
    from mnas.latency.kit.kit import is_results

    if is_results(source):
        stated = [
            parameter.opts[0] for parameter in context.command.params
            if parameter.name not in ("source", "output", "device", "as_json")
            and getattr(context.get_parameter_source(parameter.name or ""), "name", "") == "COMMANDLINE"
        ]  # fmt: skip
        if stated:
            raise BadInput(f"{source}: leave out {', '.join(stated)}: a kit's results state what was measured")
        brought = kits.import_kit(source, device=device, output=output)
        fit = brought["calibration"]
        error = f"; error on {fit['held_out']} whole networks: mean {fit['mean_error']:.1%}" if fit else ""
        _show_import(brought, as_json, f"{brought['layers']} layers measured on {brought['device']}{error}")
        return
    if device is None or space is None:
        raise BadInput(f"{source}: state --device and --space; only a kit's results.json says both itself")
    choice = latency_commands.SpaceChoice(space, classes, sizes(resolution), channels, without or "")
    done = kits.import_table(
        source, choice, Conditions(runtime, threads, batch), device=device, runtime_version=runtime_version, unit=unit,
        output=output,
    )  # fmt: skip
    takes = "" if done["missing"] else f", which takes {done['fastest_ms']:.2f} to {done['slowest_ms']:.2f} ms"
    _show_import(done, as_json, f"{done['layers']} layers of space {done['space']} on {done['device']}{takes}")


def _show_import(done: Mapping[str, Any], as_json: bool, text: str) -> None:
    def lines() -> None:
        typer.echo(f"{done['path']}: {text}")
        suggest(done)

    show(done, as_json, lines)
