"""The `mnas` command: parses, calls, prints; no logic. Heavy imports wait until a command runs."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from mnas import __version__
from mnas.errors import BadInput, MnasError

app = typer.Typer(
    name="mnas", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Finds the most accurate MobileNet-style network for your images that keeps a latency budget on your device.\n\n"
         "Example: mnas search --space v3_large --data photos --latency-ms 15",
)  # fmt: skip
latency_app = typer.Typer(no_args_is_help=True, help="Measure latencies on this machine.\n\n"
                          "Example: mnas latency measure mobilenet_v3_large --runtime onnxruntime")
app.add_typer(latency_app, name="latency")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Data = Annotated[str, typer.Option(help="digits, a folder of class folders, an .npz, or torchvision:NAME.")]
RUNTIMES = "What executes the network: torch, onnxruntime, litert, ... (see `mnas doctor`)."
Runtime = Annotated[str, typer.Option(help=RUNTIMES)]
Threads = Annotated[int, typer.Option(min=1, help="Threads that the runtime may use.")]
Batch = Annotated[int, typer.Option(min=1, help="Images a run.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="What trains: auto, cpu, cuda, mps.")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Any other key of the run's config.yaml.")]
Sizes = Annotated[str | None, typer.Option(metavar="PX[,PX...]", help="Input sizes, such as 160,192,224.")]


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"mnas {__version__}")
        raise typer.Exit


class _InOrder(TyperCommand):
    """Keeps the order in which --runtime and --latency-table were given: each may name a device of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        names = [arg.partition("=")[0] for arg in args]
        ctx.meta["devices"] = [name for name in names if name in ("--runtime", "--latency-table")]
        return super().parse_args(ctx, args)


