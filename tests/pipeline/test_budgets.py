"""Several budgets for one device, and what a search says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_search import QUICK, TINY_SPACE, milliseconds, no_pictures, read

import mnas
from mnas.errors import Infeasible
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline import contenders
from mnas.pipeline.race import Contender
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.cost import cost


def noted(arch: Architecture) -> float:
    """More multiply-adds and larger images are better."""
    return min(0.99, 0.3 + cost(arch, 10).madds / 3e6 + arch.resolution / 1000)


SHORT: dict[str, Any] = {**QUICK, "recipe.epochs": 1, "recipe.images": 100, "references": 1}
SEVERAL: dict[str, Any] = {"latency_ms": [0.9, 0.25, 0.5], "trials": 12, "estimator": noted, "compare_random": True}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, few: mnas.ImageData) -> mnas.Result:
    """A search with three budgets."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    with no_pictures():
        return mnas.search(
            **SEVERAL, space=folder / "tiny.yaml", data=few, latency=milliseconds, run=folder / "run",
            baseline=["mobilenet_v3_small@0.35"], set=SHORT,
        )  # fmt: skip


def test_a_winner_for_each_budget(several: mnas.Result) -> None:
    assert [winner.budget_ms for winner in several.winners] == [0.25, 0.5, 0.9]
    assert several.winner == several.winners[-1]
    for winner in several.winners:
        assert winner.folder == several.folder / "winners" / f"{winner.budget_ms}ms"
        row, baseline = winner.metrics["networks"]
        assert winner.metrics["latency"]["budget_ms"] == row["latencies"][0]["budget_ms"] == winner.budget_ms
        assert winner.latency_ms == milliseconds(winner.architecture) <= (winner.budget_ms or 0)
        assert row["keeps_budget"]
        assert (row["name"], baseline["name"]) == (f"winner-{winner.budget_ms}ms", "mobilenet_v3_small@0.35")
        assert winner.load()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
        card = (winner.folder / "README.md").read_text()
        assert f"{winner.latency_ms:.2f} ms" in card
        assert f"{winner.budget_ms:.2f} ms" in card
        assert "NOT" not in card
    val = [winner.metrics["networks"][0]["val_accuracy"] for winner in several.winners]
    assert val == sorted(val), "what keeps a smaller budget keeps a larger one"
    assert len({winner.metrics["networks"][1]["test_accuracy"] for winner in several.winners}) == 1
    last = several.winners[-1].folder
    for file in ("metrics.json", "weights.safetensors", "README.md", "model.py"):
        assert (several.folder / "winner" / file).read_bytes() == (last / file).read_bytes()
    assert several.metrics == json.loads((several.folder / "winner" / "metrics.json").read_text())
    assert yaml.safe_load((several.folder / "config.yaml").read_text())["config"]["budgets_ms"] == [0.25, 0.5, 0.9]
    assert all(trial.latency_ms <= 0.9 * 1.05 for trial in several.trials if trial.evaluated)


def test_the_front_and_its_knee_are_told(several: mnas.Result) -> None:
    rows = several.metrics["search"]["front"]
    assert [row["trial"] for row in rows] == [trial.number for trial in several.front]
    assert sum(row["knee"] for row in rows) == 1
    knee = next(row for row in rows if row["knee"])
    mark = f"{knee['trial']} (knee) | {knee['accuracy']:.2%} | {knee['latency_ms']:.2f} |"
    assert mark in (several.folder / "winner" / "README.md").read_text()
    log = (several.folder / "run.log").read_text()
    assert f"trial {knee['trial']}, " in log
    assert log.count("ms (knee)") == 1
    assert "0.25/0.5/0.9 ms" in log


def test_the_importance_of_choices_is_told(several: mnas.Result) -> None:
    shares = several.metrics["search"]["importance"]
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert {"resolution", "stage2.depth", "stage2.kernel", "stage3.activation"} <= set(shares)
    first, share = next(iter(shares.items()))
    assert f"(fANOVA): {first} {share:.0%}" in (several.folder / "winner" / "README.md").read_text()
    assert f": {first} {share:.0%}" in (several.folder / "run.log").read_text()


