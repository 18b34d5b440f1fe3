"""Tables of others: what they say of our layers, and one clear line for each that cannot be used."""

from __future__ import annotations

import csv
import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from made_up_tables import made_up

from mnas.cli import app as cli
from mnas.errors import BadInput
from mnas.latency.conditions import Conditions
from mnas.latency.importers import units
from mnas.latency.importers.csv_table import COLUMNS, read_csv
from mnas.latency.importers.dialects import DIALECTS, NOT_STATED
from mnas.latency.importers.tables import import_table, scaled_classifier, with_classifiers
from mnas.latency.importers.units import unit_doubt
from mnas.latency.kit.kit import is_results
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.table import LatencyTable
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.layer import Layer
from mnas.space.space import load_space

OFA, PROXYLESS, MBCONV = DIALECTS

V3 = Architecture(
    64, Block("conv", 3, 2, 24, "hard_swish"),
    (
        (Block("mbconv", 3, 1, 24, "relu", hidden=24, skip="identity"),),
        (
            Block("mbconv", 5, 2, 32, "relu", hidden=72),
            Block("mbconv", 3, 1, 32, "hard_swish", hidden=128, se=32, skip="identity"),
        ),
    ),
    Head(96, 128, "hard_swish"),
)  # fmt: skip
V2 = Architecture(
    64, Block("conv", 3, 2, 32, "relu6"),
    (
        (Block("sepconv", 3, 1, 16, "relu6"),),
        (
            Block("mbconv", 7, 2, 24, "relu6", hidden=48),
            Block("mbconv", 3, 1, 24, "relu6", hidden=144, skip="identity"),
        ),
    ),
    Head(96, 0, "relu6"),
)  # fmt: skip

OFA_TABLE = """
AvgPool2D-input:16x16x96-output:1x1x96: {count: 493, mean: 32.0, std: 0.01}
Conv-input:64x64x3-output:32x32x24: {count: 500, mean: 1, std: 0.01}
Conv_1-input:16x16x32-output:16x16x96: {count: 500, mean: 16.0, std: 0.01}
Conv_2-input:1x1x96-output:1x1x128: {count: 500, mean: 64.0, std: 0.01}
Logits-input:1x1x128-output:1000: {count: 500, mean: 128.0, std: 0.01}
expanded_conv-input:32x32x24-output:32x32x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0: {mean: 2.0, std: 0.01}
expanded_conv-input:32x32x24-output:16x16x32-expand:72-kernel:5-stride:2-idskip:0-se:0-hs:0: {mean: 4.0, std: 0.01}
expanded_conv-input:16x16x32-output:16x16x32-expand:128-kernel:3-stride:1-idskip:1-se:1-hs:1: {mean: 8.0, std: 0.01}
expanded_conv-input:16x16x32-output:16x16x32-expand:192-kernel:3-stride:1-idskip:1-se:1-hs:1: {mean: 9.0, std: 0.01}
"""
PROXYLESS_TABLE = """
Conv-input:64x64x3-output:32x32x32: {count: 982, mean: 1.0, var: 0.25}
Conv_1-input:16x16x24-output:16x16x96: {count: 982, mean: 16.0, var: 0.19}
Logits-input:16x16x96-output:1000: {count: 982, mean: 32.0, var: 0.05}
expanded_conv-input:32x32x32-output:32x32x16-expand:1-kernel:3-stride:1-idskip:0: {count: 318, mean: 2.0, var: 0.08}
expanded_conv-input:32x32x16-output:16x16x24-expand:3-kernel:7-stride:2-idskip:0: {count: 161, mean: 4.0, var: 0.1}
expanded_conv-input:16x16x24-output:16x16x24-expand:6-kernel:3-stride:1-idskip:1: {count: 161, mean: 8.0, var: 0.1}
"""
MBCONV_TABLE = """
MBConv-input:32x32x24-output:32x32x24-expand:1-kernel:3-stride:1-idskip:1-se:0: {mean: 2.0, var: 2.0e-05}
MBConv-input:32x32x24-output:16x16x32-expand:3-kernel:5-stride:2-idskip:0-se:0: {mean: 4.0, var: 3.5368975659366697e-07}
MBConv-input:16x16x32-output:16x16x32-expand:4-kernel:3-stride:1-idskip:1-se:1: {mean: 8.0, var: 0.01}
classifier-input:128-output:1000: {mean: 64.0, var: 0.01}
feature_mix_layer-input:1x1x96-output:1x1x128: {mean: 32.0, var: 0.01}
final_expand_layer-input:16x16x32-output:16x16x96: {mean: 16.0, var: 0.01}
first_conv-input:64x64x3-output:32x32x24: {mean: 1.0, var: 0.01}
"""


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def imported(source: Path | str, layers: Iterable[Layer], unit: str | None = "ms") -> LatencyTable:
    return import_table(source, layers, device="a phone", unit=unit)


