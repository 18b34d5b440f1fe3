"""The `mnas` command: parses, calls, prints; no logic. Heavy imports wait until a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from mnas.cli.catalogue import config, doctor, spaces, zoo
from mnas.cli.credentials import hide_from_process_list
from mnas.cli.errors import end
from mnas.cli.files import files_csv, print_files
from mnas.cli.latency_kit import latency_app
from mnas.cli.options import (
    FORMATS,
    RUNTIMES,
    STORAGE,
    Batch,
    Channels,
    ClassWeights,
    Data,
    Device,
    Fit,
    Flip,
    GroupBy,
    Head,
    Init,
    Json,
    Labels,
    MaxBroken,
    MaxPixels,
    NoPretrained,
    Precisions,
    Pretrained,
    Seed,
    Set,
    Sizes,
    Task,
    Threads,
    Without,
    assignments,
    by_device,
    comma_separated,
    in_precision,
    milliseconds,
    one_of_export,
    one_size,
    optional_value,
    sizes,
    stated_weights,
    words,
)
from mnas.cli.output import (
    only_main_process,
    print_answers,
    print_figures,
    print_networks,
    print_predictions,
    print_result,
    print_trials,
    show,
)
from mnas.config import MAX_BROKEN
from mnas.errors import BadInput
from mnas.io.files import write_atomic
from mnas.version import __version__

app = typer.Typer(
    name="mnas", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Finds the most accurate MobileNet-style network for your images that keeps a latency budget on your device.\n\n"
         "Example: mnas search --space v3_large --data photos --latency-ms 15",
)  # fmt: skip
app.add_typer(latency_app, name="latency")


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"mnas {__version__}")
        raise typer.Exit


class _WithPretrained(TyperCommand):
    """Takes --pretrained with and without a name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, optional_value(args, "--pretrained", "default"))