def test_a_random_search_is_told(several: mnas.Result) -> None:
    lines = [json.loads(line) for line in (several.folder / "random_trials.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert all(line["latency_ms"] <= 0.9 * 1.05 for line in lines)
    for winner in several.winners:
        found = winner.metrics["search"]["random"]
        within = [line["accuracy"] for line in lines if line["latency_ms"] <= winner.budget_ms]
        assert found["trials"] == len(found["curve"]) == len(found["search_curve"]) == 12
        assert found["best_accuracy"] == max(within, default=None)
        assert "12 evaluations" in (winner.folder / "README.md").read_text()
    events = read(several.folder / "tb")
    seen = [event.value for event in events.Scalars("random/best_feasible_accuracy")]  # type: ignore[no-untyped-call]
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(several.metrics["search"]["random"]["best_accuracy"])
    assert "12 evaluations" in (several.folder / "run.log").read_text()


@pytest.mark.usefixtures("without_pictures")
def test_a_budget_that_no_whole_network_keeps(
    few: mnas.ImageData, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is slower when the finalists are measured: the other budget gets its winner all the same.

    No reference network takes part.
    """
    given: dict[str, Any] = {
        "latency_ms": [0.9, 0.25], "trials": 4, "space": tiny, "data": few, "latency": milliseconds,
        "run": tmp_path / "run", "estimator": noted, "baseline": ["mobilenet_v3_small@0.35"],
        "set": SHORT,
    }  # fmt: skip
    given["set"] = SHORT | {"references": 0}
    run, measured = Run(tmp_path / "run"), contenders.finalists

    def slower(trials: Any, measure: Any, rank: Any, budget_ms: float, *others: Any) -> list[Contender]:
        return measured(trials, measure, rank, 0.01 if budget_ms == 0.25 else budget_ms, *others)

    with monkeypatch.context() as patch:
        patch.setattr(contenders, "finalists", slower)
        result = mnas.search(**given)
    assert result.missed_ms == (0.25,)
    assert [winner.budget_ms for winner in result.winners] == [0.9]
    assert not run.state().done
    assert not (run.winners / "0.25ms").exists()
    weights = (run.winners / "0.9ms" / "weights.safetensors").read_bytes()
    assert (run.winner / "weights.safetensors").read_bytes() == weights
    result = mnas.search(**given)  # measured again
    assert [winner.budget_ms for winner in result.winners] == [0.25, 0.9]
    assert all(winner.metrics["networks"][0]["keeps_budget"] for winner in result.winners)


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("moment", ["random search", "between winners"])
def test_interrupted_after_the_search(
    several: mnas.Result, few: mnas.ImageData, moment: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Architecture] = []
    calls: list[Any] = []
    stop = {"random search": "trial", "between winners": "text"}[moment]
    said = getattr(TensorBoard, stop)

    def interrupted(board: TensorBoard, *args: Any) -> None:
        if stop != "trial" or "random/best_feasible_accuracy" in args[1]:
            calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        said(board, *args)

    given = {
        **SEVERAL, "space": tiny, "data": few, "latency": milliseconds, "run": tmp_path / "run",
        "estimator": lambda arch: asked.append(arch) or noted(arch),  # type: ignore[func-returns-value]
        "baseline": ["mobilenet_v3_small@0.35"], "set": SHORT,
    }  # fmt: skip
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TensorBoard, stop, interrupted)
        mnas.search(**given)
    races = tmp_path / "run" / "races.jsonl"
    chosen = races.read_bytes() if races.exists() else b""
    assert chosen.count(b"\n") == (0 if moment == "random search" else 3)
    result = mnas.search(**given)
    assert races.read_bytes().startswith(chosen)
    assert len(asked) == 24, "no estimate is spent twice"
    for winner, other in zip(result.winners, several.winners, strict=True):
        assert winner.architecture == other.architecture
        weights = [(one.folder / "weights.safetensors").read_bytes() for one in (winner, other)]
        assert weights[0] == weights[1]
        assert winner.metrics["search"]["random"] == other.metrics["search"]["random"]


def test_one_unreachable_budget_is_refused_before_training(
    search: Callable[..., mnas.Result], tmp_path: Path
) -> None:
    asked: list[Architecture] = []
    with pytest.raises(Infeasible, match=r"--latency-ms 0\.01: .* 0\.\d+ ms"):
        search(latency_ms=[0.6, 0.01], estimator=lambda arch: asked.append(arch) or 0.5)  # type: ignore[func-returns-value]
    assert not asked
    assert not (tmp_path / "run").exists()


def test_one_network_may_win_two_budgets(search: Callable[..., mnas.Result]) -> None:
    result = search(latency_ms=[0.6, 0.6001], trials=3, data=mnas.load_data("digits"))
    first, second = result.winners
    assert first.architecture == second.architecture
    assert first.test_accuracy == second.test_accuracy
    weights = {winner.folder / "weights.safetensors" for winner in (first, second)}
    assert len(weights) == 2
    assert len({path.read_bytes() for path in weights}) == 1
    assert result.metrics["search"]["importance"] == {}, "of three candidates nothing is said"
