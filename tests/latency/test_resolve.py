"""Tables that are refused, completed, used."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import KINDS, damage
from made_up_tables import FIT, changed, made_up, refitted

import mnas
from mnas.config import Objective, RunConfig, Target
from mnas.errors import BadInput
from mnas.io.size import Size
from mnas.latency import resolve
from mnas.latency.conditions import Conditions
from mnas.latency.resolve import resolve_table
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing.device import device_name
from mnas.run import Run
from mnas.space.cost import layer_madds

PHONE = {"device": "a phone", "runtime": "tflite", "origin": "imported"}


@pytest.fixture
def table(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """A table's file: this machine's, with made-up milliseconds, but for what is said otherwise."""

    def write(name: str = "table.yaml", classes: int = 10, sizes: tuple[Size, ...] = (32, 48), **changes: Any) -> Path:
        layers = mnas.load_space(tiny).with_resolutions(sizes).layers(classes)
        entries = {layer: 0.01 + layer_madds(layer) / 1e7 for layer in layers}
        here = {"device": device_name(), "runtime_version": get_runtime("torch").version(), "calibration": FIT}
        made_up(entries, **(here | changes)).save(tmp_path / name)
        return tmp_path / name

    return write


def config(*targets: Target, **changes: Any) -> RunConfig:
    objective = changes.pop("objective", Objective(name="mnasnet", formula="mnasnet"))
    return RunConfig(space="tiny.yaml", targets=targets, objective=objective).model_copy(update=changes)


@pytest.fixture
def opened(tiny: Path, tmp_path: Path) -> Callable[..., tuple[LatencyTable | None, bool]]:
    """A run's table for a target with this file."""

    def open_table(path: Path, runtime: str = "torch", **changes: Any) -> tuple[LatencyTable | None, bool]:
        run = Run(tmp_path / "run")
        run.folder.mkdir(exist_ok=True)
        asked = config(Target(runtime=runtime, latency_table=str(path), latency_ms=1.0), **changes)
        return resolve_table(run, mnas.load_space(tiny), asked, 0, 10)

    return open_table


# --- tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "there"), [
    ("device", "another machine, 4 cores"), ("runtime", "onnxruntime"), ("threads", 4), ("batch", 8),
])  # fmt: skip
def test_a_foreign_table_is_refused_unless_allowed(
    table: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path, name: str, there: Any
) -> None:
    path = table(**{name: there})
    with pytest.raises(BadInput, match=rf"{name} {there}, not .*--allow-foreign-table"):
        opened(path)
    assert not (tmp_path / "run" / "latency_table.yaml").exists()
    found, here = opened(path, allow_foreign_table=True)
    assert (getattr(found, name), here) == (there, False)


def test_another_version_of_the_runtime_can_be_measured_here(
    table: Callable[..., Path], opened: Callable[..., Any]
) -> None:
    path = table(runtime_version="1.0")
    with pytest.raises(BadInput, match=r"runtime version 1.0, not"):
        opened(path)
    assert opened(path, allow_foreign_table=True)[1]
    assert opened(path)[1], "a run goes on after an upgrade"


def test_an_imported_table_needs_no_permission(table: Callable[..., Path], opened: Callable[..., Any]) -> None:
    found, here = opened(table(**PHONE), "tflite")
    assert (found.device, here) == ("a phone", False)


def test_the_run_keeps_its_own_copy(table: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path) -> None:
    path = table()
    first, here = opened(path)
    assert here
    path.unlink()
    assert opened(path)[0] == first == LatencyTable.load(tmp_path / "run" / "latency_table.yaml")


def test_whole_networks_timed_need_no_table(table: Callable[..., Path], opened: Callable[..., Any]) -> None:
    timed = Objective(name="mnasnet", formula="mnasnet", latency="measured")
    assert opened(table(), objective=timed) == (None, True)
    assert opened(table(**PHONE), "tflite", objective=timed)[0].device == "a phone", "which cannot be timed here"


def test_missing_layers_are_listed_with_the_command(
    table: Callable[..., Path], opened: Callable[..., Any], tiny: Path
) -> None:
    small = table(sizes=(32,))
    with pytest.raises(BadInput) as caught:
        opened(small)
    message = str(caught.value)
    lost = mnas.load_space(tiny).layers(10) - set(LatencyTable.load(small).entries)
    assert f"lacks {len(lost)} layers of space 'tiny' for 10 classes: {min(map(str, lost))}; " in message
    assert "at 32 pixels, not at 48: state --resolution 32." in message
    assert f"mnas latency build --space tiny.yaml --classes 10 --runtime torch --threads 1 --batch 1 -o {small}" in message  # noqa: E501
    with pytest.raises(BadInput, match=r"mnas latency import SOURCE --space tiny.yaml --classes 10 --device 'a phone'"):
        opened(table(sizes=(32,), **PHONE), "tflite")
    with pytest.raises(BadInput, match="lacks 1 layer of space 'tiny' for 10 classes: operator=linear"):
        opened(table(classes=100))