class _InOrder(TyperCommand):
    """Keeps the order of --runtime and --latency-table, since each may name another device."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = optional_value(comma_separated(args, "--latency-ms"), "--pretrained", "default")
        names = [arg.partition("=")[0] for arg in args]
        ctx.meta["devices"] = [name for name in names if name in ("--runtime", "--latency-table")]
        return super().parse_args(ctx, args)


@app.command(cls=_InOrder)
def search(
    context: typer.Context,
    space: Annotated[str | None, typer.Option(help="A preset's name (see `mnas spaces`) or a YAML file's path; by default v3_large, or that of --supernet.")] = None,
    without: Without = None,
    latency_ms: Annotated[list[str], typer.Option(metavar="MS[,MS...]", help="The budget: milliseconds for one inference. Several: a winner for each.")] = [],
    task: Task = "classification",
    head: Head = None,
    data: Annotated[str | None, typer.Option(help="digits, a folder of class folders, an .npz, or torchvision:NAME; by default digits, or the data of --supernet. With --task shapes, or a folder of masks or boxes.")] = None,
    labels: Labels = None,
    max_broken: MaxBroken = MAX_BROKEN,
    max_pixels: MaxPixels = "400M",
    fit: Fit = "auto",
    channels: Channels = None,
    group_by: GroupBy = None,
    objective: Annotated[str | None, typer.Option(help="mnasnet_hard, mnasnet, tunas, pareto, or a YAML file; mnasnet_hard by default, pareto for several budgets.")] = None,
    runtime: Annotated[list[str], typer.Option(help=f"{RUNTIMES} Repeatable, with a --latency-ms each.")] = ["torch"],
    threads: Threads = 1,
    precision: Annotated[str, typer.Option(metavar="fp32|int8", help="int8: latencies and accuracies are those of quantised files; with --runtime litert, onnxruntime, openvino or executorch.")] = "fp32",
    batch: Batch = 1,
    latency_table: Annotated[list[Path], typer.Option(help="A latency table's file; made here by default. Repeatable, with a --latency-ms each.")] = [],
    allow_foreign_table: Annotated[bool, typer.Option("--allow-foreign-table", help="Use a table measured on another device, runtime or number of threads.")] = False,
    max_params: Annotated[str | None, typer.Option(metavar="N", help="Limit on the parameters: 5M.")] = None,
    max_madds: Annotated[str | None, typer.Option(metavar="N", help="Limit on the multiply-adds: 300M.")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(metavar="MB", help="Limit on the memory for activations, at batch 1.")] = None,
    estimator: Annotated[str | None, typer.Option(help="How accuracy is estimated: auto, supernet, train, probe, zero_cost.")] = None,
    metric: Annotated[str, typer.Option(metavar="accuracy|balanced", help="What decides: accuracy, or the mean of the classes' recalls.")] = "accuracy",
    sampler: Annotated[str, typer.Option(help="predictor, evolution, tpe, nsga2, gp, random.")] = "predictor",
    trials: Annotated[int | None, typer.Option(min=1, help="Number of candidates to evaluate.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the whole run: 90s, 30m, 2h. Default: 1h, 20 trials.")] = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="How often winner and baselines are trained, each time with another seed.")] = 1,
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder; a new one in runs/ by default.")] = None,
    baseline: Annotated[list[str], typer.Option(metavar="NAME[@WIDTH]", help="A network to compare with (repeatable).")] = [],
    resolution: Sizes = None,
    proxy_resolution: Annotated[int | None, typer.Option(min=8, help="Largest input size at which candidates are estimated; of rectangles the height.")] = None,
    init: Init = None,
    supernet: Annotated[Path | None, typer.Option(metavar="FOLDER", help="A run, or a folder of `mnas supernet`, whose supernet is used, or adapted to other images.")] = None,
    pretrained: Pretrained = "auto",
    no_pretrained: NoPretrained = False,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Train the winner from random weights, not the supernet's.")] = False,
    class_weights: ClassWeights = None,
    flip: Flip = None,
    compare_random: Annotated[bool, typer.Option("--compare-random", help="Evaluate as many random networks after the search, to compare it with.")] = False,
    device: Device = "auto",
    storage: Annotated[str | None, typer.Option(metavar="URL", help=f"{STORAGE}; the run's study.db by default. `mnas worker` shares its trials.")] = None,
    workers_only: Annotated[bool, typer.Option("--workers-only", help="Leave the trials to `mnas worker` processes that share --storage.")] = False,
    set_: Set = [],
    as_json: Json = False,
) -> None:  # fmt: skip
    """Search for the most accurate network that keeps a latency budget, train it and compare it.

    Example: mnas search --space v3_large --data photos --latency-ms 15 --budget 30m

    Several budgets: --latency-ms 5,10,15 trains one supernet and gives three winners.

    Several devices: --runtime torch --latency-ms 15 --latency-table phone.yaml --latency-ms 30 keeps both budgets.

    A backbone under a head: mnas search --task segmentation --head lraspp --data masks --latency-ms 40

    Every other setting: --set KEY=VALUE; `mnas config` lists the keys with their defaults.
    """
    from mnas.api import search as run_search

    budgets = milliseconds(latency_ms)
    runtime = in_precision(runtime, precision)
    runtimes, tables = by_device(context.meta["devices"], runtime, latency_table, latency_ms)
    with only_main_process():
        result = run_search(
            space=space, without=without or (), task=task, head=head, latency_ms=budgets or None, data=data, labels=labels, max_broken=max_broken, max_pixels=max_pixels, fit=fit,
            channels=channels, group_by=group_by, objective=objective, runtime=runtimes, threads=threads,
            batch=batch, latency_table=tables or None, allow_foreign_table=allow_foreign_table, max_params=max_params,
            max_madds=max_madds, max_memory_mb=max_memory_mb, metric=metric, estimator=estimator, sampler=sampler,
            trials=trials, budget=budget, seed=seed, seeds=seeds, run=run, baseline=baseline, resolution=sizes(resolution),
            proxy_resolution=proxy_resolution, init=init, supernet=supernet, pretrained=stated_weights(pretrained, no_pretrained), from_scratch=from_scratch, class_weights=class_weights,
            compare_random=compare_random, device=device, storage=storage, workers_only=workers_only, set=_flipped("recipe.flip", flip) | assignments(set_),
        )  # fmt: skip
    print_result(result, as_json)


def _flipped(key: str, flip: bool | None) -> dict[str, Any]:
    return {} if flip is None else {key: flip}


@app.command(cls=_WithPretrained)
def supernet(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write; one that has a part of it is continued.")],
    space: Annotated[str, typer.Option(help="A preset's name (see `mnas spaces`) or a YAML file's path.")] = "v3_large",
    without: Without = None,
    data: Data = "digits",
    labels: Labels = None,
    max_broken: MaxBroken = MAX_BROKEN,
    max_pixels: MaxPixels = "400M",
    fit: Fit = "auto",
    channels: Channels = None,
    group_by: GroupBy = None,
    budget: Annotated[str | None, typer.Option(help="Time for the training: 90s, 30m, 2h; by default the recipe's epochs.")] = None,
    seed: Seed = 0,
    resolution: Sizes = None,
    init: Init = None,
    pretrained: Pretrained = "auto",
    no_pretrained: NoPretrained = False,
    flip: Flip = None,
    device: Device = "auto",
    set_: Set = [],
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train the supernet of a space alone, once for all searches in it.

    Example: mnas supernet --space v3_large --data photos -o photos-supernet

    Then: mnas search --supernet photos-supernet --latency-ms 8 --runtime onnxruntime
    """
    from mnas.api import train_supernet

    with only_main_process():
        done = train_supernet(
            output, space=space, without=without or (), data=data, labels=labels, max_broken=max_broken, max_pixels=max_pixels, fit=fit,
            channels=channels, group_by=group_by, budget=budget, seed=seed, resolution=sizes(resolution), init=init,
            pretrained=stated_weights(pretrained, no_pretrained), device=device,
            set=_flipped("recipe.flip", flip) | assignments(set_),
        )  # fmt: skip
    show(done, as_json, lambda: typer.echo(f"supernet: {done['folder']}"))


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    data: Annotated[Path | None, typer.Option(help="Where the run's images are now, if they were moved.")] = None,
    storage: Annotated[str | None, typer.Option(metavar="URL", help="Another URL of the run's Optuna storage.")] = None,
    as_json: Json = False,
) -> None:
    """Continue an interrupted run; finished trials are not repeated.

    Example: mnas resume runs/v3_large-15ms-20260101-120000
    """
    from mnas.api import resume as run_resume

    with only_main_process():
        result = run_resume(run, data=data, storage=storage)
    print_result(result, as_json)


