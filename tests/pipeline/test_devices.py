"""A search within limits, for a device that is not here, for several at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_tables import FIT, made_up, refitted
from small_search import QUICK, guess

import mnas
from mnas.errors import BadInput, Infeasible
from mnas.latency.table.table import LatencyTable
from mnas.space.architecture import Architecture
from mnas.space.cost import cost, layer_madds


def test_the_winner_keeps_every_limit(search: Callable[..., mnas.Result], tiny: Path) -> None:
    space = mnas.load_space(tiny)
    middle = sorted(space.enumerate(), key=lambda arch: cost(arch, 10).params)[200]
    params, mb = cost(middle, 10).params, cost(middle, 10).activation_bytes / 1e6
    asked: list[Architecture] = []
    result = search(
        latency_ms=5, max_params=params, max_madds="5M", max_memory_mb=mb, trials=8,
        estimator=lambda arch: asked.append(arch) or guess(arch),  # type: ignore[func-returns-value]
    )  # fmt: skip
    for arch in [*asked, result.winner.architecture]:
        counted = cost(arch, 10)
        assert counted.params <= params and counted.madds <= 5e6 and counted.activation_bytes / 1e6 <= mb
    assert result.metrics["limits"] == {"max_params": params, "max_madds": 5_000_000, "max_memory_mb": mb}
    assert f" {params:,}." in (result.folder / "winner" / "README.md").read_text()


@pytest.mark.parametrize("limit", ["max_params", "max_madds", "max_memory_mb"])
def test_a_limit_below_every_network_is_refused_before_training(
    search: Callable[..., mnas.Result], limit: str, tmp_path: Path
) -> None:
    least = 0.001 if limit == "max_memory_mb" else 1
    with pytest.raises(Infeasible, match=f"--{limit.replace('_', '-')} .* [0-9.,]+$"):
        search(**{limit: least}, estimator="train")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def phone(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """The imported table of a device that is elsewhere, for 1000 classes."""

    def write(device: str, ms_of: Callable[[mnas.Layer], float], **changes: Any) -> Path:
        layers = mnas.load_space(tiny).layers(1000)
        about = {"device": device, "runtime": "tflite", "threads": 4, "origin": "imported"}
        path = tmp_path / f"{device}.yaml"
        made_up(**({"entries": {layer: ms_of(layer) for layer in layers}} | about | changes)).save(path)
        return path

    return write


def test_a_phone_that_is_not_here(search: Callable[..., mnas.Result], phone: Callable[..., Path]) -> None:
    table = phone("a phone", lambda layer: 0.1 + layer_madds(layer) / 1e6)
    result = search(latency=None, latency_table=table, latency_ms=2, trials=5)
    winner, baseline = result.metrics["networks"]
    assert winner["latencies"] == [{
        "device": "a phone", "runtime": "tflite", "threads": 4, "batch": 1, "budget_ms": 2.0, "how": "predicted",
        "latency_ms": pytest.approx(LatencyTable.load(result.folder / "latency_table.yaml").predict(
            result.winner.architecture, 10
        )), "spread_ms": 0.0, "keeps": True,
    }]  # fmt: skip
    assert result.winner.latency_ms <= 2
    assert "exported_latency_ms" not in winner
    assert (baseline["latency_ms"], baseline["latencies"][0]["how"]) == (None, "not in the table")
    assert baseline["test_accuracy"] > 0
    card = (result.folder / "winner" / "README.md").read_text()
    for figure in ("a phone, tflite, 4 threads, batch 1", "predicted", "2.00 ms", "not in the table"):
        assert figure in card
    log = (result.folder / "run.log").read_text()
    assert "a phone" in log
    assert "10 classes" in log
    assert "not calibrated" in log


def test_the_winner_keeps_the_budgets_of_two_devices(
    search: Callable[..., mnas.Result], phone: Callable[..., Path], tiny: Path
) -> None:
    wide = phone("wide", lambda layer: 0.01 + layer_madds(layer) / 1e6)  # where multiply-adds count
    slow = phone("slow", lambda layer: 1.0)  # where each layer costs the same
    result = search(latency=None, latency_table=[wide, slow], latency_ms=[1.0, 8.5], trials=8)
    kept = {one["device"]: one for one in result.metrics["networks"][0]["latencies"]}
    assert kept["wide"]["latency_ms"] <= 1.0
    assert kept["slow"]["latency_ms"] <= 8.5
    assert all(one["keeps"] for one in kept.values())
    assert result.metrics["networks"][0]["keeps_budget"]
    assert {"latency_table.yaml", "latency_table_2.yaml"} <= {path.name for path in result.folder.iterdir()}
    for trial in result.trials:
        ratio = max(
            LatencyTable.load(result.folder / name).predict(trial.architecture, 10) / budget
            for name, budget in (("latency_table.yaml", 1.0), ("latency_table_2.yaml", 8.5))
        )
        assert trial.latency_ms == pytest.approx(1.0 * ratio)
        assert trial.evaluated <= (ratio <= 1.05)
    with pytest.raises(Infeasible, match=r"--latency-ms 2: .*slow.*tflite.* 7\.01 ms"):
        search(latency=None, latency_table=[wide, slow], latency_ms=[1.0, 2.0], run=result.folder.parent / "other")
    with pytest.raises(BadInput, match="2 latency budgets"):
        search(latency_table=[wide, slow], latency_ms=[1.0, 2.0])


def test_this_machine_and_a_phone(search: Callable[..., mnas.Result], phone: Callable[..., Path]) -> None:
    table = phone("a phone", lambda layer: 0.1 + layer_madds(layer) / 1e6)
    result = search(
        latency=None, runtime=["torch", None], latency_table=[None, table], latency_ms=[50, 2.0], trials=3,
    )  # fmt: skip
    here, there = result.metrics["networks"][0]["latencies"]
    assert (here["how"], there["how"]) == ("measured", "predicted")
    assert 0 < here["latency_ms"] <= 50
    assert there["latency_ms"] <= 2
    assert here["exported_file"] == "model.py"
    assert result.metrics["networks"][1]["latencies"][0]["latency_ms"] > 0
    assert result.metrics["networks"][1]["keeps_budget"] is None, "the phone's table does not tell"


def test_a_foreign_table(search: Callable[..., mnas.Result], phone: Callable[..., Path], tmp_path: Path) -> None:
    fit = refitted(FIT, offset_ms=0.5, mean_error=0.04)
    layers = mnas.load_space(tmp_path / "tiny.yaml").layers(10)
    entries = {layer: 0.1 + layer_madds(layer) / 1e6 for layer in layers}
    table = phone("another machine", lambda layer: 1.0, origin="built", runtime="torch", entries=entries, calibration=fit)  # noqa: E501
    asked: dict[str, Any] = {"latency": None, "latency_table": table, "latency_ms": 3, "trials": 3}
    with pytest.raises(BadInput, match=r"another machine.* --allow-foreign-table"):
        search(**asked, threads=4)
    assert not (tmp_path / "run").exists()
    with pytest.raises(BadInput, match=r"4.0%.* 1.0%"):
        search(**asked, threads=4, allow_foreign_table=True, set=QUICK | {"max_table_error": 0.01})
    result = search(**asked, threads=4, allow_foreign_table=True)
    (latency,) = result.metrics["networks"][0]["latencies"]
    assert latency["how"] == "predicted"
    assert latency["spread_ms"] == pytest.approx(0.04 * latency["latency_ms"])
    assert latency["latency_ms"] + latency["spread_ms"] <= 3
