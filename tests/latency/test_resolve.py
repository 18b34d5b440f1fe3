"""Several devices in pairs; tables that are refused, completed, believed."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mnas
from mnas.config import Objective, RunConfig, Target
from mnas.errors import BadInput
from mnas.latency import resolve as targets
from mnas.latency.resolve import table_of
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.calibration import Calibration
from mnas.latency.table.table import LatencyTable
from mnas.latency.targets import asked_for, paired
from mnas.latency.timing.device import device_name
from mnas.run import Run
from mnas.space.cost import layer_madds

FIT = Calibration(
    offset_ms=0.0, factor=1.0, networks=20, held_out=20, mean_error=0.02, max_error=0.05, bias=0.0, spearman=0.99,
    repeatability=0.01, space="tiny", resolutions=(32, 48), date="2026-01-31", anchor_ms=1.0,
)  # fmt: skip
PHONE = {"device": "a phone", "runtime": "tflite", "origin": "imported"}


@pytest.fixture
def table(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """A table's file: this machine's, with made-up milliseconds, but for what is said otherwise."""

    def write(name: str = "table.yaml", classes: int = 10, sizes: tuple[int, ...] = (32, 48), **changes: Any) -> Path:
        layers = mnas.load_space(tiny).with_resolutions(sizes).layers(classes)
        made = LatencyTable(
            device_name(), "torch", get_runtime("torch").version(), 1, 1, "float32", "2026-01-31", mnas.__version__,
            entries={layer: 0.01 + layer_madds(layer) / 1e7 for layer in layers}, calibration=FIT,
        )  # fmt: skip
        dataclasses.replace(made, **changes).save(tmp_path / name)
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
        return table_of(run, mnas.load_space(tiny), asked, 0, 10)

    return open_table


# --- pairs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("budgets", "runtimes", "expected"), [
    (15, "torch", [("torch", 15)]),
    (None, "torch", [("torch", None)]),
    ([15], ["onnxruntime"], [("onnxruntime", 15)]),
    ([15, 6.5], ["torch", "onnxruntime"], [("torch", 15), ("onnxruntime", 6.5)]),
    ((1, 2, 3), ("a", "b", "c"), [("a", 1), ("b", 2), ("c", 3)]),
])  # fmt: skip
def test_budgets_and_runtimes_in_pairs(budgets: Any, runtimes: Any, expected: list[tuple[str, float]]) -> None:
    found = paired(budgets, runtimes, None)
    assert [(target.runtime, target.latency_ms) for target in found] == expected


def test_tables_in_pairs(table: Callable[..., Path]) -> None:
    here, phone, other = table("here.yaml"), table("phone.yaml", **PHONE), table("other.yaml", **PHONE)
    assert [one.runtime for one in paired([1, 2], "torch", [here, phone])] == ["torch", "tflite"]
    mixed = paired([1, 2], ["onnxruntime", None], [None, phone])
    assert [(one.runtime, one.latency_table) for one in mixed] == [("onnxruntime", None), ("tflite", str(phone))]
    assert [one.latency_table for one in paired([1, 2], "torch", [phone, str(other)])] == [str(phone), str(other)]
    assert paired(1, ["torch"], phone)[0].runtime == "tflite"


@pytest.mark.parametrize(("budgets", "runtimes", "message"), [
    (15, ["torch", "onnxruntime"], "2 times --runtime and 1 latency budget: give --runtime once, or once for each"),
    ([1, 2, 3], ["torch", "onnxruntime"], "2 times --runtime and 3 latency budgets"),
    ([1, 2], "torch", "two latency budgets for one device .torch."),
    ([1, 2], ["torch", "torch"], "two latency budgets for one device .torch."),
    ([1, None], ["torch", "onnxruntime"], "not a budget for each"),
    ([1, -2], ["torch", "onnxruntime"], "expected a finite number above zero"),
    (None, ["torch", "onnxruntime"], "2 times --runtime and 1 latency budget"),
])  # fmt: skip
def test_what_does_not_pair(budgets: Any, runtimes: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        paired(budgets, runtimes, None)


@pytest.mark.parametrize(("budgets", "runtimes", "largest", "several"), [
    ([10, 5, 15], "torch", [15], (5, 10, 15)),
    ([10, 5], ["onnxruntime"], [10], (5, 10)),
    ([5, 5.0], "torch", [5], ()),
    (5, "torch", [5], ()),
    (None, "torch", [None], ()),
    ([5, 10], ["torch", "onnxruntime"], [5, 10], ()),
])  # fmt: skip
def test_several_budgets_of_one_device(budgets: Any, runtimes: Any, largest: list[float], several: Any) -> None:
    found = asked_for(budgets, runtimes, None)
    assert ([target.latency_ms for target in found[0]], found[1]) == (largest, several)


def test_several_budgets_and_one_table(table: Callable[..., Path]) -> None:
    (target,), several = asked_for([3, 2], "torch", table("phone.yaml", **PHONE))
    assert (target.runtime, target.latency_ms, several) == ("tflite", 3, (2, 3))


@pytest.mark.parametrize("budgets", [[1, -2], [1, float("nan")], [1, None]])
def test_bad_budgets_among_several(budgets: list[float]) -> None:
    with pytest.raises(BadInput):
        asked_for(budgets, "torch", None)


# --- tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "there"), [
    ("device", "another machine, 4 cores"), ("runtime", "onnxruntime"), ("threads", 4), ("batch", 8),
])  # fmt: skip
def test_a_foreign_table_is_refused_unless_allowed(
    table: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path, name: str, there: Any
) -> None:
    path = table(**{name: there})
    with pytest.raises(BadInput, match=rf"table\.yaml: was not measured here as asked for \({name} {there}, not .*"
                       "give --allow-foreign-table"):  # fmt: skip
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
    assert "speaks of networks at 32 pixels, not at 48: state --resolution 32." in message
    assert f"mnas latency build --space tiny.yaml --classes 10 --runtime torch --threads 1 --batch 1 -o {small}" in message  # noqa: E501
    with pytest.raises(BadInput, match=r"mnas latency import SOURCE --space tiny.yaml --classes 10 --device 'a phone'"):
        opened(table(sizes=(32,), **PHONE), "tflite")
    with pytest.raises(BadInput, match="lacks 1 layer of space 'tiny' for 10 classes: operator=linear"):
        opened(table(classes=100))


def test_a_layer_that_the_runtime_cannot_run(table: Callable[..., Path], opened: Callable[..., Any]) -> None:
    path = table()
    whole = LatencyTable.load(path)
    lost = next(iter(whole.entries))
    dataclasses.replace(
        whole, entries={layer: ms for layer, ms in whole.entries.items() if layer != lost}, failed={lost: "no such op"}
    ).save(path)
    with pytest.raises(BadInput, match=r"torch could not run them .no such op.: take another --runtime") as caught:
        opened(path)
    assert (
        "if it only lacked memory, measure anew: mnas latency build --space tiny.yaml --classes 10 --runtime torch "
        "--threads 1 --batch 1 -o NEW.yaml"
    ) in str(caught.value)
    dataclasses.replace(LatencyTable.load(path), **PHONE).save(path)
    with pytest.raises(BadInput, match=r"measure anew: python3 kit\.zip there, which tries them again; mnas"):
        opened(path, "tflite")


def test_milliseconds_that_can_hardly_be_any(
    table: Callable[..., Path], opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table()
    whole = LatencyTable.load(path)
    dataclasses.replace(whole, entries={layer: 1e5 * ms for layer, ms in whole.entries.items()}).save(path)
    with pytest.raises(BadInput, match=r"in microseconds\? Measure it anew: mnas latency build --space tiny.yaml"):
        opened(path)
    asked: list[Any] = []
    monkeypatch.setattr(targets, "unit_doubt", lambda stated, *how: asked.append(how))
    version = get_runtime("onnxruntime").version()
    opened(table("other.yaml", runtime="onnxruntime", runtime_version=version, threads=2, batch=4,
                 framed=True), "onnxruntime", threads=2, batch=4)  # fmt: skip
    assert asked == [(4, "onnxruntime", 2)]


def test_the_error_that_is_accepted_is_so_while_a_table_is_made(
    table: Callable[..., Path], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inexact = table(calibration=dataclasses.replace(FIT, mean_error=0.2))
    asked: dict[str, Any] = {}
    monkeypatch.setattr(targets, "table_for", lambda *_, **how: asked.update(how) or LatencyTable.load(inexact))
    (tmp_path / "run").mkdir()
    given = config(Target(runtime="torch", latency_ms=1.0), max_table_error=0.3)
    assert table_of(Run(tmp_path / "run"), mnas.load_space(tiny), given, 0, 10)[1]
    assert asked["accepted"] == 0.3


def test_an_imported_classifier_is_scaled(
    table: Callable[..., Path], opened: Callable[..., Any], tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = table(classes=1000, **PHONE)
    with caplog.at_level(logging.INFO, "mnas"):
        found, _ = opened(path, "tflite")
    assert "lacks the classifier for 10 classes: its latency is scaled" in caplog.text
    arch = next(mnas.load_space(tiny).enumerate())
    whole = LatencyTable.load(path)
    classifier, other = arch.layers(10)[-1], arch.layers(1000)[-1]
    assert found.entries[classifier] == pytest.approx(whole.entries[other] / 100)
    assert 0 < found.predict(arch, 10) < whole.predict(arch, 1000)


def test_an_inexact_table_stops_the_search(
    table: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path
) -> None:
    path = table(calibration=dataclasses.replace(FIT, mean_error=0.073))
    with pytest.raises(BadInput) as caught:
        opened(path)
    for part in (
        "on 20 networks that it was not fitted to it is off by 7.3% in the mean, above the limit of 5.0%",
        "mnas latency build --space tiny.yaml --classes 10 --runtime torch --threads 1 --batch 1 -o NEW.yaml",
        "--set max_table_error=0.08", "--set objective.latency=measured",
    ):  # fmt: skip
        assert part in str(caught.value)
    assert not (tmp_path / "run" / "latency_table.yaml").exists()
    assert opened(path, max_table_error=0.08)
    (tmp_path / "run" / "latency_table.yaml").unlink()
    with pytest.raises(BadInput, match="measure it again on a phone") as caught:
        opened(table("phone.yaml", calibration=dataclasses.replace(FIT, mean_error=0.5), **PHONE), "tflite",
               max_table_error=0.4)  # fmt: skip
    assert "objective.latency" not in str(caught.value), "nothing can be timed there"


def test_a_table_without_a_stated_error_warns(
    table: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(table(calibration=None))
    assert "states no error: how well it predicts whole networks was not measured" in caplog.text
    caplog.clear()
    (tmp_path / "run" / "latency_table.yaml").unlink()
    opened(table(calibration=dataclasses.replace(FIT, space="v2")))
    assert "its error was found on networks of 'v2', not of 'tiny'" in caplog.text