@app.command()
def worker(
    storage: Annotated[str, typer.Option(metavar="URL", help=f"{STORAGE}, as the search has it.")],
    run: Annotated[str, typer.Option(metavar="NAME", help="The name of the search's run: that of its folder.")],
    data: Annotated[Path | None, typer.Option(help="Where the run's images are on this machine.")] = None,
    init: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the search's file of weights (its --init) is on this machine.")] = None,
    device: Annotated[str | None, typer.Option(help="What trains here: auto, cpu, cuda, mps; by default as in the search.")] = None,
    wait: Annotated[str, typer.Option(metavar="TIME", help="How long the search, and then a trial, is waited for: 90s, 10m.")] = "10m",
    as_json: Json = False,
) -> None:
    """Evaluate trials of a search on this machine too, until the search has enough; any number of workers may.

    Example: mnas worker --storage env:MNAS_STORAGE --run flowers

    What it needs is in the storage, except images and weights; docs/clusters.md has scripts for Slurm and Kubernetes.
    """
    from mnas.api import worker as run_worker

    done = run_worker(storage, run, data=data, init=init, device=device, wait=wait)
    show(done, as_json, lambda: typer.echo(f"{done['run']}: evaluated {done['evaluated']} of {done['trials']} trials here"))


@app.command(cls=_WithPretrained)
def train(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="A zoo name, NAME@WIDTH, or an architecture.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    data: Annotated[str | None, typer.Option(help="digits (the default), a folder of class folders, an .npz, or torchvision:NAME; with --task shapes, or a folder of masks or boxes.")] = None,
    task: Task = "classification",
    head: Head = None,
    resolution: Annotated[str | None, typer.Option(metavar="PX", help="Input size, of a rectangle HEIGHTxWIDTH; by default what the images have.")] = None,
    seed: Seed = 0,
    labels: Labels = None,
    max_broken: MaxBroken = MAX_BROKEN,
    max_pixels: MaxPixels = "400M",
    fit: Fit = "auto",
    channels: Channels = None,
    group_by: GroupBy = None,
    class_weights: ClassWeights = None,
    flip: Flip = None,
    init: Init = None,
    pretrained: Pretrained = "auto",
    no_pretrained: NoPretrained = False,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="Of training: auto (the faster one), float32, bfloat16.")] = "auto",
    set_: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A key of the recipe: epochs=10; `mnas config` lists them under recipe.")] = [],
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train one architecture and write the same files as for a winner.

    Example: mnas train mobilenet_v3_small --data photos -o trained --set epochs=10

    Under a head, its weights and figures: mnas train mobilenet_v3_small --task segmentation --head lraspp --data masks -o trained
    """
    from mnas.commands import dense, models
    from mnas.config import parse_count, recipe_with, with_keys
    from mnas.data.reading import FOUND_OUT, reading_of
    from mnas.tasks.kinds import chosen_task

    chosen = chosen_task(task, head)
    usual, source = (dense.RECIPE, "shapes") if chosen else ({}, "digits")
    recipe = with_keys(recipe_with(class_weights, usual), _flipped("flip", flip) | assignments(set_))
    reading = reading_of(fit, parse_count(max_pixels, "--max-pixels"), channels or 3)
    options = models.DataOptions(source if data is None else data, seed, max_broken, reading, group_by, labels, finds_fit=fit == FOUND_OUT)
    how = models.TrainOptions(one_size(resolution), recipe, device, precision, init, stated_weights(pretrained, no_pretrained))
    if chosen is not None:
        trained = dense.train(architecture, chosen, options, output=output, options=how)
        show(trained, as_json, lambda: print_figures(trained, trained["test"]))
        return
    done = models.train(architecture, options, output=output, options=how)
    show(done, as_json, lambda: print_networks(done))


@app.command()
def evaluate(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a folder that `train` wrote.")],
    data: Annotated[str | None, typer.Option(help="The data of its training where they are now, or new images; by default the former where they were.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; by default test, and all of new images without splits.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the splits, of a training that did not write them down.")] = None,
    max_broken: Annotated[int | None, typer.Option(min=0, metavar="N", help="Images that cannot be decoded and may be skipped; as in its training by default.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Accuracy of a trained network, mIoU or mAP of one with a head, on one split of the data of its training, or on new images.

    Example: mnas evaluate runs/v3_large-15ms-20260101-120000

    New images: --data FOLDER, with a folder for each of the classes, or some of them; all of its images count.
    """
    from mnas.commands import dense, models

    if dense.is_dense(target):
        judged = dense.evaluate(target, data=data, split=split, seed=seed, max_broken=max_broken, device=device)
        show(judged, as_json, lambda: print_figures(judged, judged))
        return
    done = models.evaluate(target, data=data, split=split, seed=seed, max_broken=max_broken, device=device)
    show(done, as_json, lambda: typer.echo(
        f"{done['accuracy']:.2%} of {done['images']} {done['split']} images of {done['data']} at {done['resolution']} px"
    ))  # fmt: skip