# --- a layer in a dialect's words

BLOCK = Layer("mbconv", 28, 48, 48, kernel=5, hidden=144, activation="relu", skip="identity")
STRIDED = Layer("mbconv", 27, 32, 48, kernel=3, stride=2, hidden=128, se=32, gate="hard_sigmoid", activation="relu")
FLAT = Layer("sepconv", 112, 32, 16, kernel=3, activation="relu6")


@pytest.mark.parametrize(
    ("dialect", "layer", "key"),
    [
        (OFA, BLOCK, "expanded_conv-input:28x28x48-output:28x28x48-expand:144-kernel:5-stride:1-idskip:1-se:0-hs:0"),
        (OFA, STRIDED, "expanded_conv-input:27x27x32-output:14x14x48-expand:128-kernel:3-stride:2-idskip:0-se:1-hs:0"),
        (OFA, replace(BLOCK, activation="hard_swish"),
         "expanded_conv-input:28x28x48-output:28x28x48-expand:144-kernel:5-stride:1-idskip:1-se:0-hs:1"),
        (OFA, FLAT, "expanded_conv-input:112x112x32-output:112x112x16-expand:32-kernel:3-stride:1-idskip:0-se:0-hs:0"),
        (OFA, V3.layers()[0], "Conv-input:64x64x3-output:32x32x24"),
        (OFA, V3.layers()[-4], "Conv_1-input:16x16x32-output:16x16x96"),
        (OFA, V3.layers()[-3], "AvgPool2D-input:16x16x96-output:1x1x96"),
        (OFA, V3.layers()[-2], "Conv_2-input:1x1x96-output:1x1x128"),
        (PROXYLESS, BLOCK, "expanded_conv-input:28x28x48-output:28x28x48-expand:3-kernel:5-stride:1-idskip:1"),
        (PROXYLESS, FLAT, "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0"),
        (MBCONV, STRIDED, "MBConv-input:27x27x32-output:14x14x48-expand:4-kernel:3-stride:2-idskip:0-se:1"),
        (MBCONV, V3.layers()[0], "first_conv-input:64x64x3-output:32x32x24"),
        (MBCONV, V3.layers()[-4], "final_expand_layer-input:16x16x32-output:16x16x96"),
        (MBCONV, V3.layers()[-2], "feature_mix_layer-input:1x1x96-output:1x1x128"),
        # what the networks behind the tables do not have is not in the tables
        (PROXYLESS, STRIDED, None),
        (PROXYLESS, replace(BLOCK, activation="hard_swish"), None),
        (OFA, replace(STRIDED, se=8), None),
        (OFA, replace(BLOCK, skip="pool"), None),
        (OFA, replace(FLAT, output_activation="relu6"), None),
        (OFA, Layer("conv", 28, 48, 48, kernel=3, activation="relu"), None),
        (PROXYLESS, V3.layers()[-3], None),
    ],
)  # fmt: skip
def test_keys(dialect: Any, layer: Layer, key: str | None) -> None:
    assert dialect.key(layer) == key
    assert key is None or dialect.pattern().fullmatch(key)


def test_every_layer_of_ofas_space_has_a_key_of_its_own() -> None:
    space = load_space("ofa_mbv3")
    assert space.sample(random.Random(0)).head == Head(1152, 1536, "hard_swish")
    layers = space.layers(1000)
    assert {layer.in_channels for layer in layers} == {3, 24, 32, 48, 96, 136, 192, 1152, 1536}
    keys = {OFA.key(layer) for layer in layers}
    assert len(keys) == len(layers) == 870


# --- whole tables


