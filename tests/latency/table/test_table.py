from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damage import KINDS, damage
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_tables import changed, made_up, refitted

from mnas.errors import BadInput
from mnas.io.size import sized
from mnas.latency.conditions import Conditions
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.anchors import Anchor
from mnas.latency.table.calibration import Calibration, CalibrationNetworks, TableError
from mnas.latency.table.table import LatencyTable, differences, load_table
from mnas.latency.timing.device import device_name
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.layer import Layer, round_channels
from mnas.space.space import load_space

SMALL = zoo.get("mobilenet_v3_small", 0.5, 64)


def table_of(*archs: Architecture, num_classes: int = 1000, seed: int = 0) -> LatencyTable:
    rng = random.Random(seed)
    layers = dict.fromkeys(layer for arch in archs for layer in arch.layers(num_classes))
    entries = {layer: rng.uniform(0.001, 3) for layer in layers}
    return made_up(entries)


numbers = st.integers(1, 2000)
layers = st.builds(
    Layer,
    operator=st.sampled_from(["conv", "sepconv", "mbconv", "pool", "linear"]),
    size=numbers | st.builds(sized, numbers, numbers), in_channels=numbers, out_channels=numbers,
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.sampled_from([1, 2]), hidden=st.integers(0, 2000), se=st.integers(0, 500),
    gate=st.sampled_from(["sigmoid", "hard_sigmoid"]),
    activation=st.sampled_from(["none", "relu", "relu6", "hard_swish"]),
    output_activation=st.sampled_from(["none", "relu6"]), skip=st.sampled_from(["none", "identity", "pool"]),
)  # fmt: skip
milliseconds = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    name, width = draw(st.sampled_from(zoo.names())), draw(st.sampled_from([0.5, 1.0]))
    arch = zoo.get(name, width, draw(st.sampled_from([32, 64])))
    kernel, se = draw(st.sampled_from([3, 5, 7])), draw(st.booleans())
    stage = tuple(
        replace(block, kernel=kernel, se=round_channels(block.channels / 4) if se else 0) for block in arch.stages[1]
    )
    return replace(arch, stages=(arch.stages[0], stage, *arch.stages[2:]))


# --- prediction -------------------------------------------------------------------------------------------------


def test_a_prediction_is_the_sum_over_layers() -> None:
    table = table_of(SMALL, num_classes=10)
    assert table.predict(SMALL, 10) == pytest.approx(sum(table.entries[layer] for layer in SMALL.layers(10)), rel=1e-12)


FIT = Calibration(
    0.5, 0.9, TableError(mean_error=0.01, max_error=0.03, bias=-0.002, spearman=0.99),
    CalibrationNetworks(20, 10, "v3_large", (192, 224), "2026-01-31", anchor_ms=12.5, repeatability=0.01),
)  # fmt: skip


ANCHORED = refitted(
    FIT, anchors=(Anchor(SMALL, 10, 0.125), Anchor(zoo.get("mobilenet_v1", 0.5, 32), 1000, 1.5e-05))
)


def with_own_values(table: LatencyTable, resolutions: Iterable[int], seed: int) -> LatencyTable:
    """The table with other values of some layers at each of these resolutions."""
    rng = random.Random(seed)
    own = {
        resolution: {layer: rng.uniform(0.001, 3) for layer in table.entries if rng.random() < 0.3}
        for resolution in resolutions
    }
    return replace(table, at_resolution={resolution: values for resolution, values in own.items() if values})


