"""Imported latency tables against the latencies published for Once-for-All's networks (arXiv 1908.09791).

    python benchmarks/published_tables.py FOLDER

FOLDER holds Once-for-All's Note10 tables (note10_ofa_mbv3_w1.2/224_lookup_table.yaml and 16 more), its networks
(ofa_specialized_nets.json), a table of an i7-8700K in the MBConv dialect (i7-8700K_lut.yaml) and ProxylessNAS's table
of a Pixel 1 (pixel1_mobile_trim.yaml).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import options_parser, save

import mnas
from mnas.io.strict_yaml import validate
from mnas.latency.importers.tables import import_table
from mnas.latency.table.table import LatencyTable
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.layer import round_channels
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace

ACTIVATIONS: dict[str, Any] = {"relu": "relu", "h_swish": "hard_swish"}


def architecture(net: dict[str, Any]) -> Architecture:
    """One of Once-for-All's published networks; a block without a shortcut begins a stage."""
    stages: list[list[Block]] = []
    for row in net["blocks"]:
        hidden = row["mid"] or row["in_ch"]
        block = Block(
            "mbconv", row["k"], row["s"], row["out_ch"], ACTIVATIONS[row["act"]], hidden=hidden,
            se=round_channels(hidden / 4) if row["se"] else 0, skip="identity" if row["skip"] else "none",
        )  # fmt: skip
        if not stages or not row["skip"]:
            stages.append([])
        stages[-1].append(block)
    stem = Block("conv", 3, 2, net["first_conv"], "hard_swish")
    head = Head(net["final_expand"], net["feature_mix"], "hard_swish")
    return Architecture(net["image_size"], stem, tuple(map(tuple, stages)), head)


def predicted_ms(table: LatencyTable, arch: Architecture) -> float | None:
    """None if the table lacks a layer, such as those of a resolution that was not measured."""
    return None if table.missing(arch.layers()) else round(table.predict(arch), 3)


def proxyless_space() -> SearchSpace:
    """The space of ProxylessNAS's table (arXiv 1812.00332)."""
    rows = [(24, 2, 4), (40, 2, 4), (80, 2, 4), (96, 1, 4), (192, 2, 4), (320, 1, 1)]
    stages = [{"channels": 16, "stride": 1, "depth": 1, "kernel": [3, 5, 7], "activation": "relu6"}] + [
        {"channels": channels, "stride": stride, "depth": list(range(1, depth + 1)), "kernel": [3, 5, 7],
         "expansion": [3, 6], "activation": "relu6"} for channels, stride, depth in rows
    ]  # fmt: skip
    data = {
        "name": "proxylessnas", "reference": "mobilenet_v2", "stem": {"channels": 32, "activation": "relu6"},
        "stages": stages, "head": {"channels": 1280, "activation": "relu6"},
    }  # fmt: skip
    return SearchSpace(validate(SpaceFile, data, "proxylessnas"))


def coverage(path: Path, space: SearchSpace) -> dict[str, Any]:
    """How many of the space's layers a table has, and the fastest and slowest networks by it."""
    start = time.perf_counter()
    layers = space.layers(1000)
    table = import_table(path, layers, device=path.stem, unit="ms")
    seconds = time.perf_counter() - start
    extremes = (space.argmin(table.predict), space.argmax(table.predict))
    fastest_ms, slowest_ms = (round(table.predict(arch), 2) for arch in extremes)
    return {
        "layers": len(layers), "missing": len(table.missing(layers)), "fastest_ms": fastest_ms,
        "slowest_ms": slowest_ms, "import_s": round(seconds, 2),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    note10, i7 = folder / "note10_ofa_mbv3_w1.2", folder / "i7-8700K_lut.yaml"
    space = mnas.load_space("ofa_mbv3")
    published = [
        (net, architecture(net)) for net in json.loads((folder / "ofa_specialized_nets.json").read_text())
        if net["first_conv"] == 24  # width 1.2
    ]  # fmt: skip
    layers = space.layers(1000).union(*(arch.layers() for _, arch in published))
    note10_table, i7_table = (import_table(path, layers, device=path.stem, unit="ms") for path in (note10, i7))
    networks = [
        {
            "network": net["name"], "resolution": arch.resolution, "in_ofa_mbv3": arch in space,
            "in_ofa_mbv3_at_its_resolution": arch in space.with_resolutions((arch.resolution,)),
            "published_device": net["device"], "published_ms": net["published"],
            "note10_ms": predicted_ms(note10_table, arch), "i7_8700k_ms": predicted_ms(i7_table, arch),
        }
        for net, arch in published
    ]  # fmt: skip
    save("published_tables", {
        "networks": networks,
        "note10": coverage(note10, space),
        "i7_8700k": coverage(i7, space),
        "pixel1": coverage(folder / "pixel1_mobile_trim.yaml", proxyless_space()),
    })  # fmt: skip


if __name__ == "__main__":
    main()