@app.command(cls=_InOrder)
def search(
    context: typer.Context,
    space: Annotated[str, typer.Option(help="A preset's name (see `mnas spaces`) or a YAML file's path.")] = "v3_large",
    latency_ms: Annotated[list[float], typer.Option(help="The budget: milliseconds for one network run (repeatable).")] = [],
    data: Data = "digits",
    objective: Annotated[str, typer.Option(help="mnasnet, mnasnet_hard, tunas, pareto, or a YAML file.")] = "mnasnet",
    runtime: Annotated[list[str], typer.Option(help=f"{RUNTIMES} Repeatable, with a --latency-ms each.")] = ["torch"],
    threads: Threads = 1,
    batch: Batch = 1,
    latency_table: Annotated[list[Path], typer.Option(help="A latency table's file; made here by default. Repeatable, with a --latency-ms each.")] = [],
    allow_foreign_table: Annotated[bool, typer.Option("--allow-foreign-table", help="Believe a table that was not measured here as asked for.")] = False,
    max_params: Annotated[str | None, typer.Option(metavar="N", help="Most parameters: 5M.")] = None,
    max_madds: Annotated[str | None, typer.Option(metavar="N", help="Most multiply-adds: 300M.")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(metavar="MB", help="Most memory for activations, at batch 1.")] = None,
    estimator: Annotated[str | None, typer.Option(help="Where accuracy comes from: train.")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, nsga2, gp, random.")] = "tpe",
    trials: Annotated[int | None, typer.Option(min=1, help="Stop after so many candidates.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the whole run: 90s, 30m, 2h. Default: 1h, 30 trials.")] = None,
    seed: Seed = 0,
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder; a new one in runs/ by default.")] = None,
    baseline: Annotated[list[str], typer.Option(metavar="NAME[@WIDTH]", help="A network to compare with (repeatable).")] = [],
    resolution: Sizes = None,
    proxy_resolution: Annotated[int | None, typer.Option(min=8, help="Largest input size for training.")] = None,
    device: Device = "auto",
    storage: Annotated[str | None, typer.Option(metavar="URL", help="Optuna storage; the run's study.db by default.")] = None,
    set_: Set = [],
    as_json: Json = False,
) -> None:  # fmt: skip
    """Search for the most accurate network that keeps a latency budget, train it and compare it.

    Example: mnas search --space v3_large --data photos --latency-ms 15 --budget 30m

    Several devices: --runtime torch --latency-ms 15 --latency-table phone.yaml --latency-ms 30 keeps both budgets.
    """
    from mnas.api import search as run_search

    runtimes, tables = _by_device(context.meta["devices"], runtime, latency_table, len(latency_ms))
    result = run_search(
        space=space, latency_ms=latency_ms or None, data=data, objective=objective, runtime=runtimes, threads=threads,
        batch=batch, latency_table=tables or None, allow_foreign_table=allow_foreign_table, max_params=max_params,
        max_madds=max_madds, max_memory_mb=max_memory_mb, estimator=estimator or "train", sampler=sampler,
        trials=trials, budget=budget, seed=seed, run=run, baseline=baseline, resolution=_sizes(resolution),
        proxy_resolution=proxy_resolution, device=device, storage=storage, set=_assignments(set_),
    )  # fmt: skip
    _print_result(result, as_json)


@app.command()
def resume(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")], as_json: Json = False) -> None:
    """Continue an interrupted run: finished trials are kept, none is run twice.

    Example: mnas resume runs/v3_large-15ms-20260101-120000
    """
    from mnas.api import resume as run_resume

    _print_result(run_resume(run), as_json)


@app.command()
def train(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="A zoo name, NAME@WIDTH, or an architecture.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    data: Data = "digits",
    resolution: Annotated[int | None, typer.Option(min=8, help="Input size; by default what the images have.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    set_: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A key of the recipe: epochs=10.")] = [],
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train one architecture and write it as a search writes its winner.

    Example: mnas train mobilenet_v3_small --data photos -o trained --set epochs=10
    """
    from mnas import commands
    from mnas.api import changed
    from mnas.config import Recipe

    recipe = changed(Recipe(), _assignments(set_))
    done = commands.train(
        architecture, data=data, output=output, resolution=resolution, recipe=recipe, seed=seed, device=device
    )
    _print(done, as_json, lambda: _print_networks(done))


@app.command()
def evaluate(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a folder that `train` wrote.")],
    data: Annotated[str | None, typer.Option(help="The data; what it was trained on by default.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    seed: Annotated[int | None, typer.Option(help="Seed of the splits; that of its training by default.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Accuracy of a trained network on one split of the data.

    Example: mnas evaluate runs/v3_large-15ms-20260101-120000
    """
    from mnas import commands

    done = commands.evaluate(target, data=data, split=split, seed=seed, device=device)
    _print(done, as_json, lambda: typer.echo(
        f"{done['accuracy']:.2%} of {done['images']} {done['split']} images of {done['data']} at {done['resolution']} px"
    ))  # fmt: skip


@app.command()
def export(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a folder that `train` wrote.")],
    format: Annotated[str, typer.Option(help="onnx or pytorch.")] = "onnx",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; the network's folder by default.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a trained network in a format, checked against PyTorch.

    Example: mnas export runs/v3_large-15ms-20260101-120000 --format onnx -o model.onnx
    """
    from mnas import commands

    done = commands.export(target, format=format, output=output)
    _print(done, as_json, lambda: typer.echo("\n".join(done["files"])))


@latency_app.command("measure")
def latency_measure(
    targets: Annotated[list[str], typer.Argument(metavar="ARCH|RUN|FILE...", help="Zoo names, architecture files, runs, model files.")],
    runtime: Runtime = "torch",
    threads: Threads = 1,
    batch: Batch = 1,
    resolution: Annotated[int | None, typer.Option(min=8, help="Input size; the architecture's own by default.")] = None,
    rounds: Annotated[int, typer.Option(min=10, help="At most so many rounds.")] = 200,
    seconds: Annotated[float, typer.Option(min=1.0, help="No new round begins after so many seconds.")] = 60.0,
    precision: Annotated[float, typer.Option(min=0.0, help="Ends when each median is known to so many percent.")] = 1.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Latency of whole networks, timed in turn, in random order, in rounds.

    Example: mnas latency measure mobilenet_v3_large mobilenet_v3_small@0.75 --runtime onnxruntime
    """
    from mnas import latency_commands

    done = latency_commands.measure_latency(
        targets, runtime=runtime, threads=threads, batch=batch, resolution=resolution, rounds=rounds, seconds=seconds,
        precision=precision / 100, seed=seed,
    )  # fmt: skip

    def table() -> None:
        where = f"{done['device']}, {runtime} {done['runtime_version']}, {threads} thread(s), batch {batch}"
        rows = [
            [n["name"], f"{n['latency_ms']:.2f} +- {n['spread_ms']:.2f}", n["rounds"], n["unstable"] or ""]
            for n in done["networks"]
        ]
        _table(where, ["network", "ms (median, 95%)", "rounds", "unstable"], rows)

    _print(done, as_json, table)


@latency_app.command("build")
def latency_build(
    space: Annotated[str, typer.Option(help="A preset's name or a YAML file's path.")] = "v3_large",
    runtime: Runtime = "torch",
    threads: Threads = 1,
    batch: Batch = 1,
    classes: Annotated[int, typer.Option(min=2, help="Outputs of the classifier.")] = 1000,
    resolution: Sizes = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The table's file; the cache's by default.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Measure every layer that a space can reach, and whole networks to calibrate, into a table.

    An interrupted build goes on where it stopped.

    Example: mnas latency build --space v3_large --runtime onnxruntime -o table.yaml
    """
    from mnas import latency_commands

    done = latency_commands.build_latency_table(
        space, runtime=runtime, threads=threads, batch=batch, num_classes=classes, resolution=_sizes(resolution),
        output=output, seed=seed,
    )  # fmt: skip

    def lines() -> None:
        if done["fastest_ms"] is None:
            typer.echo(f"{done['path']}: {done['layers']} layers; {runtime} failed on {done['failed']}")
            return
        fit = done["calibration"]
        typer.echo(
            f"{done['path']}: {done['layers']} layers; space {done['space']} takes {done['fastest_ms']:.2f} to "
            f"{done['slowest_ms']:.2f} ms; error on {fit['held_out']} whole networks: mean {fit['mean_error']:.1%}, "
            f"largest {fit['max_error']:.1%}"
        )

    _print(done, as_json, lines)


@latency_app.command("check")
def latency_check(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A latency table's file.")],
    space: Annotated[str | None, typer.Option(help="The space whose networks are measured; the table's own by default.")] = None,
    classes: Annotated[int, typer.Option(min=2, help="Outputs of the classifier.")] = 1000,
    resolution: Sizes = None,
    networks: Annotated[int, typer.Option(min=3, help="Random networks to measure.")] = 20,
    seed: Annotated[int | None, typer.Option(help="Which networks; others each time by default.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Measure fresh random networks and say how far the table's predictions are from them today.

    Example: mnas latency check table.yaml
    """
    from mnas import latency_commands

    done = latency_commands.check_table(
        table, space=space, num_classes=classes, resolution=_sizes(resolution), networks=networks, seed=seed
    )

    def shown() -> None:
        names = {"stated": "when it was made", "today": "today", "same_speed": "today, at the machine's speed of then"}
        rows = [
            [label, f"{f['mean_error']:.1%}", f"{f['max_error']:.1%}", f"{f['bias']:+.1%}", f"{f['spearman']:.3f}"]
            for label, f in ((label, done[name]) for name, label in names.items()) if f
        ]
        title = f"{done['path']}: {networks} networks of space {done['space']}, measured twice to {done['repeatability']:.1%}"
        _table(title, ["", "mean error", "largest", "bias", "Spearman"], rows)
        if done["unstable"]:
            typer.echo(f"unstable: {done['unstable']}")

    _print(done, as_json, shown)


@latency_app.command("kit")
def latency_kit(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .zip to write.")],
    space: Annotated[str, typer.Option(help="A preset's name or a YAML file's path.")] = "v3_large",
    runtime: Annotated[str, typer.Option(help="What executes the layers there: onnxruntime, litert.")] = "onnxruntime",
    threads: Threads = 1,
    batch: Batch = 1,
    classes: Annotated[int, typer.Option(min=2, help="Outputs of the classifier.")] = 1000,
    resolution: Sizes = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Bundle every layer of a space with a script that measures them on a device where mnas is not installed.

    Copy the .zip there and run: python3 kit.zip. It needs the runtime and numpy alone. Then import its results.json.

    Example: mnas latency kit --space v3_large --runtime litert -o kit.zip
    """
    from mnas import latency_commands

    done = latency_commands.make_latency_kit(
        space, runtime=runtime, threads=threads, batch=batch, num_classes=classes, resolution=_sizes(resolution),
        output=output, seed=seed,
    )  # fmt: skip
    _print(done, as_json, lambda: typer.echo(
        f"{done['path']}: {done['layers']} layers of space {done['space']} and {done['networks']} networks, "
        f"{done['megabytes']:.1f} MB; on the device: pip install {done['needs']} numpy; python3 {output.name}"
    ))  # fmt: skip


@latency_app.command("import")
def latency_import(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A kit's results.json (the rest is in it), OFA-like YAML, a folder of it by resolution, or a CSV.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table's file to write.")],
    device: Annotated[str | None, typer.Option(help='The device that the table was measured on: "Galaxy Note10".')] = None,
    space: Annotated[str | None, typer.Option(help="The space whose layers are looked up: a preset's name or a YAML file's path.")] = None,
    runtime: Annotated[str, typer.Option(help="What executed the layers there, in your words: tflite.")] = "unknown",
    runtime_version: Annotated[str, typer.Option(help="Its version.")] = "unknown",
    threads: Annotated[int, typer.Option(min=1, help="Threads that it used.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images a run.")] = 1,
    classes: Annotated[int, typer.Option(min=2, help="Outputs of the classifier, scaled where the table has others.")] = 1000,
    unit: Annotated[str | None, typer.Option(help="ms, us or s; milliseconds by default, if plausible.")] = None,
    resolution: Sizes = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Bring what a kit measured, or a latency table of others, into the form that a search reads.

    Example: mnas latency import results.json -o table.yaml

    Example: mnas latency import note10 --space ofa_mbv3 --device "Galaxy Note10" -o note10.yaml
    """
    from mnas import latency_commands

    if source.suffix == ".json":
        brought = latency_commands.import_kit(source, device=device, space=space, output=output)
        fit = brought["calibration"]
        error = f"; error on {fit['held_out']} whole networks: mean {fit['mean_error']:.1%}" if fit else ""
        _print(brought, as_json, lambda: typer.echo(
            f"{brought['path']}: {brought['layers']} layers measured on {brought['device']}{error}"
        ))  # fmt: skip
        return
    if device is None or space is None:
        raise BadInput(f"{source}: state --device and --space; only a kit's results.json says both itself")
    done = latency_commands.import_table(
        source, space=space, device=device, runtime=runtime, runtime_version=runtime_version, threads=threads,
        batch=batch, num_classes=classes, unit=unit, resolution=_sizes(resolution), output=output,
    )  # fmt: skip
    takes = "" if done["missing"] else f", which takes {done['fastest_ms']:.2f} to {done['slowest_ms']:.2f} ms"
    _print(done, as_json, lambda: typer.echo(
        f"{done['path']}: {done['layers']} layers of space {done['space']} on {done['device']}{takes}"
    ))  # fmt: skip


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(metavar="[SPACE]", help="One space, with all its choices.")] = None,
    as_json: Json = False,
) -> None:
    """The search spaces: how many networks, which choices, which reference.

    Example: mnas spaces v3_large
    """
    from mnas import catalogue
    from mnas.config import preset_names

    found = catalogue.spaces([name] if name else preset_names("search_spaces"))

    def table() -> None:
        if name:
            one = found[0]
            typer.echo(f"{one['name']}: {one['size']:.4g} networks; reference {one['reference']}")
            rows = [[choice, ", ".join(map(str, options))] for choice, options in one["choices"].items()]
            _table("choices of the deepest network", ["choice", "options"], rows)
        else:
            rows = [[one["name"], f"{one['size']:.3g}", len(one["choices"]), one["reference"]] for one in found]
            _table("search spaces", ["space", "networks", "choices", "reference"], rows)

    _print(found[0] if name else {"spaces": found}, as_json, table)


@app.command()
def zoo(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One network, layer by layer, as YAML.")] = None,
    width: Annotated[float, typer.Option(help="Width multiplier.")] = 1.0,
    resolution: Annotated[int, typer.Option(min=8, help="Input size.")] = 224,
    as_json: Json = False,
) -> None:
    """The reference networks, with parameters and multiply-adds.

    Example: mnas zoo mobilenet_v3_large --width 0.75
    """
    from mnas import catalogue
    from mnas import zoo as references

    if name:
        arch = references.get(name, width, resolution)
        _print(arch.to_dict(), as_json, lambda: typer.echo(arch.to_yaml(), nl=False))
        return
    rows = catalogue.zoo_table(width, resolution)
    shown = [[r["name"], f"{r['params']:,}", f"{r['madds'] / 1e6:,.2f} M"] for r in rows]
    _print({"networks": rows}, as_json, lambda: _table(
        f"reference networks, width {width:g}, {resolution} px, 1000 classes", ["name", "parameters", "MAdds"], shown
    ))  # fmt: skip


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, devices, runtimes, and what is missing with the command that installs it.

    Example: mnas doctor
    """
    from mnas import commands

    found = commands.doctor()

    def table() -> None:
        _table("versions", ["package", "version"], [list(item) for item in found["versions"].items()])
        others = [["cuda", gpu] for gpu in found["gpus"]] + [["mps", "Apple GPU"]] * ("mps" in found["devices"])
        _table("devices", ["device", "what"], [["cpu", found["device"]], *others])
        _table("runtimes", ["runtime", "version"], [[r["name"], r["version"] or r["missing"]] for r in found["runtimes"]])
        if found["missing"]:
            _table("not installed", ["package", "for", "install"], [list(m.values()) for m in found["missing"]])

    _print(found, as_json, table)


# --- printing ---------------------------------------------------------------------------------------------------


def _print(data: Any, as_json: bool, table: Callable[[], None]) -> None:
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        table()


def _print_result(result: Any, as_json: bool) -> None:
    done = {"folder": str(result.folder), "winner": str(result.winner.folder), **result.metrics}
    _print(done, as_json, lambda: _print_networks(done))


def _print_networks(done: dict[str, Any]) -> None:
    """The comparison: winner first, then the baselines."""
    rows, targets = [], done["networks"][0]["latencies"]
    for row in done["networks"]:
        size, trained = row["resolution"], row["accuracy_resolution"]
        pixels = str(size) if size == trained else f"{size} (accuracy {trained})"
        shown = [row["name"], f"{row['test_accuracy']:.2%}", f"{row['madds'] / 1e6:,.1f} M", f"{row['params']:,}", pixels]
        rows.append(shown + [_latency(one) for one in row["latencies"]])
    title = f"{done['accuracy']['data']}: {done['accuracy']['test_images']} test images, {done['accuracy']['epochs']} epochs"
    columns = ["network", "test accuracy", "MAdds", "parameters", "px"]
    for number, one in enumerate(targets, start=1):
        which = f" {number}" * (len(targets) > 1)
        columns.append(f"latency{which} (ms)")
        budget = f", budget {one['budget_ms']:g} ms" if one["budget_ms"] else ""
        how = ", predicted by the table of this device, not measured" if one["how"] == "predicted" else ""
        where = f"{one['device']}, {one['runtime']}, {one['threads']} thread(s), batch {one['batch']}"
        title += f"\n{f'{number}: ' if which else ''}{where}{budget}{how}"
    _table(title, columns, rows)
    typer.echo(done.get("winner", done["folder"]))


def _latency(one: dict[str, Any]) -> str:
    if one["latency_ms"] is None:
        return str(one["how"])
    spread = f" +- {one['spread_ms']:.2f}" if one["spread_ms"] else ""
    return f"{one['latency_ms']:.2f}{spread}" + " (over budget)" * (one["keeps"] is False)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width to keep
        console.width = 200
    console.print(table, highlight=False)


# --- parsing ----------------------------------------------------------------------------------------------------


def _sizes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(f"--resolution {text}: expected sizes in pixels, such as 160,192,224") from None


def _by_device(
    order: Sequence[str], runtimes: list[str], tables: list[Path], budgets: int
) -> tuple[Sequence[str | None], Sequence[Path | None]]:
    """Where each device has either a --runtime or a --latency-table, both in the order of the devices; else as given."""
    if len(order) != budgets or len({*order}) < 2:
        return runtimes, tables
    names, files = iter(runtimes), iter(tables)
    pairs = [(next(names), None) if option == "--runtime" else (None, next(files)) for option in order]
    return [name for name, _ in pairs], [file for _, file in pairs]


def _assignments(items: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise BadInput(f"--set {item}: expected KEY=VALUE, such as recipe.epochs=10")
        pairs[key] = value
    return pairs


# --- errors -----------------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Run the command; every deliberate error is one line on stderr and an exit code."""
    from mnas.monitor import log_to_console

    as_json = "--json" in sys.argv
    log_to_console()
    try:
        code = app(standalone_mode=False, prog_name="mnas")
        if code == 130:  # Typer's own answer to Ctrl-C
            code = _fail("interrupted", 130, as_json)
    except MnasError as error:
        code = _fail(str(error), error.exit_code, as_json)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("interrupted", 130, as_json)
    except typer.Exit as error:
        code = error.exit_code
    except OSError as error:
        if error.errno == errno.EPIPE:
            with contextlib.suppress(OSError):
                sys.stdout.close()
            code = 0
        elif error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        else:
            full = "; what was finished is kept: free some space; a run goes on with mnas resume RUN"
            advice = full if error.errno in (errno.ENOSPC, errno.EDQUOT) else "; name another file or folder"
            code = _fail(f"{error.filename or 'disk'}: {error.strerror}{advice}", 2, as_json)
    except Exception as error:
        code = _usage(error, as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Exception, as_json: bool) -> int:
    """A mistake in the command's words, as Click states it; any other exception is a bug and goes on."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        raise error
    context = getattr(error, "ctx", None)
    hint = f" (see: {context.command_path} --help)" if context else ""
    return _fail(f"{format_message().rstrip('.')}{hint}", 2, as_json)


def _fail(message: str, code: int, as_json: bool) -> int:
    logging.getLogger("mnas").debug("failed: %s", message)
    typer.echo(f"error: {message}", err=True)
    if as_json:
        typer.echo(json.dumps({"error": message, "exit_code": code}))
    return code