@settings(deadline=None, max_examples=40)
@given(
    st.lists(architectures(), max_size=6), st.sampled_from([10, 1000]), st.integers(0, 9),
    st.sets(st.sampled_from([32, 64, 96])),
)  # fmt: skip
def test_predict_many_is_predict_of_each(
    archs: list[Architecture], num_classes: int, seed: int, resolutions: set[int]
) -> None:
    table = with_own_values(table_of(*archs, num_classes=num_classes, seed=seed), resolutions, seed)
    plain = [
        sum((table.entries | table.at_resolution.get(arch.resolution, {}))[layer] for layer in arch.layers(num_classes))
        for arch in archs
    ]
    sums = table.layer_sums(archs, num_classes)
    assert (sums.dtype, sums.shape) == (np.float64, (len(archs),))
    np.testing.assert_allclose(sums, plain, rtol=1e-9)
    np.testing.assert_array_equal(table.predict_many(archs, num_classes), sums)
    np.testing.assert_allclose([table.predict(arch, num_classes) for arch in archs], plain, rtol=1e-9)

    expected = [0.5 + 0.9 * total for total in plain]
    calibrated = replace(table, calibration=FIT)
    np.testing.assert_allclose(calibrated.predict_many(archs, num_classes), expected, rtol=1e-9)
    np.testing.assert_allclose([calibrated.predict(arch, num_classes) for arch in archs], expected, rtol=1e-9)

    # corrected milliseconds take the place of those measured
    corrected = replace(calibrated, entries=dict.fromkeys(table.entries, 7.0), corrected=table.entries)
    np.testing.assert_allclose(corrected.predict_many(archs, num_classes), expected, rtol=1e-9)
    np.testing.assert_allclose([corrected.predict(arch, num_classes) for arch in archs], expected, rtol=1e-9)
    np.testing.assert_array_equal(replace(corrected, entries=table.entries).layer_sums(archs, num_classes), sums)
    assert replace(corrected, entries=table.entries).uncalibrated() == table


def test_a_value_of_one_resolution_holds_there_alone() -> None:
    smaller = replace(SMALL, resolution=63)  # 32 pixels after the stem, as from 64: the other layers are shared
    layer = SMALL.layers()[1]
    assert layer in smaller.layers()
    table = table_of(SMALL, smaller)
    before = table.predict(SMALL), table.predict(smaller)
    table.at_resolution = {63: {layer: table.entries[layer] + 1}, 224: {layer: 1000.0}}
    expected = [before[0], before[1] + 1]
    assert [table.predict(SMALL), table.predict(smaller)] == pytest.approx(expected, rel=1e-12)
    assert table.predict_many([SMALL, smaller]).tolist() == pytest.approx(expected, rel=1e-12)
    table.corrected = dict.fromkeys(table.entries, 2.0)
    kept = table.only({layer})
    assert (kept.entries, kept.at_resolution) == ({layer: table.entries[layer]}, table.at_resolution)
    assert kept.corrected == {layer: 2.0}
    assert table.only(SMALL.layers()[2:]).at_resolution == {}
    assert len(table.at_resolution) == 2


def test_a_prediction_is_of_the_entries_as_they_are() -> None:
    table, layer = table_of(SMALL), SMALL.layers()[3]
    for _ in range(2):
        for predicted in (table.predict(SMALL), *table.predict_many([SMALL, SMALL])):
            assert predicted == pytest.approx(sum(table.entries[layer] for layer in SMALL.layers()), rel=1e-9)
        table.entries[replace(layer)] += 2.0


@pytest.mark.alone
def test_a_hundred_thousand_predictions_a_second() -> None:
    space, rng = load_space("v3_large").with_resolutions((224,)), random.Random(0)
    plain = replace(table_of(), entries={layer: rng.uniform(0.001, 3) for layer in space.layers()})
    for table in (plain, with_own_values(plain, [192, 224], 0)):
        taken = []
        for _ in range(2):
            archs = [space.sample(rng) for _ in range(500)]
            start = time.process_time()
            table.predict_many(archs)
            taken.append((time.process_time() - start) / len(archs))
        assert min(taken) < 1e-5
    fresh = [space.sample(rng) for _ in range(200)]
    start = time.process_time()
    for arch in fresh:
        table.predict(arch)
    assert (time.process_time() - start) / len(fresh) < 1e-4