@pytest.mark.parametrize(
    ("text", "arch", "ms"),
    [(OFA_TABLE, V3, 255.0), (PROXYLESS_TABLE, V2, 63.0 + NOT_STATED), (MBCONV_TABLE, V3, 127.0 + NOT_STATED)],
)
def test_a_network_is_the_sum_of_its_rows(text: str, arch: Architecture, ms: float, tmp_path: Path) -> None:
    table = imported(write(tmp_path / "table.yaml", text), arch.layers())
    assert table.predict(arch) == pytest.approx(ms, rel=1e-12)
    assert (table.origin, table.device) == ("imported", "a phone")
    logits = max(table.entries[layer] for layer in arch.layers() if layer.operator == "linear")
    table = imported(write(tmp_path / "table.yaml", text), arch.layers(10))
    assert table.predict(arch, 10) == pytest.approx(ms - logits + logits / 100, rel=1e-12)


def test_what_a_table_lacks_is_missing(tmp_path: Path) -> None:
    other = replace(V3, stages=(V3.stages[0], (replace(V3.stages[1][0], kernel=3), V3.stages[1][1])))
    table = imported(write(tmp_path / "table.yaml", OFA_TABLE), [*V3.layers(), *other.layers()])
    assert table.predict(V3) == 255
    assert table.missing(other.layers()) == [other.layers()[2]]
    with pytest.raises(BadInput, match=r"lacks 1 layer: operator=mbconv size=32"):
        table.predict(other)


EVEN = replace(V3, resolution=63)  # 32, 16: but for the stem, the layers of 64
EVEN_TABLE = OFA_TABLE.replace("64x64x3", "63x63x3").replace("mean: 8.0", "mean: 10.0").replace("128.0", "256.0")


def test_a_folder_of_resolutions(tmp_path: Path) -> None:
    """Each network has the values of its own file; files of other resolutions are not read."""
    larger = replace(V3, resolution=66)  # 33, 17: other sizes up to the second stage
    write(tmp_path / "64_lookup_table.yaml", OFA_TABLE)
    write(tmp_path / "63_lookup_table.yaml", EVEN_TABLE)
    write(tmp_path / "96_lookup_table.yaml", "broken: [")
    write(tmp_path / "notes.yaml", "other: thing")
    table = imported(tmp_path, [*V3.layers(), *EVEN.layers()])
    assert [table.predict(V3), table.predict(EVEN)] == table.predict_many([V3, EVEN]).tolist() == [255, 385]
    shared, classifier = V3.layers()[3], V3.layers()[-1]
    assert (table.entries[shared], table.entries[classifier]) == (9, 192)
    assert table.at_resolution == {64: {shared: 8, classifier: 128}, 63: {shared: 10, classifier: 256}}
    assert imported(tmp_path, V3.layers()).predict(V3) == 255
    assert imported(tmp_path, V3.layers()).at_resolution == {}
    with pytest.raises(BadInput, match=r"63, 64, 96, not for 66: .*--resolution"):
        imported(tmp_path, larger.layers())
    with pytest.raises(BadInput, match=r"96_lookup_table.yaml, line 2: not valid YAML"):
        imported(tmp_path, replace(V3, resolution=96).layers())


def test_a_table_as_json(tmp_path: Path) -> None:
    write(tmp_path / "64_lookup_table.json", json.dumps(yaml.safe_load(OFA_TABLE)))
    for source in (tmp_path, tmp_path / "64_lookup_table.json"):
        assert imported(source, V3.layers()).predict(V3) == 255
    assert not is_results(tmp_path / "64_lookup_table.json")


def test_a_folder_in_another_unit_with_other_classes(tmp_path: Path) -> None:
    write(tmp_path / "64_lookup_table.yaml", OFA_TABLE)
    write(tmp_path / "63_lookup_table.yaml", EVEN_TABLE)
    imported(tmp_path, [*V3.layers(10), *EVEN.layers(10)], "us").save(tmp_path / "ours.yaml")
    table = LatencyTable.load(tmp_path / "ours.yaml")
    assert table.predict(V3, 10) == pytest.approx((255 - 128 + 1.28) / 1000, rel=1e-12)
    assert table.predict(EVEN, 10) == pytest.approx((385 - 256 + 2.56) / 1000, rel=1e-12)
    assert table.entries[V3.layers(10)[-1]] == pytest.approx(1.92 / 1000, rel=1e-12)
    assert table.missing([*V3.layers(10), *V3.layers(1000)]) == []
    assert with_classifiers(imported(tmp_path, [*V3.layers(), *EVEN.layers()], "us"), V3.layers(10)) == table


