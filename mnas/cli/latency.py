"""The `mnas latency` commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mnas.cli.options import (
    Batch,
    Channels,
    Head,
    HeadClasses,
    Json,
    OutputStride,
    Runtime,
    Seed,
    Sizes,
    Threads,
    Without,
    one_size,
    outputs,
    sizes,
)
from mnas.cli.output import print_table, show
from mnas.config import MAX_TABLE_ERROR
from mnas.monitor.figures import with_spread

latency_app = typer.Typer(no_args_is_help=True, help="Measure latencies on this machine.\n\n"
                          "Example: mnas latency measure mobilenet_v3_large --runtime onnxruntime")


@latency_app.command("measure")
def latency_measure(
    targets: Annotated[list[str], typer.Argument(
        metavar="ARCH|RUN|FILE...", help="Zoo names, architecture files, runs, model files.",
    )],
    runtime: Runtime = "torch",
    threads: Threads = 1,
    batch: Batch = 1,
    classes: HeadClasses = None,
    head: Head = None,
    output_stride: OutputStride = None,
    resolution: Annotated[str | None, typer.Option(
        metavar="PX",
        help="Input size, of a rectangle HEIGHTxWIDTH; by default the architecture's own (a model file's from the "
             "architecture.yaml beside it), 224 for zoo names and other model files.",
    )] = None,
    rounds: Annotated[int, typer.Option(min=10, help="Largest number of rounds.")] = 200,
    seconds: Annotated[float, typer.Option(min=1.0, help="Seconds after which no new round begins.")] = 60.0,
    precision: Annotated[float, typer.Option(min=0.0, help="Percent to which each median is to be known.")] = 1.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Latency of whole networks, timed in turn, in random order, in rounds.

    Zoo names and architecture files have so many --classes; with --head they, and runs, are backbones under that head.

    Example: mnas latency measure mobilenet_v3_large mobilenet_v3_small@0.75 --runtime onnxruntime
    """
    from mnas.commands import latency as latency_commands
    from mnas.latency.conditions import Conditions
    from mnas.latency.timing.rounds import RoundLimits

    done = latency_commands.measure_latency(
        targets, Conditions(runtime, threads, batch), RoundLimits(rounds, seconds, precision / 100),
        resolution=one_size(resolution), num_classes=outputs(classes, head, output_stride), seed=seed,
    )  # fmt: skip

    def table() -> None:
        where = f"{done['device']}, {runtime} {done['runtime_version']}, threads: {threads}, batch {batch}"
        rows = [
            [n["name"], with_spread(n["latency_ms"], n["spread_ms"]), n["rounds"], n["unstable"] or ""]
            for n in done["networks"]
        ]
        print_table(where, ["network", "ms (median, 95%)", "rounds", "unstable"], rows)

    show(done, as_json, table)


@latency_app.command("build")
def latency_build(
    space: Annotated[str, typer.Option(help="A preset's name or a YAML file's path.")] = "v3_large",
    without: Without = None,
    runtime: Runtime = "torch",
    threads: Threads = 1,
    batch: Batch = 1,
    classes: HeadClasses = None,
    head: Head = None,
    output_stride: OutputStride = None,
    resolution: Sizes = None,
    channels: Channels = None,
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="The table's file; the cache's by default.",
    )] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Measure every layer that a space can reach, and whole networks to calibrate, into a table.

    An interrupted build continues where it stopped.

    Example: mnas latency build --space v3_large --runtime onnxruntime -o table.yaml

    Example: mnas latency build --space v3_large --head lraspp --classes 21 -o segmentation.yaml
    """
    from mnas.commands import latency as latency_commands
    from mnas.latency.conditions import Conditions

    wanted = outputs(classes, head, output_stride)
    choice = latency_commands.SpaceChoice(space, wanted, sizes(resolution), channels, without or "")
    done = latency_commands.build_latency_table(choice, Conditions(runtime, threads, batch), output=output, seed=seed)

    def lines() -> None:
        if done["fastest_ms"] is None:
            typer.echo(f"{done['path']}: {done['layers']} layers; {runtime} failed on {done['failed']}")
            suggest(done)
            return
        fit = done["calibration"]
        typer.echo(
            f"{done['path']}: {done['layers']} layers; space {done['space']} takes {done['fastest_ms']:.2f} to "
            f"{done['slowest_ms']:.2f} ms; error on {fit['held_out']} whole networks: mean {fit['mean_error']:.1%}, "
            f"largest {fit['max_error']:.1%}"
        )
        suggest(done)

    show(done, as_json, lines)


def suggest(done: Mapping[str, Any]) -> None:
    """Print what a search on the table's device may leave out, if anything."""
    from mnas.latency.table.suggestions import in_words

    if line := in_words(done["suggestions"]):
        typer.echo(line)