def test_a_missing_layer_is_an_error_and_never_zero() -> None:
    table = table_of(SMALL)
    lost = list(table.entries)[:5]
    for layer in lost:
        del table.entries[layer]
    for predict in (lambda: table.predict(SMALL), lambda: table.predict_many([SMALL, SMALL])):
        with pytest.raises(BadInput) as caught:
            predict()
        text = str(caught.value)
        assert all(str(layer) in text for layer in lost[:3])
        assert all(str(layer) not in text for layer in lost[3:])
        assert "lacks 5 layers" in text
        assert "2 more" in text
        assert "mnas latency build --space" in text
    assert table.missing([lost[1], SMALL.layers()[-1], lost[0], lost[1]]) == [lost[1], lost[0]]
    larger = replace(SMALL, resolution=96)
    with pytest.raises(BadInput, match="lacks 1 layer: operator=linear") as caught:
        table_of(SMALL, larger).predict_many([larger, SMALL], num_classes=7)
    wanted = "--space SPACE --classes 7 --resolution 64,96"
    assert f"mnas latency build {wanted} --runtime torch --threads 1 --batch 1 -o FILE" in str(caught.value)
    with pytest.raises(BadInput, match="Import its source again for that space: mnas latency import SOURCE") as caught:
        changed(table_of(SMALL, larger), origin="imported").predict_many([larger, SMALL], num_classes=7)
    assert f"SOURCE {wanted} -o NEW.yaml" in str(caught.value)


def test_the_numbers_of_classes_that_a_table_has() -> None:
    table = table_of(SMALL, num_classes=100)
    assert table.classes() == [100], "not the head's hidden layer"
    assert replace(table, entries=table.entries | table_of(SMALL, num_classes=7).entries).classes() == [7, 100]
    assert table_of().classes() == []


# --- provenance -------------------------------------------------------------------------------------------------

HERE = made_up(device=device_name(), runtime_version=get_runtime("torch").version())


def test_a_table_of_this_machine() -> None:
    assert differences(HERE, Conditions("torch")) == []
    other_day = changed(HERE, date="2020-01-01", mnas_version="9", clock_mhz=800.0, origin="imported", framed=True)
    assert differences(other_day, Conditions("torch")) == [], "neither the day nor the author matters"


@pytest.mark.parametrize(("change", "expected"), [
    ({"threads": 4}, ["threads 4, not 1"]),
    ({"batch": 8}, ["batch 8, not 1"]),
    ({"dtype": "int8"}, ["dtype int8, not float32"]),
    ({"device": "A phone"}, [f"device A phone, not {device_name()}"]),
    ({"runtime_version": "1.0"}, [f"runtime version 1.0, not {get_runtime('torch').version()}"]),
    ({"framed": True}, ["layers timed in frames, not alone"]),
    ({"threads": 4, "batch": 8}, ["threads 4, not 1", "batch 8, not 1"]),
])  # fmt: skip
def test_each_difference_is_named(change: dict[str, object], expected: list[str]) -> None:
    assert differences(changed(HERE, **change), Conditions("torch")) == expected


def test_the_versions_of_different_runtimes_are_not_compared() -> None:
    assert differences(HERE, Conditions("onnxruntime", 2)) == ["runtime torch, not onnxruntime", "threads 1, not 2"]
    phone = changed(HERE, runtime="tflite", runtime_version="2.4", device="Galaxy Note10")
    assert differences(phone, Conditions("torch")) == ["runtime tflite, not torch"]


