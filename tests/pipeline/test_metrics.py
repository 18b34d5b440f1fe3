"""The rows of metrics.json: latencies at the table's speed, budgets kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from timed_runs import Machine

import mnas
from mnas.latency.conditions import Conditions
from mnas.latency.table.anchors import Anchor
from mnas.pipeline.metrics import add_latencies, add_latency
from mnas.training.full import Trained

TORCH = Conditions("torch")
ARCHS = [mnas.zoo.get("mobilenet_v3_small", width, 32) for width in (0.35, 0.5, 0.75, 1.0)]

WHERE = {"device": "a phone", "runtime": "tflite", "threads": 1, "batch": 1}


@pytest.mark.parametrize(("latencies", "kept"), [
    ([(9.0, 0.5, 10.0)], True),
    ([(9.0, 1.5, 10.0)], False),
    ([(9.0, 0.5, 10.0), (4.0, 0.0, 5.0)], True),
    ([(9.0, 0.5, 10.0), (6.0, 0.0, 5.0)], False),
    ([(9.0, 0.5, 10.0), (None, 0.0, 5.0)], None),
    ([(11.0, 0.5, 10.0), (None, 0.0, 5.0)], False),
    ([(9.0, 0.5, None)], None),
])  # fmt: skip
def test_a_row_keeps_every_budget_with_its_spread(
    latencies: list[tuple[float | None, float, float | None]], kept: bool | None
) -> None:
    row: dict[str, Any] = {}
    for ms, spread_ms, budget_ms in latencies:
        add_latency(row, WHERE, ms, spread_ms, budget_ms, "predicted")
    assert row["keeps_budget"] is kept
    assert (row["latency_ms"], len(row["latencies"])) == (latencies[0][0], len(latencies))


@pytest.mark.parametrize(("slowness", "file_ms", "kept"), [(1.3, 19.0, (True, True)), (0.8, 21.0, (True, False))])
def test_a_winner_and_its_file_are_judged_at_the_tables_speed(
    slowness: float, file_ms: float, kept: tuple[bool, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [mnas.build(arch, 10).eval() for arch in ARCHS[:4]]
    usual = Machine()
    ms = [usual.network_ms(network) for network in networks]
    machine = Machine(lambda now: slowness)
    machine.file_ms = file_ms
    machine.install(monkeypatch)
    winner, baseline = Trained("winner", ARCHS[0], networks[0], 0.5), Trained("one", ARCHS[3], networks[3], 0.5)
    anchors = [Anchor(arch, 10, one) for arch, one in zip(ARCHS[:3], ms[:3], strict=True)]
    rows: list[dict[str, Any]] = [{}, {}]
    add_latencies(rows, [winner, baseline], tmp_path, TORCH, seed=0, budget_ms=20.0, anchors=anchors)
    for row, true_ms in zip(rows, (ms[0], ms[3]), strict=True):
        found = row["latencies"][0]
        assert (row["latency_ms"], row["measured_ms"]) == pytest.approx((true_ms, slowness * true_ms))
        assert (found["latency_ms"], found["measured_ms"]) == (row["latency_ms"], row["measured_ms"])
        assert (row["speed_factor"], found["speed_factor"]) == pytest.approx((slowness, slowness))
        assert found["keeps"] is (true_ms < 20)
    of_file = rows[0]["latencies"][0]
    assert (rows[0]["exported_latency_ms"], rows[0]["exported_measured_ms"]) == pytest.approx(
        (file_ms, slowness * file_ms)
    )
    assert (of_file["keeps"], of_file["exported_keeps"]) == kept


def test_without_a_table_there_is_one_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(lambda now: 1.3)
    machine.install(monkeypatch)
    network, rows = mnas.build(ARCHS[0], 10).eval(), list[dict[str, Any]]([{}])
    add_latencies(rows, [Trained("winner", ARCHS[0], network, 0.5)], tmp_path, TORCH, seed=0)
    assert rows[0]["latency_ms"] == pytest.approx(1.3 * machine.network_ms(network))
    assert not {"measured_ms", "speed_factor", "exported_measured_ms"} & (rows[0] | rows[0]["latencies"][0]).keys()


@pytest.mark.parametrize(("runtime", "package", "file"), [
    ("litert", "ai_edge_litert", "model.tflite"), ("executorch", "executorch", "model.pte"),
])  # fmt: skip
def test_a_runtime_with_files_of_its_own_gets_one(runtime: str, package: str, file: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    rows: list[dict[str, Any]] = [{}]
    trained = Trained("winner", ARCHS[0], mnas.build(ARCHS[0], 10), 0.5)
    add_latencies(rows, [trained], tmp_path, Conditions(runtime), seed=0, budget_ms=1000)
    assert (tmp_path / file).stat().st_size > 1000
    assert rows[0]["exported_file"] == file
    assert 0 < rows[0]["exported_latency_ms"] < 1000
    assert rows[0]["latencies"][0]["exported_keeps"]