@latency_app.command("predict")
def latency_predict(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A latency table's file.")],
    targets: Annotated[list[str], typer.Argument(
        metavar="ARCH|RUN...", help="Zoo names, architecture files, runs.",
    )],
    classes: Annotated[int | None, typer.Option(
        min=2, help="Outputs of the classifier or head; by default the most that the table has one for.",
    )] = None,
    resolution: Annotated[str | None, typer.Option(
        metavar="PX", help="Input size; by default the architecture's own, 224 for zoo names.",
    )] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Latencies of networks by a table, under the head that it was made for, if any; nothing is measured.

    Example: mnas latency predict table.yaml mobilenet_v3_large mobilenet_v3_small@0.75
    """
    from mnas.commands import latency as latency_commands

    done = latency_commands.predict_latency(table, targets, num_classes=classes, resolution=one_size(resolution))

    def shown() -> None:
        head = f"under {done['head']}, " if done["head"] else ""
        error = "" if done["mean_error"] is None else f"; mean error {done['mean_error']:.1%}"
        rows = [[one["name"], str(one["resolution"]), f"{one['latency_ms']:.2f}"] for one in done["networks"]]
        where = f"{done['device']}, {done['runtime']}, {head}{done['classes']} classes{error}"
        print_table(where, ["network", "size", "ms"], rows)

    show(done, as_json, shown)


@latency_app.command("check")
def latency_check(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A latency table's file.")],
    space: Annotated[str | None, typer.Option(
        help="The space whose networks are measured; the table's own by default.",
    )] = None,
    classes: Annotated[int | None, typer.Option(
        min=2, help="Outputs of the classifier; by default the most that the table has one for.",
    )] = None,
    resolution: Sizes = None,
    networks: Annotated[int, typer.Option(min=3, help="Random networks to measure.")] = 20,
    seed: Annotated[int | None, typer.Option(help="Which networks; others each time by default.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Measure fresh random networks and compare the table's predictions with them: good, worse than stated, or inexact.

    Example: mnas latency check table.yaml
    """
    from mnas.commands import latency as latency_commands

    done = latency_commands.check_table(
        table, space=space, num_classes=classes, resolution=sizes(resolution), networks=networks, seed=seed
    )

    def shown() -> None:
        names = {
            "stated": "when it was made", "today": "today", "same_speed": "today, scaled to the machine's speed then"
        }
        rows = [
            [label, f"{f['mean_error']:.1%}", f"{f['max_error']:.1%}", f"{f['bias']:+.1%}", f"{f['spearman']:.3f}"]
            for label, f in ((label, done[name]) for name, label in names.items()) if f
        ]
        which = f"{networks} networks of space {done['space']} for {done['classes']} classes"
        twice = f"measured twice to {done['repeatability']:.1%}"
        print_table(f"{done['path']}: {which}, {twice}", ["", "mean error", "largest", "bias", "Spearman"], rows)
        typer.echo(_verdict(done))
        if done["unstable"]:
            typer.echo(f"unstable, so check again: {done['unstable']}")

    show(done, as_json, shown)


def _verdict(check: Mapping[str, Any]) -> str:
    """One sentence on a checked table."""
    error = (check["same_speed"] or check["today"])["mean_error"]
    sentence = f"{check['verdict']}: the table's mean error today is {error:.1%}"
    if check["verdict"] == "inexact":
        return f"{sentence}, above {MAX_TABLE_ERROR:.0%}: measure a new table with mnas latency build"
    if check["stated"] is None:
        return f"{sentence}, at most {MAX_TABLE_ERROR:.0%}; the table states none"
    bound = f"{check['stated']['mean_error']:.1%} stated plus {check['repeatability']:.1%} repeatability"
    return f"{sentence}, {'above' if check['verdict'] == 'worse than stated' else 'within'} the {bound}"
