"""Which candidate is handed over, and what is read back from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import mnas
from mnas.config import Recipe
from mnas.data.sources import ImageData, load_data
from mnas.data.splits import limited
from mnas.export.folder import load_model
from mnas.latency.timing.rounds import Measurement
from mnas.nn.pretrained import load_weights
from mnas.pipeline.finalists import finalists, most_accurate
from mnas.pipeline.metrics import add_latencies, add_latency
from mnas.space.architecture import Architecture
from mnas.study.constraints import NO_CONSTRAINTS, Constraint, Constraints
from mnas.study.trial import Trial
from mnas.training.trainer import Trained, train_fully

ARCHS = [mnas.zoo.get("mobilenet_v3_small", width, 32) for width in (0.35, 0.5, 0.75, 1.0, 1.25, 1.5)]


def trials(accuracies: Sequence[float], latencies: Sequence[float]) -> list[Trial]:
    return [
        Trial(i, "complete", arch, ms, accuracy)
        for i, (arch, accuracy, ms) in enumerate(zip(ARCHS, accuracies, latencies, strict=False))
    ]


class Device:
    """Measures what it was told, and remembers what it was asked."""

    def __init__(self, measured: Sequence[float], spread: float = 0.0):
        self.ms = dict(zip(ARCHS, measured, strict=False))
        self.spread, self.asked = spread, list[list[Architecture]]()

    def __call__(self, archs: Sequence[Architecture]) -> list[Measurement]:
        self.asked.append(list(archs))
        return [Measurement(self.ms[arch], self.spread, 30) for arch in archs]


def test_the_most_accurate_that_keeps_the_budget_when_measured() -> None:
    found = trials([0.5, 0.7, 0.8, 0.9], [5, 7, 9, 9.5])
    device = Device([5, 7, 9, 11])  # the table was too kind to the last one
    assert finalists(found, device, 10, at_once=5) == [found[2], found[1], found[0]], "best first"


def test_equal_accuracies_are_told_apart_by_latency() -> None:
    found = trials([0.7, 0.7, 0.7], [7, 5, 6])
    assert finalists(found, Device([7, 5, 6]), 10, at_once=5) == [found[1], found[2], found[0]]


def test_a_spread_across_the_budget_does_not_keep_it() -> None:
    found = trials([0.5, 0.9], [5, 9.9])
    assert finalists(found, Device([5, 9.9], spread=0.2), 10, at_once=5) == [found[0]]


def test_a_table_that_is_too_strict_loses_no_candidate() -> None:
    found = trials([0.5, 0.9], [5, 10.4])
    assert finalists(found, Device([5, 9.0]), 10, at_once=5)[0] is found[1]


def test_no_more_is_measured_than_needed() -> None:
    found = trials([0.5, 0.6, 0.7, 0.8, 0.9, 0.95], [5, 5, 5, 5, 5, 5])
    device = Device([5, 5, 5, 5, 11, 11])
    assert finalists(found, device, 10, at_once=2) == [found[3], found[2]]
    assert device.asked == [[ARCHS[5], ARCHS[4]], [ARCHS[3], ARCHS[2]]]


def test_only_finished_trials_count() -> None:
    found = [*trials([0.5], [5]), Trial(9, "pruned", ARCHS[5], 5, 0.99), Trial(10, "over_budget", ARCHS[4], 50)]
    assert finalists(found, Device([5] * 6), 10, at_once=5) == found[:1]


def test_without_a_budget_the_knee_is_the_only_finalist() -> None:
    found = trials([0.3, 0.8, 0.82], [1, 2, 9])
    device = Device([])
    assert finalists(found, device, None, at_once=5) == [found[1]]
    assert not device.asked


def test_nothing_keeps_the_budget() -> None:
    with pytest.raises(mnas.Infeasible, match=r"no candidate keeps 10 ms .*the fastest of them takes 11\.00 ms"):
        finalists(trials([0.5, 0.6], [9, 9]), Device([12, 11]), 10, at_once=5)
    with pytest.raises(mnas.Infeasible, match="no candidate was finished"):
        finalists([], Device([]), 10, at_once=5)


def test_what_is_known_to_be_worse_is_not_handed_over() -> None:
    space = mnas.load_space("v3_small").with_resolutions((32,))

    def trained(index: int, val: float) -> Trained:
        return Trained(str(index), ARCHS[index], mnas.build(ARCHS[index], 10), val)

    found, small, large, outside = trained(2, 0.8), trained(3, 0.9), trained(4, 0.95), trained(0, 0.99)
    device = Device([1, 2, 5, 7, 12, 15])
    assert ARCHS[3] in space
    assert ARCHS[4] not in space
    assert most_accurate([found, small, large, outside], space, device, 10, NO_CONSTRAINTS) is small
    assert most_accurate([found, small], space, device, 6, NO_CONSTRAINTS) is found, "over the budget"
    assert most_accurate([small, found], space, device, 10, NO_CONSTRAINTS) is small
    tight = Constraints((Constraint("--max-params", mnas.cost(ARCHS[3], 10).params - 1, lambda one: one.params),), 10)
    assert most_accurate([found, small], space, device, 10, tight) is found, "more parameters than allowed"


# --- full training

SHORT = Recipe(epochs=1, batch_size=16, dropout=0.0)


@pytest.fixture(scope="module")
def few() -> ImageData:
    digits = load_data("digits")
    return replace(digits, train=limited(digits.train, 64, 0), val=limited(digits.val, 50, 0))


def train(few: ImageData, folder: Path, **given: Any) -> Trained:
    return train_fully(
        "one", ARCHS[0], few, SHORT, size=32, device=torch.device("cpu"), seed=0, checkpoints=folder, **given
    )


def test_training_begins_with_the_inherited_weights(few: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(7)
    inherited, teacher = mnas.build(ARCHS[0], 10), mnas.build(ARCHS[1], 10).eval()
    before = {name: tensor.clone() for name, tensor in inherited.state_dict().items()}
    scratch, started = train(few, tmp_path), train(few, tmp_path, start=lambda: (inherited, None))
    taught = train(few, tmp_path / "taught", start=lambda: (inherited, teacher))
    assert [one.weights for one in (scratch, started, taught)] == ["scratch", "inherited", "inherited"]
    assert started.epochs == 1

    def apart(one: Trained, weights: dict[str, torch.Tensor]) -> float:
        return float((one.network.state_dict()["stem.conv.weight"] - weights["stem.conv.weight"]).abs().mean())

    assert 0 < apart(started, before) < apart(scratch, before) / 5, "a few steps from where it began"
    assert apart(taught, started.network.state_dict()) > 0, "the teacher is learned from"
    assert all(torch.equal(before[name], tensor) for name, tensor in inherited.state_dict().items())


def test_a_finished_training_is_found_again_by_what_it_began_from(few: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(7)
    inherited = mnas.build(ARCHS[0], 10)
    first = {"inherited": train(few, tmp_path, start=lambda: (inherited, None)), "scratch": train(few, tmp_path)}
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(written) == 2
    again = {"inherited": train(few, tmp_path, start=lambda: pytest.fail("asked")), "scratch": train(few, tmp_path)}
    for weights, one in first.items():
        assert again[weights].weights == weights
        assert again[weights].val_accuracy == pytest.approx(one.val_accuracy)
        state = one.network.state_dict()
        assert all(torch.equal(state[name], t) for name, t in again[weights].network.state_dict().items())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


# --- what is written


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


@pytest.mark.parametrize(("runtime", "package", "file"), [
    ("litert", "ai_edge_litert", "model.tflite"), ("executorch", "executorch", "model.pte"),
])  # fmt: skip
def test_a_runtime_with_files_of_its_own_gets_one(runtime: str, package: str, file: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    rows: list[dict[str, Any]] = [{}]
    trained = Trained("winner", ARCHS[0], mnas.build(ARCHS[0], 10), 0.5)
    add_latencies(rows, [trained], tmp_path, runtime=runtime, threads=1, batch=1, seed=0, budget_ms=1000)
    assert (tmp_path / file).stat().st_size > 1000
    assert rows[0]["exported_file"] == file
    assert 0 < rows[0]["exported_latency_ms"] < 1000
    assert rows[0]["latencies"][0]["exported_keeps"]


def test_folders_that_are_not_right(tmp_path: Path) -> None:
    with pytest.raises(mnas.BadInput, match=r"architecture\.yaml: missing"):
        load_model(tmp_path)
    (tmp_path / "architecture.yaml").write_text(ARCHS[0].to_yaml())
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"not weights")
    with pytest.raises(mnas.BadInput, match="cannot be read as safetensors"):
        load_model(tmp_path)
    safetensors.torch.save_file(mnas.build(ARCHS[1], 10).state_dict(), weights)
    with pytest.raises(mnas.BadInput, match="does not fit this architecture"):
        load_weights(mnas.build(ARCHS[0], 10), weights)
    safetensors.torch.save_file(mnas.build(ARCHS[0], 10).state_dict(), weights)
    digest = tmp_path / "weights.safetensors.sha256"
    digest.write_text("0" * 64 + "  weights.safetensors\n")
    with pytest.raises(mnas.BadInput, match="the file was changed or damaged"):
        load_model(tmp_path)
    digest.unlink()
    network, arch = load_model(tmp_path, classes=10)
    assert arch == ARCHS[0]
    assert not network.training