def test_a_classifier_is_scaled_in_a_table_that_networks_corrected_too() -> None:
    entries = dict.fromkeys(V3.layers(), 0.5)
    corrected = dict.fromkeys(entries, 0.6)
    table = made_up(entries, corrected=corrected)
    scaled = with_classifiers(table, V3.layers(10))
    classifier = V3.layers(10)[-1]
    assert (scaled.entries[classifier], scaled.corrected[classifier]) == pytest.approx((0.005, 0.006))
    assert scaled.predict(V3, 10) == pytest.approx(scaled.predict(V3) - 0.6 + 0.006)
    assert with_classifiers(replace(table, corrected={}), V3.layers(10)).corrected == {}


@pytest.mark.parametrize(("unit", "ms"), [("ms", 255), ("us", 0.255), ("s", 255_000)])
def test_units(unit: str, ms: float, tmp_path: Path) -> None:
    table = imported(write(tmp_path / "table.yaml", OFA_TABLE), V3.layers(), unit)
    assert table.predict(V3) == pytest.approx(ms, rel=1e-12)


def test_a_unit_that_cannot_be_right_is_doubted(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    here_ms = {layer: 0.1 for layer in V3.layers() if layer.operator == "mbconv"}  # give or take a factor of 5
    write_csv(source, here_ms)
    assert imported(source, here_ms, unit=None).entries == here_ms
    write_csv(source, {layer: 1000 * ms for layer, ms in here_ms.items()})
    with pytest.raises(BadInput, match=r"2 costliest layers take [\d,]+ times what .* microseconds\? State --unit us,"):
        imported(source, here_ms, unit=None)
    write_csv(source, {layer: ms / 1000 for layer, ms in here_ms.items()})
    with pytest.raises(BadInput, match=r"take 1/[\d,]+ of what this machine takes .* in seconds\? State --unit s, or"):
        imported(source, here_ms, unit=None)
    with pytest.raises(BadInput, match=r"unknown unit 'sec'.*Known: ms, s, us"):
        imported(source, here_ms, unit="sec")


def test_a_runtime_far_from_pytorch_is_compared_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    pytorch = get_runtime("torch")
    other = SimpleNamespace(
        threads=pytorch.threads, prepare=pytorch.prepare, timed_ms=lambda run, n: 1000 * pytorch.timed_ms(run, n),
        framed=False,
    )  # fmt: skip
    monkeypatch.setattr(units, "get_runtime", {"torch": pytorch, "other": other}.__getitem__)
    stated = {layer: 100.0 for layer in V3.layers() if layer.operator == "mbconv"}
    assert unit_doubt(stated, Conditions("other")) is None
    assert (unit_doubt(stated, Conditions("torch")) or [""])[0] == "us"


def test_a_classifier_is_scaled_by_multiply_adds() -> None:
    hundred, thousand = Layer("linear", 1, 64, 100), Layer("linear", 1, 64, 1000)
    entries = {hundred: 1.0, thousand: 8.0, Layer("linear", 1, 32, 10): 0.5}
    assert scaled_classifier(entries, replace(hundred, out_channels=10)) == pytest.approx(0.1)
    assert scaled_classifier(entries, replace(hundred, out_channels=500)) == pytest.approx(4.0)
    assert scaled_classifier(entries, replace(hundred, in_channels=48)) is None
    assert scaled_classifier(entries, replace(hundred, out_channels=10, activation="relu")) is None
    assert scaled_classifier(entries, Layer("conv", 1, 64, 10)) is None


# --- tables that cannot be used

ROW = "Conv-input:64x64x3-output:32x32x24"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys such as 'expanded_conv-input:28x28x48"),
        ("- 1\n- 2\n", "not a latency table"),
        ("{}", "not a latency table"),
        (OFA_TABLE[:-30], "not valid YAML"),
        (OFA_TABLE[:-200], "not valid YAML"),
        (f"{ROW}: {{mean: -1.0}}", f"key '{ROW}': mean: should be greater than 0, got -1.0"),
        (f"{ROW}: {{mean: 0}}", f"key '{ROW}': mean: should be greater than 0, got 0"),
        (f"{ROW}: {{mean: .nan}}", f"key '{ROW}': mean: should be a finite number, got nan"),
        (f"{ROW}: {{mean: .inf}}", f"key '{ROW}': mean: should be a finite number, got inf"),
        (f"{ROW}: {{mean: true}}", f"key '{ROW}': mean: should be a valid number, got True"),
        (f"{ROW}: {{mean: fast}}", f"key '{ROW}': mean: should be a valid number, got 'fast'"),
        (f"{ROW}: {{count: 3}}", f"key '{ROW}': 'mean' is missing"),
        (f"{ROW}: {{mena: 3.0}}", f"key '{ROW}': unknown key 'mena'; did you mean 'mean'"),
        (f"{ROW}: 3.0", f"key '{ROW}': expected a mapping"),
        (f"{ROW}: {{mean: 1.0}}\n{ROW}: {{mean: 2.0}}", f"line 2: key '{ROW}' appears twice"),
        (OFA_TABLE.replace("-hs:1", ""), "-idskip:1-se:1' is not a key of OFA's tables"),
        (MBCONV_TABLE + "first_con-input:64x64x3-output:32x32x16: {mean: 1.0}",
         "'first_con-input:64x64x3-output:32x32x16' is not a key of MBConv's tables; expected one such as 'MBConv-"),
        (f"{ROW.replace('64', '-64')}: {{mean: 1.0}}", "is not a key of OFA's tables"),
        ("width: {mean: 1.0}", "key 'width' is not a key of OFA's tables"),
        ("Conv-input:32x32x3-output:16x16x24: {mean: 1.0}", "has none of the 8 layers"),
        (b"\x00\xff\xfe\x80" * 100, "not a text file in UTF-8"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "table.yaml", text)
    with pytest.raises(BadInput) as caught:
        imported(path, V3.layers())
    assert message in str(caught.value) and str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent.yaml: cannot be read: No such file or directory"):
        imported(tmp_path / "absent.yaml", V3.layers())
    empty = tmp_path / "empty"
    empty.mkdir()
    write(tmp_path / "others" / "notes.txt", "x")
    for folder in (empty, tmp_path / "others"):
        with pytest.raises(BadInput, match=r"224_lookup_table.yaml"):
            imported(folder, V3.layers())
    for name in ("pipe.yaml", "pipe.csv"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(BadInput, match=rf"{name}: not a regular file but a device or a pipe; expected"):
            imported(tmp_path / name, V3.layers())
    for name in ("huge.yaml", "huge.csv"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(10**10)
        with pytest.raises(BadInput, match=rf"{name}: 10,000,000,000 bytes; at most 8,000,000 are read"):
            imported(tmp_path / name, V3.layers())


# --- CSV


def write_csv(path: Path, entries: dict[Layer, float], columns: Sequence[str] = COLUMNS) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({**asdict(layer), "ms": repr(ms)} for layer, ms in entries.items())


def test_csv_gives_back_every_layer(tmp_path: Path) -> None:
    rng = random.Random(0)
    archs = [load_space(name).sample(rng) for name in ("mnasnet", "v1", "v3_small") for _ in range(10)]
    entries = {layer: rng.uniform(1e-6, 1e3) for arch in archs for layer in arch.layers(10)}
    write_csv(tmp_path / "table.csv", entries)
    assert imported(str(tmp_path / "table.csv"), entries).entries == entries


@pytest.mark.parametrize(("delimiter", "point"), [(";", ","), (";", "."), ("\t", ",")])
def test_csv_of_other_countries(delimiter: str, point: str, tmp_path: Path) -> None:
    header = "operator;size;in_channels;out_channels;kernel;stride;hidden;ms"
    text = f"{header}\nmbconv;12;8;8;5;1;24;1.25\n".replace(".", point).replace(";", delimiter)
    (layer, ms), = read_csv(write(tmp_path / "x.csv", text)).items()
    assert (layer.hidden, ms) == (24, 1.25)


def test_decimal_commas_between_commas_are_refused(tmp_path: Path) -> None:
    text = 'operator,size,in_channels,out_channels,kernel,stride,hidden,ms\nmbconv,12,8,8,5,1,24,"1,25"\n'
    with pytest.raises(BadInput, match="semicolons"):
        read_csv(write(tmp_path / "x.csv", text))


def test_csv_states_what_differs_from_the_defaults(tmp_path: Path) -> None:
    path = write(
        tmp_path / "table.CSV",
        "\ufeffms, operator ,size,in_channels,out_channels,hidden,se,gate,kernel\r\n"
        "0.5,conv,32,3,16,,,,3\r\n"
        "0.25, mbconv,16,16,24,48,12,hard_sigmoid,5\r\n"
        "2,mbconv,16,16,16,16,0,hard_sigmoid,\r\n",
    )
    first, second = Layer("conv", 32, 3, 16, kernel=3), Layer("mbconv", 16, 16, 24, 5, 1, 48, 12, "hard_sigmoid")
    third = Layer("sepconv", 16, 16, 16)  # without an expansion, and without a gate
    assert imported(path, [first]).entries == {first: 0.5, second: 0.25, third: 2.0}


HEADER = "operator,size,in_channels,out_channels,kernel,ms\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": column 'operator' is missing; expected a first line such as operator,size,in_channels"),
        ("operator,size,in_channels,out_channels\n", ": column 'ms' is missing"),
        ("operator,size,in_channels,out_chanels,ms\n", ": unknown column 'out_chanels'; did you mean 'out_channels'?"),
        ("operator,size,in_channels,out_channels,size,ms\n", ": column 'size' appears twice"),
        (HEADER + "conv,32,3,16,3,0\n", ", line 2: ms: expected a finite number above zero, got 0"),
        (HEADER + "conv,32,3,16,3,-1\n", ", line 2: ms: expected a finite number above zero, got -1"),
        (HEADER + "conv,32,3,16,3,nan\n", ", line 2: ms: expected a finite number above zero, got nan"),
        (HEADER + "conv,32,3,16,3,inf\n", ", line 2: ms: expected a finite number above zero, got inf"),
        (HEADER + "conv,32,3,16,3,quick\n", ", line 2: ms: expected a finite number above zero, got quick"),
        (HEADER + "conv,32,3,16,3,\n", ", line 2: ms: expected a finite number above zero, got nothing"),
        (HEADER + "conv,32,3\n", ", line 2: ms: expected a finite number above zero, got nothing"),
        (HEADER + "conv,32,3,16,3,1\nconv,32,3,,3,1\n", ", line 3: 'out_channels' is missing"),
        (HEADER + "conv,32,3,16,3,1,9\n", ", line 2: more cells than columns"),
        (HEADER + "convolution,32,3,16,3,1\n", ", line 2: operator: should be 'conv', 'sepconv'"),
        (HEADER + "conv,wide,3,16,3,1\n", ", line 2: size: should be a valid integer"),
        (HEADER + "conv,32,3,16,0,1\n", ", line 2: kernel: expected at least 1, got 0"),
        (HEADER + "conv,32,-3,16,3,1\n", ", line 2: in_channels: expected at least 1, got -3"),
        (HEADER + "mbconv,32,16,16,3,1\n", ", line 2: hidden: an mbconv needs its expanded channels"),
        (HEADER + "conv,32,3,16,3,1\nconv,32,3,16,3,2\n", ", line 3: this layer appears twice: operator=conv size=32"),
        (HEADER + 'conv,32,3,16,3,"1\n', ", line 2: not valid CSV"),
        (HEADER + "conv,32,3,24,3,1\n", ": has none of the 8 layers"),
        (HEADER, ": has none of the 8 layers"),
        (b"PK\x03\x04\xff\xff\xff", ": not a text file in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_csv(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv", text)
    with pytest.raises(BadInput) as caught:
        imported(path, replace(V3, resolution=96).layers())
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


# --- the command

SPACE = """
name: small
reference: mobilenet_v3_small
resolution: 64
stem: {channels: 24, activation: hard_swish}
stages:
  - {channels: 24, stride: 1, depth: 1, kernel: 3, expansion: 1, activation: relu}
  - {channels: 32, stride: 2, depth: 1, kernel: 5, expansion: KERNELS, activation: relu}
head: {channels: 96, hidden: 128, activation: hard_swish}
"""


@pytest.fixture
def mnas(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["mnas", "latency", "import", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_command(mnas: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path / "theirs.yaml", OFA_TABLE)
    write(tmp_path / "small.yaml", SPACE.replace("KERNELS", "3"))
    about = ("--device", "Galaxy Note10", "--runtime", "tflite", "--threads", "4", "--classes", "10", "--unit", "ms")
    code, out, err = mnas("theirs.yaml", "--space", "small.yaml", *about, "-o", "ours.yaml")
    assert (code, err) == (0, "")
    assert "ours.yaml: 7 layers of space small on Galaxy Note10, which takes" in out
    table = LatencyTable.load(tmp_path / "ours.yaml")
    assert (table.device, table.runtime, table.threads, table.origin) == ("Galaxy Note10", "tflite", 4, "imported")
    arch = next(load_space("small.yaml").enumerate())
    assert table.predict(arch, 10) == pytest.approx(255 - 8 - 128 + 1.28)
    code, out, err = mnas("theirs.yaml", "--space", "small.yaml", *about, "-o", "ours.yaml")
    assert (code, err) == (2, "error: ours.yaml: exists; name another file with -o\n")
    code, out, err = mnas("theirs.yaml", "--space", "small.yaml", "--unit", "ms", "-o", "again.yaml")
    assert code == 2 and "theirs.yaml: state --device and --space" in err


def test_the_command_says_what_is_missing(mnas: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path / "theirs.yaml", OFA_TABLE)
    write(tmp_path / "small.yaml", SPACE.replace("KERNELS", "[3, 4, 6]"))
    code, out, err = mnas(
        "theirs.yaml", "--space", "small.yaml", "--device", "phone", "--unit", "ms", "-o", "ours.yaml", "--json"
    )
    assert code == 0 and '"missing": 2' in out
    assert "theirs.yaml lacks 2 of the 9 layers of space 'small' for 1000 classes" in err
    assert "operator=mbconv size=32" in err


# --- rectangles


def test_keys_have_both_sides() -> None:
    layer = Layer("mbconv", (28, 45), 48, 40, kernel=5, stride=2, hidden=144, activation="relu")
    key = "expanded_conv-input:28x45x48-output:14x23x40-expand:144-kernel:5-stride:2-idskip:0-se:0-hs:0"
    assert OFA.key(layer) == key and OFA.pattern().fullmatch(key)


def test_a_rectangle_is_the_sum_of_its_rows(tmp_path: Path) -> None:
    wide, text = replace(V3, resolution=(64, 96)), OFA_TABLE
    for side, other in ((64, 96), (32, 48), (16, 24)):
        text = text.replace(f"{side}x{side}x", f"{side}x{other}x")
    table = imported(write(tmp_path / "table.yaml", text), wide.layers())
    assert table.predict(wide) == 255
    table.save(tmp_path / "ours.yaml")
    assert LatencyTable.load(tmp_path / "ours.yaml").predict(wide) == 255
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "64_lookup_table.yaml", text)
    with pytest.raises(BadInput, match=r"resolutions 64, not for 64x96"):
        imported(tmp_path / "folder", wide.layers())


def test_a_csv_of_rectangles(tmp_path: Path) -> None:
    wide = replace(V3, resolution=(64, 96))
    layers = dict.fromkeys(wide.layers(10))
    with open(tmp_path / "layers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(layer.to_dict() | {"ms": 0.5} for layer in layers)
    assert read_csv(tmp_path / "layers.csv") == dict.fromkeys(layers, 0.5)
    assert ",64x96," in (tmp_path / "layers.csv").read_text()
    assert [*read_csv(write(tmp_path / "x.csv", "operator,size,in_channels,out_channels,ms\npool,7x7,5,5,1"))] == [
        Layer("pool", 7, 5, 5)
    ]
    for wrong in ("64x", "0x64", "0"):
        with pytest.raises(BadInput, match="line 2: size: "):
            read_csv(write(tmp_path / "x.csv", f"operator,size,in_channels,out_channels,ms\npool,{wrong},5,5,1"))