def test_a_table_of_other_shapes(table: Callable[..., Path], opened: Callable[..., Any]) -> None:
    path = table(sizes=((32, 56), (48, 84)))
    with pytest.raises(BadInput, match="at 32x56, 48x84 pixels, not at 32, 48: state --resolution 32x56,48x84"):
        opened(path)
    both = LatencyTable.load(path)
    squares = LatencyTable.load(table("squares.yaml", sizes=(32, 64)))
    dataclasses.replace(both, entries=both.entries | squares.entries).save(path)
    with pytest.raises(BadInput, match=r"at 32, 32x56, 48x84, 64 pixels, not at 48: state --resolution 32\."):
        opened(path)


def test_a_layer_that_the_runtime_cannot_run(table: Callable[..., Path], opened: Callable[..., Any]) -> None:
    path = table()
    whole = LatencyTable.load(path)
    lost = next(iter(whole.entries))
    dataclasses.replace(
        whole, entries={layer: ms for layer, ms in whole.entries.items() if layer != lost}, failed={lost: "no such op"}
    ).save(path)
    with pytest.raises(BadInput, match=r"no such op.: take another --runtime") as caught:
        opened(path)
    assert (
        "measure again: mnas latency build --space tiny.yaml --classes 10 --runtime torch "
        "--threads 1 --batch 1 -o NEW.yaml"
    ) in str(caught.value)
    changed(LatencyTable.load(path), **PHONE).save(path)
    with pytest.raises(BadInput, match=r"python3 kit\.zip .* mnas latency import"):
        opened(path, "tflite")


def test_milliseconds_that_can_hardly_be_any(
    table: Callable[..., Path], opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table()
    whole = LatencyTable.load(path)
    dataclasses.replace(whole, entries={layer: 1e5 * ms for layer, ms in whole.entries.items()}).save(path)
    with pytest.raises(BadInput, match=r"microseconds.* mnas latency build --space tiny.yaml"):
        opened(path)
    asked: list[Any] = []
    monkeypatch.setattr(resolve, "unit_doubt", lambda figures, conditions: asked.append(conditions))
    version = get_runtime("onnxruntime").version()
    opened(table("other.yaml", runtime="onnxruntime", runtime_version=version, threads=2, batch=4,
                 framed=True), "onnxruntime", threads=2, batch=4)  # fmt: skip
    assert asked == [Conditions("onnxruntime", 2, 4)]


def test_the_error_that_is_accepted_is_so_while_a_table_is_made(
    table: Callable[..., Path], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inexact = table(calibration=refitted(FIT, mean_error=0.2))
    asked: dict[str, Any] = {}
    monkeypatch.setattr(resolve, "table_for", lambda *_, **how: asked.update(how) or LatencyTable.load(inexact))
    (tmp_path / "run").mkdir()
    given = config(Target(runtime="torch", latency_ms=1.0), max_table_error=0.3)
    assert resolve_table(Run(tmp_path / "run"), mnas.load_space(tiny), given, 0, 10)[1]
    assert asked["accepted"] == 0.3


def test_an_imported_classifier_is_scaled(
    table: Callable[..., Path], opened: Callable[..., Any], tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = table(classes=1000, **PHONE)
    with caplog.at_level(logging.INFO, "mnas"):
        found, _ = opened(path, "tflite")
    assert "classifier for 10 classes" in caplog.text
    arch = next(mnas.load_space(tiny).enumerate())
    whole = LatencyTable.load(path)
    classifier, other = arch.layers(10)[-1], arch.layers(1000)[-1]
    assert found.entries[classifier] == pytest.approx(whole.entries[other] / 100)
    assert 0 < found.predict(arch, 10) < whole.predict(arch, 1000)


def test_an_inexact_table_stops_the_search(
    table: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path
) -> None:
    path = table(calibration=refitted(FIT, mean_error=0.073))
    with pytest.raises(BadInput) as caught:
        opened(path)
    for part in (
        "mean error 7.3% on 20 networks", "5.0%",
        "mnas latency build --space tiny.yaml --classes 10 --runtime torch --threads 1 --batch 1 -o NEW.yaml",
        "--set max_table_error=0.08", "--set objective.latency=measured",
    ):  # fmt: skip
        assert part in str(caught.value)
    assert not (tmp_path / "run" / "latency_table.yaml").exists()
    assert opened(path, max_table_error=0.08)
    (tmp_path / "run" / "latency_table.yaml").unlink()
    with pytest.raises(BadInput, match="measure it again on a phone") as caught:
        opened(table("phone.yaml", calibration=refitted(FIT, mean_error=0.5), **PHONE), "tflite",
               max_table_error=0.4)  # fmt: skip
    assert "objective.latency" not in str(caught.value), "nothing can be timed there"


def test_a_table_without_a_stated_error_warns(
    table: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(table(calibration=None))
    assert "not calibrated" in caplog.text
    caplog.clear()
    (tmp_path / "run" / "latency_table.yaml").unlink()
    opened(table(calibration=refitted(FIT, space="v2")))
    assert "'v2'" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_copy_is_taken_again(
    kind: str, table: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, copy = table(), tmp_path / "run" / "latency_table.yaml"
    first, _ = opened(path)
    whole = copy.read_bytes()
    damage(copy, kind)
    again, _ = opened(path)
    assert again == first
    if kind != "last byte lost":  # of the checksum's line
        assert f"{copy}" in caplog.text and copy.read_bytes() == whole
