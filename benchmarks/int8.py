"""int8 against float32 for each runtime: latency of the files, timed in the same rounds, and accuracy.

    python benchmarks/int8.py mobilenet_v3_large --resolution 224
    python benchmarks/int8.py trained --part cifar10_96px

A trained folder, a run, or an architecture, of which the latencies alone mean anything. It is the table of
`mnas benchmark --precision fp32,int8` with int8's part of float32's latency and what it costs in points of accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import options_parser, save_part

from mnas.commands.benchmark import BenchmarkOptions, benchmark

FORMATS = ("onnx", "litert", "openvino", "executorch")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("target")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--part", help="name in the result file; by default that of the target")
    options = parser.parse_args(arguments)
    table = benchmark(options.target, BenchmarkOptions(FORMATS, resolution=options.resolution))
    exact = {row["format"]: row.get("top1") for row in table["rows"] if row["precision"] == "fp32"}
    for row in table["rows"]:
        del row["files"]
        if row["precision"] == "int8" and row["status"] == "ok":
            before = exact[row["format"]]
            row["cost_points"] = None if before is None else round(100 * (before - row["top1"]), 2)
    save_part("int8", options.part or options.target, table)


if __name__ == "__main__":
    main()