# --- the file ---------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(layers, milliseconds, max_size=5), st.integers(0, 9),
    st.dictionaries(layers, st.text(max_size=9), max_size=2),
    st.sampled_from([None, FIT, refitted(FIT, offset_ms=-0.25, mean_error=0.00001, repeatability=0.0), ANCHORED]),
    st.text(min_size=1, max_size=20), st.integers(1, 64),
)  # fmt: skip
def test_a_saved_table_loads_as_it_was(
    entries: dict[Layer, float], seed: int, failed: dict[Layer, str], calibration: Calibration | None, device: str,
    threads: int,
) -> None:  # fmt: skip
    table = changed(
        table_of(), entries=entries, failed=failed, calibration=calibration, threads=threads,
        device=" ".join(device.split()), clock_mhz=2450.5 if seed else None, origin="imported" if seed else "built",
    )  # fmt: skip
    if calibration is None or seed % 2:
        table = with_own_values(table, [160, 224], seed)
    else:
        table = replace(table, corrected={layer: max(0.8 * ms, 5e-324) for layer, ms in entries.items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "table.yaml"
        table.save(path)
        assert LatencyTable.load(path) == table


def test_a_path_may_be_text(tmp_path: Path) -> None:
    table, path = table_of(SMALL), str(tmp_path / "table.yaml")
    table.save(path)
    assert LatencyTable.load(path) == load_table(path) == table
    with pytest.raises(BadInput, match=r"absent\.yaml"):
        LatencyTable.load("absent.yaml")


@pytest.mark.parametrize(
    "text", ["n", "Y", "no", "1e3", "-1.5E-3", "0x1F", "null", "=", "<<", "2026-01-31", "a: b # c", "'", "Zürich 📱"]
)
def test_a_device_may_have_any_name(text: str, tmp_path: Path) -> None:
    table = changed(table_of(), device=text, runtime_version=text, failed={Layer("pool", 7, 8, 8): text})
    table.save(tmp_path / "table.yaml")
    assert LatencyTable.load(tmp_path / "table.yaml") == table


def test_the_file_is_readable(tmp_path: Path) -> None:
    layer = Layer("mbconv", 28, 40, 40, 5, hidden=120, skip="identity")
    row = "{operator: mbconv, size: 28, in_channels: 40, out_channels: 40, kernel: 5, hidden: 120, skip: identity, "
    table = replace(table_of(), entries={layer: 0.25})
    table.save(tmp_path / "table.yaml")
    header = [
        "device: 'A board: rev 2, 4 cores'", "runtime: torch", "runtime_version: 2.13.0", "threads: 1", "batch: 1",
        "dtype: float32", "date: '2026-01-31'", "mnas_version: 0.1.0", "origin: built",
        "framed: false",
    ]  # fmt: skip
    lines = (tmp_path / "table.yaml").read_text().splitlines()
    assert lines[1:-1] == [*header, "layer_count: 1", "layers:", f"- {row}ms: 0.25}}"]

    changed(
        table, at_resolution={224: {layer: 0.5}}, clock_mhz=2000.0, calibration=FIT,
        failed={Layer("linear", 1, 8, 2): 'no "linear"\nhere'},
    ).save(tmp_path / "table.yaml")  # fmt: skip
    lines = (tmp_path / "table.yaml").read_text().splitlines()
    assert lines[1:-1] == [
        *header, "clock_mhz: 2000.0", "calibration:", "  offset_ms: 0.5", "  factor: 0.9", "  networks: 20",
        "  held_out: 10", "  mean_error: 0.01", "  max_error: 0.03", "  bias: -0.002", "  spearman: 0.99",
        "  repeatability: 0.01", "  space: v3_large", "  resolutions:", "  - 192", "  - 224", "  date: '2026-01-31'",
        "  anchor_ms: 12.5", "  unstable: ''", "layer_count: 2", "failed:",
        '- {operator: linear, size: 1, in_channels: 8, out_channels: 2, why: "no \\"linear\\"\\nhere"}',
        "layers:", f"- {row}ms: 0.25}}", f"- {row}resolution: 224, ms: 0.5}}",
    ]  # fmt: skip

    replace(table, calibration=FIT, corrected={layer: 0.26}).save(tmp_path / "table.yaml")
    assert (tmp_path / "table.yaml").read_text().splitlines()[-2] == f"- {row}ms: 0.25, corrected_ms: 0.26}}"


def test_anchors_in_a_file_are_one_row_each_and_an_older_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    changed(table_of(), calibration=ANCHORED).save(path)
    lines = path.read_text().splitlines()
    first = lines.index("anchors:") + 1
    assert lines[first].startswith("- {ms: 0.125, num_classes: 10, architecture: {resolution: 64, ")
    assert lines[first + 2].startswith("layers:")
    del lines[first - 1 : first + 2], lines[-1]  # and the checksum
    path.write_text("\n".join(lines) + "\n")
    assert LatencyTable.load(path).calibration == FIT


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named(kind: str, tmp_path: Path) -> None:
    path, table = tmp_path / "table.yaml", changed(table_of(), calibration=ANCHORED)
    table.save(path)
    damage(path, kind)
    if kind == "last byte lost":  # of the checksum's line
        assert LatencyTable.load(path) == table
        return
    with pytest.raises(BadInput, match=f"^{path}") as caught:
        LatencyTable.load(path)
    assert "\n" not in str(caught.value)


def test_a_file_edited_by_hand_is_read_without_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    changed(table_of(), calibration=ANCHORED).save(path)
    text = path.read_text().replace("offset_ms: 0.5", "offset_ms: 0.6")
    path.write_text(text)
    with pytest.raises(BadInput, match="edited by hand, delete that line"):
        LatencyTable.load(path)
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert LatencyTable.load(path).calibration == replace(ANCHORED, offset_ms=0.6)


def refused_once_changed(path: Path, before: str, after: str, expected: str) -> str:
    """The one error of a table's file in which a text was replaced."""
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(BadInput, match=expected) as caught:
        LatencyTable.load(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize(("before", "after", "expected"), [
    ("ms: 0.125", "ms: 0", r"anchors\[0\].ms: should be greater than 0, got 0"),
    ("num_classes: 10,", "num_classes: 0,", r"anchors\[0\].num_classes: should be greater than or equal to 1, got 0"),
    ("{resolution: 64", "{resolution: 3", r"anchors\[0\].architecture: resolution 3: expected at least 8"),
    ("operator: conv", "operator: cnov", r"anchors\[0\].architecture: stem.operator: .*got 'cnov'"),
    ("num_classes: 1000, ", "", r"'anchors\[1\].num_classes' is missing"),
])  # fmt: skip
def test_faulty_anchors_in_a_file(before: str, after: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    changed(table_of(), calibration=ANCHORED).save(path)
    refused_once_changed(path, before, after, expected)


def test_anchors_without_a_calibration_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    changed(table_of(), calibration=ANCHORED).save(path)
    head, rest = path.read_text().split("calibration:")
    path.write_text(f"{head}layer_count: 0\n{rest[rest.index('anchors:') :]}")
    with pytest.raises(BadInput, match="anchors: there is no calibration"):
        LatencyTable.load(path)


FAULTS = {
    "negative": ("ms: 0.25", "ms: -0.25", r"layers\[0\].ms: should be greater than 0, got -0.25"),
    "zero": ("ms: 0.25", "ms: 0", r"layers\[0\].ms: should be greater than 0"),
    "NaN": ("ms: 0.25", "ms: .nan", r"layers\[0\].ms: .*finite"),
    "nan as a word": ("ms: 0.25", "ms: nan", r"layers\[0\].ms: should be a valid number, got 'nan'"),
    "infinite": ("ms: 0.25", "ms: .inf", r"layers\[0\].ms: .*finite"),
    "text": ("ms: 0.25", "ms: fast", r"layers\[0\].ms: should be a valid number, got 'fast'"),
    "no time": (", ms: 0.25", "", r"'layers\[0\].ms' is missing"),
    "unknown operator": ("operator: conv", "operator: swin", r"layers\[0\].operator: .*mbconv.*got 'swin'"),
    "unknown key": ("kernel: 3", "kernal: 3", r"unknown key 'layers\[0\].kernal'; did you mean 'kernel'"),
    "unknown activation": ("activation: relu", "activation: gelu", r"layers\[0\].activation"),
    "fraction": ("size: 9", "size: 9.5", r"layers\[0\].size: should be a valid integer"),
    "no size": ("size: 9", "size: 0", r"layers\[0\].size: should be greater than or equal to 1"),
    "word for a count": ("threads: 1", "threads: one", "threads: should be a valid integer, got 'one'"),
    "no threads": ("threads: 1\n", "", "'threads' is missing"),
    "other dtype": ("dtype: float32", "dtype: float16", "dtype: .*'float32'"),
    "header key": ("batch: 1", "batch: 1\ncolour: red", "unknown key 'colour'"),
    "rows as mapping": ("layers:\n", "layers: {}\nother:\n", "layers"),
    "cut within a row": ("skip: identity, ms: 0.5}\n", "sk", "not valid YAML"),
    "cut between rows": ("- {operator: linear", "#", "layer_count is 5, but there are 4"),
    "cut in the header": ("layer_count", "#", "'layer_count' is missing"),
    "a row twice": ("out_channels: 6", "out_channels: 8", r"layers\[1\]: this layer appears twice: operator=conv"),
    "twice for 224": ("resolution: 192", "resolution: 224", "this layer appears twice for resolution 224: oper"),
    "for 224 alone": ("out_channels: 6", "out_channels: 10", "resolution 224"),
    "no resolution": ("resolution: 224", "resolution: 0", r"layers\[3\].resolution: should be greater than or equal"),
    "a failure twice": ("size: 5", "size: 7", r"failed\[1\]: this layer appears twice: operator=pool"),
    "a failure of a time": ('why: "lost"', "ms: 0.5", r"unknown key 'failed\[0\].ms'"),
    "no reason": ('why: "lost"', "why: 3", r"failed\[0\].why: should be a valid string, got 3"),
    "a clock of zero": ("clock_mhz: 2000.0", "clock_mhz: 0", "clock_mhz: should be greater than 0"),
    "origin": ("origin: built", "origin: guessed", "origin: should be 'built' or 'imported'"),
    "calibration NaN": ("offset_ms: 0.5", "offset_ms: .nan", "calibration.offset_ms: should be a finite number"),
    "calibration infinite": ("max_error: 0.03", "max_error: .inf", "calibration.max_error: should be a finite number"),
    "factor of zero": ("factor: 0.9", "factor: 0", "calibration.factor: should be greater than 0, got 0"),
    "negative factor": ("factor: 0.9", "factor: -0.9", "calibration.factor: should be greater than 0, got -0.9"),
    "negative error": ("mean_error: 0.01", "mean_error: -0.5", "calibration.mean_error: .*0, got -0.5"),
    "negative anchor": ("anchor_ms: 12.5", "anchor_ms: -1", "calibration.anchor_ms: should be greater than 0, got -1"),
    "calibration word": ("factor: 0.9", "factor: same", "calibration.factor: should be a valid number, got 'same'"),
    "calibration key": ("bias: ", "bais: ", "unknown key 'calibration.bais'; did you mean 'bias'"),
    "half a calibration": ("  held_out: 10\n", "", "'calibration.held_out' is missing"),
    "a list": ("# mnas", "[1, 2]\n#", "not valid YAML"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_clear_error(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    conv = Layer("conv", 9, 4, 8, 3, activation="relu", skip="identity")
    narrow = replace(conv, out_channels=6)
    changed(
        table_of(), entries={conv: 0.25, narrow: 0.5, Layer("linear", 1, 8, 2): 0.125}, clock_mhz=2000.0,
        at_resolution={224: {narrow: 0.75}, 192: {narrow: 0.75}}, calibration=FIT,
        failed={Layer("pool", 7, 8, 8): "lost", Layer("pool", 5, 8, 8): "lost"},
    ).save(path)  # fmt: skip
    assert len(refused_once_changed(path, *FAULTS[fault])) < 600


CORRECTED_FAULTS = {
    "some rows": (", corrected_ms: 0.2625", "", "1 of 2 layers have none, such as operator=conv"),
    "uncalibrated": ("\ncalibration:", "\n# calibration:", "corrected_ms: there is no calibration: delete every"),
    "of one resolution": (
        "layer_count: 2\nlayers:\n", "layer_count: 3\nlayers:\n- {resolution: 224, operator: linear, size: 1, "
        "in_channels: 8, out_channels: 2, ms: 0.1}\n", "corrected_ms: there are rows of one resolution alone"),
    "absurd": ("corrected_ms: 0.2625", "corrected_ms: 1.0e+9", "more than twice or less than half the ms of op"),
    "zero": ("corrected_ms: 0.2625", "corrected_ms: 0", r"layers\[0\].corrected_ms: should be greater than 0"),
    "NaN": ("corrected_ms: 0.2625", "corrected_ms: .nan", r"layers\[0\].corrected_ms: .*finite"),
}


@pytest.mark.parametrize("fault", CORRECTED_FAULTS)
def test_a_faulty_correction_is_one_clear_error(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    entries = {Layer("conv", 9, 4, 8, 3): 0.25, Layer("linear", 1, 8, 2): 0.125}
    corrected = {layer: 1.05 * ms for layer, ms in entries.items()}
    replace(table_of(), entries=entries, corrected=corrected, calibration=FIT).save(path)
    before, after, expected = CORRECTED_FAULTS[fault]
    text = path.read_text().replace(before, after, 1)
    if fault == "uncalibrated":
        text = "\n".join(line for line in text.splitlines() if not line.startswith("  "))
    path.write_text(text)
    with pytest.raises(BadInput, match=expected):
        LatencyTable.load(path)


@pytest.mark.parametrize("content", ["", "just text", "[1, 2]", "\0\1", "layers: *all"])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"table.yaml"):
        LatencyTable.load(path)
    with pytest.raises(BadInput, match=r"absent.yaml"):
        LatencyTable.load(tmp_path / "absent.yaml")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, table = tmp_path / "table.yaml", table_of(SMALL)
    table.save(path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        table_of().save(path)
    assert LatencyTable.load(path) == table
    assert os.listdir(tmp_path) == ["table.yaml"]


def test_three_thousand_layers_load_quickly(tmp_path: Path) -> None:
    entries = {
        Layer("mbconv", 14, 40, channels, 3, 1, hidden, 32, "hard_sigmoid", "hard_swish", skip="identity"): 0.123456
        for channels in range(8, 408, 8) for hidden in range(8, 488, 8)
    }  # fmt: skip
    assert len(entries) == 3000
    replace(table_of(), entries=entries).save(tmp_path / "table.yaml")
    seconds: list[float] = []
    while len(seconds) < 3 and (not seconds or seconds[-1] > 1.5):  # a busy neighbour may spoil a try
        start = time.process_time()
        LatencyTable.load(tmp_path / "table.yaml")
        seconds.append(time.process_time() - start)
    assert seconds[-1] < 1.5


def test_no_network_is_predicted_to_take_no_time() -> None:
    """Where the fitted line begins below zero, and a network is smaller than those that it was fitted on."""
    table = replace(table_of(SMALL), calibration=refitted(FIT, offset_ms=-1000.0))
    sums = table.layer_sums([SMALL], 1000)
    assert table.predict(SMALL) == pytest.approx(0.1 * FIT.factor * sums[0])
    np.testing.assert_allclose(table.predict_many([SMALL]), [table.predict(SMALL)], rtol=1e-12)


def test_what_measurements_differ_by_is_no_error_of_the_table() -> None:
    noisy = refitted(FIT, mean_error=0.06, repeatability=0.02)
    assert noisy.is_exact(0.05) and not refitted(noisy, repeatability=0.005).is_exact(0.05)
    assert not refitted(noisy, mean_error=0.11, repeatability=0.5).is_exact(0.05), "noise alone is no excuse"


WIDE = zoo.get("mobilenet_v3_small", 0.5, (48, 84))


def test_a_table_of_rectangles(tmp_path: Path) -> None:
    fit = refitted(FIT, resolutions=((48, 84), (96, 168)), anchors=(Anchor(WIDE, 10, 0.5),))
    table = replace(table_of(WIDE, SMALL, num_classes=10), calibration=fit)
    table.save(tmp_path / "table.yaml")
    assert LatencyTable.load(tmp_path / "table.yaml") == table
    text = (tmp_path / "table.yaml").read_text()
    assert "  - 48x84\n  - 96x168\n" in text and "size: 24x42" in text and "resolution: 48x84" in text
    assert "(" not in text.partition("layers:")[2]
    assert fit.is_of(load_space("v3_large").with_resolutions([(96, 168), (48, 84)]))
    assert json.loads(json.dumps(fit.to_dict()))["resolutions"] == ["48x84", "96x168"]
    for wrong in ("24x", "24x0", "[24]", "true"):
        (tmp_path / "wrong.yaml").write_text(text.replace("size: 24x42", f"size: {wrong}"))
        with pytest.raises(BadInput, match="size: should be"):
            LatencyTable.load(tmp_path / "wrong.yaml")
    with pytest.raises(BadInput, match="--resolution 64,96x168"):
        table.predict_many([replace(SMALL, resolution=64), replace(WIDE, resolution=(96, 168))], 7)
