"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mnas.config import MAX_THREADS
from mnas.errors import BadInput
from mnas.io.size import SMALLEST, Size, sides, size_of
from mnas.space.dense import DenseHead, Outputs

log = logging.getLogger("mnas")

Precisions = Annotated[
    str | None, typer.Option("--precision", metavar="fp32,int8", help="float32, int8 (quantised after training).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Data = Annotated[str, typer.Option(help="digits, a folder of class folders, an .npz, or torchvision:NAME.")]
FORMATS = "pytorch, safetensors, onnx, litert, executorch, openvino, torch_export, timm"
RUNTIMES = "What executes the network: torch, onnxruntime, litert, ... (see `mnas doctor`)."
STORAGE = "URL of an Optuna storage, or env:NAME, the environment variable that holds it"
Runtime = Annotated[str, typer.Option(help=RUNTIMES)]
Threads = Annotated[int, typer.Option(min=1, max=MAX_THREADS, help="Threads that the runtime may use.")]
Batch = Annotated[int, typer.Option(min=1, help="Images per inference.")]
Classes = Annotated[int, typer.Option(min=2, help="Outputs of the classifier.")]
Head = Annotated[str | None, typer.Option(
    metavar="lraspp|deeplabv3|ssdlite", help="A head for segmentation or detection in place of the classifier.",
)]  # fmt: skip
Task = Annotated[str, typer.Option(
    metavar="classification|segmentation|detection", help="What networks are for.",
)]  # fmt: skip
OutputStride = Annotated[int | None, typer.Option(
    metavar="8|16|32", help="Of the last feature map under a head; 16 in segmentation and 32 in detection by default.",
)]  # fmt: skip
HeadClasses = Annotated[int | None, typer.Option(
    min=2, help="Outputs of the classifier, 1000 by default; under a head 21 in segmentation and 91 in detection.",
)]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Flip = Annotated[bool | None, typer.Option(
    "--flip/--no-flip",
    help="Whether training mirrors images at random; by default the images and their classes' names decide.",
)]  # fmt: skip
ClassWeights = Annotated[str | None, typer.Option(
    metavar="auto|none", help="Balance classes of unequal size in the loss; by default as the recipe has it.",
)]  # fmt: skip
Device = Annotated[str, typer.Option(help="What trains: auto, cpu, cuda, mps.")]
Set = Annotated[list[str], typer.Option(
    "--set", metavar="KEY=VALUE", help="Any other key of config.yaml; `mnas config` lists them.",
)]  # fmt: skip
MaxBroken = Annotated[int, typer.Option(min=0, metavar="N", help="Images that cannot be decoded and may be skipped.")]
Labels = Annotated[Path | None, typer.Option(
    metavar="FILE", help="A CSV file with path, class and perhaps split of the images in the folder --data.",
)]  # fmt: skip
MaxPixels = Annotated[str, typer.Option(metavar="N", help="Pixels of the largest image that is decoded: 400M.")]
Fit = Annotated[str, typer.Option(
    metavar="auto|crop|pad|squeeze",
    help="How images get the network's shape: the central part, the whole with borders, or the whole resized; auto: "
    "the first, unless a probe knows more of long images otherwise.",
)]  # fmt: skip
Channels = Annotated[int | None, typer.Option(
    metavar="1|3", help="Of the images that the network takes; 1 for grey ones, 3 by default.",
)]  # fmt: skip
GroupBy = Annotated[str | None, typer.Option(
    metavar="REGEX", help="Images whose paths agree in what it finds stay in one split: patients, bursts.",
)]  # fmt: skip
Init = Annotated[Path | None, typer.Option(
    metavar="FILE", help="Weights from which the networks start: of the reference network, or a winner's folder.",
)]  # fmt: skip
Pretrained = Annotated[str, typer.Option(
    metavar="[NAME]", help="Published weights from which the networks start; those for colour photographs of 64 px and "
    "more by default. `mnas zoo` lists the names.",
)]  # fmt: skip
NoPretrained = Annotated[bool, typer.Option("--no-pretrained", help="Start from fresh weights.")]
Without = Annotated[str | None, typer.Option(
    metavar="CHOICE[,...]", help="Choices left out of the space: se, hard_swish, kernel7, expand6, pool.",
)]  # fmt: skip
Sizes = Annotated[str | None, typer.Option(
    metavar="PX[,PX...]", help="Input sizes, such as 160,192,224, or of rectangles HEIGHTxWIDTH: 96x160,120x200.",
)]  # fmt: skip


def sizes(text: str | None) -> list[Size] | None:
    """The sizes in --resolution's comma-separated list."""
    if text is None:
        return None
    try:
        return [size_of(part) for part in text.split(",")]
    except BadInput:
        raise BadInput(
            f"--resolution {text}: expected sizes in pixels, such as 160,192,224, or HEIGHTxWIDTH, such as 96x160"
        ) from None


def outputs(classes: int | None, head: str | None, output_stride: int | None) -> Outputs:
    """What --classes, --head and --output-stride ask for. Raises BadInput."""
    if head is not None:
        return DenseHead(head, classes or 0, output_stride or 0)  # type: ignore[arg-type]
    if output_stride is not None:
        raise BadInput(f"--output-stride {output_stride}: it is of a head: --head lraspp, deeplabv3 or ssdlite")
    return 1000 if classes is None else classes


def one_size(text: str | None) -> Size | None:
    """The size that --resolution states. Raises BadInput."""
    stated = sizes(text)
    if stated is not None and (len(stated) > 1 or min(sides(stated[0])) < SMALLEST):
        raise BadInput(f"--resolution {text}: expected one size of at least {SMALLEST} pixels, such as 224 or 96x160")
    return None if stated is None else stated[0]


def milliseconds(values: Sequence[str]) -> list[float]:
    """The budgets of every --latency-ms, each a number or a comma-separated list."""
    try:
        return [float(part) for value in values for part in value.split(",")]
    except ValueError:
        raise BadInput(f"--latency-ms {' '.join(values)}: expected milliseconds, such as 15, or 5,10,15") from None


def stated_weights(pretrained: str, no_pretrained: bool) -> str:
    """The published weights that --pretrained and --no-pretrained ask for. Raises BadInput where they disagree."""
    if no_pretrained and pretrained not in ("auto", "none"):
        raise BadInput("--pretrained and --no-pretrained: state one of them")
    return "none" if no_pretrained else pretrained


def optional_value(args: Sequence[str], option: str, default: str) -> list[str]:
    """`--pretrained` without a value as `--pretrained default`; names of weights have a dot or a slash in them."""
    completed: list[str] = []
    for arg, following in itertools.zip_longest(args, args[1:], fillvalue=""):
        completed.append(arg)
        is_value = not following.startswith("-") and not following.endswith((".yaml", ".yml")) and (
            following in (default, "auto", "none") or "." in following or "/" in following
        )  # fmt: skip
        if arg == option and not is_value:
            completed.append(default)
    return completed


def comma_separated(args: Sequence[str], option: str) -> list[str]:
    """`--latency-ms 5 10` as `--latency-ms 5,10`: the numbers after an option's value join it, with a warning.

    The old form; it works for one version more.
    """
    joined: list[str] = []
    previous = written = ""
    for arg in args:
        if previous == option and joined[-1] != option and _is_number_list(arg):
            joined[-1] = f"{joined[-1].removesuffix(',')},{arg}"
            written = joined[-1].removeprefix(f"{option}=").removesuffix(",")
            continue
        if previous != option or joined[-1] != option:
            previous = arg.partition("=")[0]
        joined.append(arg)
    if written:
        log.warning("several numbers after %s are deprecated; write %s %s", option, option, written)
    return joined


def _is_number_list(text: str) -> bool:
    """Whether `text` is a number, or several with commas, as in `5,10` and in the `10,` of `5, 10, 15`."""
    try:
        return bool([float(part) for part in text.removesuffix(",").split(",")])
    except ValueError:
        return False


def by_device(
    order: Sequence[str], runtimes: list[str], tables: list[Path], latency_ms: Sequence[str]
) -> tuple[Sequence[str | None], Sequence[Path | None]]:
    """Runtimes and tables in the order of their devices, if each device has one of the two; otherwise as they are.

    Raises BadInput for several devices and a list of budgets, which is for one device.
    """
    lists = [value for value in latency_ms if "," in value]
    if lists and max(len(runtimes), len(tables)) > 1:
        raise BadInput(
            f"--latency-ms {lists[0]}: several budgets are for one device; for several devices repeat --latency-ms, "
            "once with each --runtime or --latency-table"
        )
    if lists or len(order) != len(latency_ms) or len({*order}) < 2:
        return runtimes, tables
    names, files = iter(runtimes), iter(tables)
    pairs = [(next(names), None) if option == "--runtime" else (None, next(files)) for option in order]
    return [name for name, _ in pairs], [file for _, file in pairs]


def one_of_export(trial: int | None, front: bool, format: str | None) -> bool:
    """Whether trials are exported, not the network of a folder. Raises BadInput for options that exclude each other."""
    if trial is not None and front:
        raise BadInput("--trial and --front: expected one of them; --front exports every trial of the front")
    trials = front or trial is not None
    if trials and format is not None:
        option = "--front" if front else f"--trial {trial}"
        raise BadInput(f"--format {format} and {option}: expected one of them; a trial's folder has every format")
    return trials


def in_precision(runtimes: Sequence[str], precision: str) -> list[str]:
    """The runtimes that compute in this precision: litert_int8 for litert and int8. Raises BadInput."""
    from mnas.latency.runtimes import INT8, runtime_names

    if precision not in ("fp32", "int8"):
        raise BadInput(f"--precision {precision}: expected fp32 or int8")
    if precision == "fp32":
        return list(runtimes)
    able = [name.removesuffix(INT8) for name in runtime_names() if name.endswith(INT8)]
    for name in runtimes:
        if name.removesuffix(INT8) not in able:
            raise BadInput(f"--precision int8: expected --runtime {' or '.join(able)}, got {name}")
    return [f"{name.removesuffix(INT8)}{INT8}" for name in runtimes]


def assignments(items: Sequence[str]) -> dict[str, str]:
    """The keys and values of all --set options."""
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise BadInput(f"--set {item}: expected KEY=VALUE, such as recipe.epochs=10")
        pairs[key] = value
    return pairs


def words(listed: str | None, default: str = "") -> list[str]:
    """The words of a list with commas."""
    return [word.strip() for word in (listed or default).split(",") if word.strip()]