@app.command()
def predict(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a folder that `train` wrote.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Image files, or folders of them.")],
    top: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many classes, or objects, of each image are shown; 5 classes, all objects.")] = None,
    least: Annotated[float | None, typer.Option(min=0, max=1, metavar="P", help="Of a network with a head: the least probability of an object, or share of a class; 0.3 of objects.")] = None,
    runtime: Annotated[str | None, typer.Option(help="What runs an exported file: onnxruntime, litert, executorch, openvino, opencv, torch; by default PyTorch runs the weights.")] = None,
    file: Annotated[Path | None, typer.Option(help="An exported file; by default the runtime's in the network's folder.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write a CSV file, with a row for each image and class; of a network with a head a folder with a PNG for each image: its mask, or its objects.")] = None,
    max_broken: Annotated[int | None, typer.Option(min=0, metavar="N", help="Images that cannot be decoded and may be skipped; any number by default.")] = None,
    device: Annotated[str, typer.Option(help="What runs the weights: auto, cpu, cuda, mps.")] = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """The most probable classes of images, or their masks or objects, by a trained network or a file exported from it.

    Example: mnas predict runs/v3_large-15ms-20260101-120000 photo.jpg new_photos --top 3

    By a file: --runtime onnxruntime, or --file model.onnx.
    """
    from mnas.commands import predict as command
    from mnas.export.dense import dense_folder

    if (folder := dense_folder(target)) is not None:
        from mnas.commands import dense_predict as dense

        options = dense.PredictOptions(top, least, runtime, file, output, device, max_broken)
        answered = dense.predict(folder, images, options)
        show(answered, as_json, lambda: print_answers(answered))
        return
    if least is not None:
        raise BadInput("--least: for networks with a head alone; --top says how many classes are shown")
    if output is not None and output.exists():
        raise BadInput(f"{output}: exists; name another file with -o")
    done = command.predict(target, images, top=5 if top is None else top, runtime=runtime, file=file, device=device, max_broken=max_broken)
    if output is not None:
        command.write_csv(output, done)
    show(done, as_json, lambda: print_predictions(done))


@app.command()
def export(
    target: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or a folder that `train` wrote.")],
    format: Annotated[str | None, typer.Option(metavar="FORMAT[,FORMAT]", help=f"{FORMATS}, or all; onnx by default.")] = None,
    precision: Precisions = None,
    embed: Annotated[bool, typer.Option("--embed-preprocessing", help="Also ONNX, LiteRT and OpenVINO files that take uint8 pixels (b, h, w, c) of the input size.")] = False,
    trial: Annotated[int | None, typer.Option(min=0, metavar="N", help="Hand over this finished trial of the run like its winner: trained by the same recipe, in RUN/front/trial-N.")] = None,
    opset: Annotated[int | None, typer.Option(min=1, metavar="N", help="Version of ONNX's operators, 11 to 18 (the default), for older readers.")] = None,
    check: Annotated[str | None, typer.Option(metavar="RUNTIME[,RUNTIME]", help="Run the .onnx by these too, such as opencv,openvino, and compare.")] = None,
    front: Annotated[bool, typer.Option("--front", help="The same for every trial of the Pareto front.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; the network's folder, or RUN/front, by default.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a trained network in one or more formats, each compared with PyTorch on real images, and timed.

    Example: mnas export runs/v3_large-15ms-20260101-120000 --format onnx,litert --precision fp32,int8

    Another trial than the winner: --trial 12; leaderboard.csv in the run's folder lists them.
    """
    from mnas.commands import dense_files, models
    from mnas.commands import export as exporting
    from mnas.export.dense import dense_folder

    if one_of_export(trial, front, format):
        handed_over = models.export_trials(target, trial=trial, output=output)
        show(handed_over, as_json, lambda: print_trials(handed_over))
        return
    options = exporting.ExportOptions(
        words(format, "onnx"), words(precision, "fp32"), output, opset, words(check), embed
    )
    folder = dense_folder(target)
    done = exporting.export(target, options) if folder is None else dense_files.export(folder, options)
    checked = [f"{one['runtime']} {one['version']}: as PyTorch, to {one['largest_difference']:.1g}" for one in done["checked"]]

    def table() -> None:
        print_files(f"files in {done['folder']}", done["exports"])
        typer.echo("\n".join([*done["files"], *checked]))

    show(done, as_json, table)


@app.command()
def benchmark(
    targets: Annotated[list[str], typer.Argument(metavar="RUN|FOLDER|ARCH|FILE...", help="Trained networks, architectures (with random weights), or model files.")],
    formats: Annotated[str, typer.Option(metavar="FORMAT[,FORMAT]", help=f"{FORMATS}, or all.")] = "all",
    precision: Precisions = None,
    threads: Threads = 1,
    resolution: Annotated[str, typer.Option(metavar="PX", help="Input size of architectures, and of files that do not say it.")] = "224",
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table to this CSV file too.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """One table of a network's files: size, latency, accuracy and agreement with PyTorch by format and precision.

    Example: mnas benchmark runs/v3_large-15ms-20260101-120000 --formats onnx,litert --precision fp32,int8
    """
    from mnas.commands import benchmark as benchmarking
    from mnas.commands import dense_files
    from mnas.export.dense import dense_folder

    def table_of(target: str) -> dict[str, Any]:
        folder = dense_folder(target)
        stated = words(precision, "fp32" if folder else "fp32,int8")
        options = benchmarking.BenchmarkOptions(words(formats), stated, threads, one_size(resolution) or 224, seed)
        return dense_files.benchmark(folder, options) if folder else benchmarking.benchmark(target, options)

    done = {"networks": [table_of(target) for target in targets]}
    if csv is not None:
        write_atomic(csv, files_csv(done["networks"]))

    def tables() -> None:
        for table in done["networks"]:
            print_files(f"{table['network']}: {table['device']}, threads: {table['threads']}", table["rows"])

    show(done, as_json, tables)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, finished or not.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; report.html in the run's folder by default.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a run's report: one HTML page with everything that the run found, for any browser, without a network.

    Example: mnas report runs/v3_large-15ms-20260101-120000
    """
    from mnas.commands import report as reports

    done = reports.report(run, output)
    show(done, as_json, lambda: typer.echo(done["report"]))


for command in (config, spaces, zoo, doctor):
    app.command()(command)


def main() -> NoReturn:
    """Run the command and end the process."""
    hide_from_process_list()
    end(app)
