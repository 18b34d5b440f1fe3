"""Whole races on real images: shared, cut off, diverging, over the budget."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_search import QUICK, TINY_SPACE, guess, milliseconds, no_pictures

import mnas
from mnas.latency.model import LatencyModel
from mnas.latency.timing.rounds import Measurement
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline import planning, races, running_race
from mnas.pipeline.race import Contender
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.training import full
from mnas.training.loop import Training
from mnas.training.speed import Pace
from mnas.training.trainer import Trainer

BUDGET_MS = 1.2
SMALL: dict[str, Any] = {
    "trials": 4, "estimator": guess, "latency": milliseconds, "latency_ms": BUDGET_MS,
    "set": {**QUICK, "recipe.epochs": 4, "recipe.images": 70, "recipe.batch_size": 16, "recipe.lr": 1.0,
            "recipe.dropout": 0.0, "references": 2, "precision": "float32"},
}  # fmt: skip
STEPS_AN_EPOCH = 4
Step = tuple[str, int, int]
"""A training's architecture, its seed, and the number of the step."""


@pytest.fixture(autouse=True, scope="module")
def time_for_ties() -> Iterator[None]:
    """Ties train on, and the speed is not measured: otherwise the time that is measured would decide who does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running_race.RunningRace, "affords", lambda *_: True)
        patch.setattr(running_race, "LEAST_STEPS", 0)
        patch.setattr(planning, "fastest", lambda *_, **__: Pace(1, "float32", 1000.0))
        yield


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Step]]:
    """The steps of full trainings as they are done; `before` is called with each first."""
    made, stepped = Trainer.training, Training._train_step
    hooks: list[Callable[[Step], Any]] = []
    steps: list[Step] = []

    def training(self: Trainer, network: Any, arch: Architecture, *args: Any) -> Training:
        training = made(self, network, arch, *args)
        training.of = (arch.id, self.seed)  # type: ignore[attr-defined]
        return training

    def step(self: Training, raw: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        one = (*getattr(self, "of", ("", 0)), self.step)
        factor = [hook(one) for hook in hooks]
        loss = stepped(self, raw, labels)
        if one[0]:
            steps.append(one)
        return loss * float("nan") if "diverge" in factor else loss

    monkeypatch.setattr(Trainer, "training", training)
    monkeypatch.setattr(Training, "_train_step", step)

    def spy(before: Callable[[Step], Any] | None = None) -> list[Step]:
        hooks[:] = [] if before is None else [before]
        steps.clear()
        return steps

    return spy


@pytest.fixture(scope="module")
def unbroken(few: mnas.ImageData, time_for_ties: None, tmp_path_factory: pytest.TempPathFactory) -> mnas.Result:
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    with no_pictures():
        return mnas.search(**SMALL, space=folder / "tiny.yaml", data=few, run=folder / "run")


@pytest.fixture
def given(few: mnas.ImageData, tiny: Path, tmp_path: Path, without_pictures: None) -> dict[str, Any]:
    return {**SMALL, "space": tiny, "data": few, "run": tmp_path / "run"}


def raced(result: mnas.Result) -> dict[str, Any]:
    facts: dict[str, Any] = result.metrics["search"]["race"]
    return facts


def legs(facts: dict[str, Any]) -> dict[str, int]:
    """The epochs that each contender was trained for."""
    trained = dict.fromkeys((one["name"] for one in facts["contenders"]), 0)
    for rung in facts["rungs"]:
        trained |= rung["epochs"]
    return trained | dict.fromkeys(facts["final"], SMALL["set"]["recipe.epochs"])


def expect_same(result: mnas.Result, other: mnas.Result) -> None:
    """The same race, the same winner and baseline, the same weights, byte for byte."""
    assert raced(result) == raced(other)
    assert result.winner.architecture == other.winner.architecture
    assert result.winner.test_accuracy == other.winner.test_accuracy
    for file in ("weights.safetensors", "architecture.yaml"):
        assert (result.winner.folder / file).read_bytes() == (other.winner.folder / file).read_bytes(), file
    rows = [[(row["name"], row["test_accuracy"], row["epochs"]) for row in one.metrics["networks"]]
            for one in (result, other)]  # fmt: skip
    assert rows[0] == rows[1]


def test_a_race_as_metrics_tell_it(unbroken: mnas.Result) -> None:
    facts, search = raced(unbroken), unbroken.metrics["search"]
    names = [one["name"] for one in facts["contenders"]]
    assert [one["kind"] for one in facts["contenders"]] == ["found"] * 2 + ["reference"] * 2
    assert len(set(names)) == 4
    assert [(rung["part"], set(rung["epochs"].values())) for rung in facts["rungs"]] == [(1 / 4, {1}), (1 / 2, {2})]
    alive = set(names)
    for rung in facts["rungs"]:
        assert set(rung["accuracies"]) == alive
        alive = set(rung["survivors"])
    assert set(facts["final"]) == alive
    best = max(facts["final"].values())
    assert facts["final"][search["winner"]] == best
    winner, baseline = unbroken.metrics["networks"]
    assert (winner["val_accuracy"], winner["epochs"]) == (best, 4)
    latencies = {one["name"]: one["latency_ms"] for one in facts["contenders"]}
    assert winner["latency_ms"] == latencies[search["winner"]] <= BUDGET_MS
    references = [one["name"] for one in facts["contenders"] if one["kind"] == "reference"]
    assert baseline["name"] in references, "the best of the references is what the winner is compared with"
    assert baseline["val_accuracy"] == max(facts["final"].get(name, 0) for name in references)
    chosen = [trial for trial in unbroken.trials if trial.number == search["chosen_trial"]]
    if search["winner"] in references:
        assert not chosen and search["chosen_estimate"] is None
    else:
        assert chosen[0].architecture == unbroken.winner.architecture
        assert search["chosen_estimate"] == chosen[0].accuracy


def test_cut_off_again_and_again_no_step_is_done_twice(
    unbroken: mnas.Result, given: dict[str, Any], spied: Callable[..., list[Step]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "SAVE_S", 0.0)
    done: list[Step] = []

    def dies(step: Step) -> None:
        if len(steps) == 10:
            raise KeyboardInterrupt

    for _ in range(20):
        steps = spied(dies)
        try:
            result = mnas.search(**given)
            break
        except KeyboardInterrupt:
            done += steps
    done += steps
    expect_same(result, unbroken)
    assert len(set(done)) == len(done) == STEPS_AN_EPOCH * sum(legs(raced(result)).values())
    events = [json.loads(line) for line in (given["run"] / "races.jsonl").read_text().splitlines()]
    assert [event.get("part") for event in events] == [None, 1 / 4, 1 / 2], "each rung is written once"


@pytest.mark.parametrize(("method", "calls"), [("training", 6), ("trial", 2), ("text", 1)])
def test_cut_off_at_any_moment(
    method: str, calls: int, unbroken: mnas.Result, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a leg, after a rung is written, while the winner is."""
    said, left = getattr(TensorBoard, method), [calls]

    def interrupted(board: TensorBoard, *args: Any) -> None:
        left[0] -= method != "trial" or any(name.startswith("race") for name in args[1])
        if not left[0]:
            raise KeyboardInterrupt
        said(board, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TensorBoard, method, interrupted)
        mnas.search(**given)
    before = (given["run"] / "races.jsonl").read_bytes()
    assert not Run(given["run"]).state().done
    result = mnas.search(**given)
    expect_same(result, unbroken)
    assert (given["run"] / "races.jsonl").read_bytes().startswith(before)
    assert Run(given["run"]).state().done


# --- within a budget of time


def test_the_last_one_gets_the_time_that_is_left(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed once it is alone, and resumed."""
    settings = SMALL["set"] | {"recipe.max_epochs": 100_000}
    short = given | {"budget": 32, "set": settings}
    said = TensorBoard.trial

    def events() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (given["run"] / "races.jsonl").read_text().splitlines()]

    def interrupted(board: TensorBoard, step: int, figures: dict[str, float]) -> None:
        said(board, step, figures)
        if any(name.startswith("race") for name in figures) and len(events()[-1]["survivors"]) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TensorBoard, "trial", interrupted)
        mnas.search(**short)
    entered, *rungs = events()
    planned = {one["name"]: one["epochs"] for one in entered["contenders"]}
    assert len(set(planned.values())) > 1, "each as its speed allows"
    *earlier, last = rungs
    for rung in earlier:
        assert rung["survivors"].items() <= planned.items()
    ((name, epochs),) = last["survivors"].items()
    assert epochs >= 0.5 * planned[name]
    assert epochs != planned[name], "what is left never is what was planned"
    result = mnas.search(**short)
    assert result.metrics["search"]["winner"] == name
    assert result.metrics["networks"][0]["epochs"] == epochs
    assert set(raced(result)["final"]) == {name}, "no reference is trained beside it"
    run = Run(given["run"])
    recipe = run.state().recipe
    assert recipe is not None and (recipe.epochs, recipe.max_epochs) == (epochs, None)


def test_the_reference_that_came_furthest_is_named() -> None:
    arch, latency = mnas.zoo.get("mobilenet_v3_small", 0.35, 32), Measurement(1.0, 0.1, 30)
    entered = tuple(Contender(name, arch, "found" if name == "f" else "reference", latency) for name in "fabc")
    rungs = ({"accuracies": {"f": 0.9, "a": 0.5, "b": 0.4, "c": 0.8}}, {"accuracies": {"f": 0.9, "a": 0.5, "b": 0.6}},
             {"accuracies": {"f": 0.9, "a": None}})  # fmt: skip
    assert [races.Outcome(1.0, (), rungs[:count], entered).furthest_reference for count in range(4)] == [
        None, "c", "b", "b"
    ]  # fmt: skip


# --- trainings that diverge


def id_of(result: mnas.Result, name: str) -> str:
    """The architecture's id of a contender."""
    record = json.loads((result.folder / "races.jsonl").read_text().splitlines()[0])
    one = next(one for one in record["contenders"] if one["name"] == name)
    return Architecture.from_dict(one["architecture"], name).id


def diverges(*ids: str, epoch: int = 1) -> Callable[[Step], str]:
    return lambda step: "diverge" if step[0] in ids and step[2] >= (epoch - 1) * STEPS_AN_EPOCH else ""


def states(run: Path) -> dict[str, set[str]]:
    rows: dict[str, set[str]] = {}
    for row in csv.DictReader((run / "leaderboard.csv").read_text().splitlines()):
        rows.setdefault(row["name"], set()).add(row["state"])
    return rows


@pytest.mark.parametrize("epoch", [1, 4])
def test_a_contender_that_diverges_is_dropped(
    epoch: int, unbroken: mnas.Result, given: dict[str, Any], spied: Callable[..., list[Step]]
) -> None:
    """The winner of the race without that, in each leg."""
    name = unbroken.metrics["search"]["winner"]
    spied(diverges(id_of(unbroken, name), epoch=epoch))
    result = mnas.search(**given)
    facts, search = raced(result), result.metrics["search"]
    assert search["winner"] != name
    assert name not in facts["final"]
    for rung in facts["rungs"]:
        reached = 4 * rung["part"]
        if reached == epoch:
            assert rung["accuracies"][name] is None
            assert name not in rung["survivors"]
        else:
            assert (name in rung["accuracies"]) == (reached < epoch)
    assert search["winner"] in facts["final"]
    assert result.metrics["networks"][0]["role"] == "winner"
    assert "diverged" in states(given["run"])[name]
    assert Run(given["run"]).state().done


def test_references_that_diverge_leave_the_winner_alone(
    unbroken: mnas.Result, given: dict[str, Any], spied: Callable[..., list[Step]]
) -> None:
    """At the very end, so that none of them can be compared with."""
    references = [one["name"] for one in raced(unbroken)["contenders"] if one["kind"] == "reference"]
    spied(diverges(*(id_of(unbroken, name) for name in references), epoch=4))
    result = mnas.search(**given)
    assert result.metrics["search"]["chosen_trial"] is not None
    assert [row["role"] for row in result.metrics["networks"]] == ["winner"]
    assert not set(raced(result)["final"]) & set(references)
    card = (result.winner.folder / "README.md").read_text()
    assert f"{result.winner.test_accuracy:.2%}" in card


def test_a_stated_baseline_that_diverges_is_left_out(
    given: dict[str, Any], spied: Callable[..., list[Step]]
) -> None:
    spied(diverges(mnas.zoo.get("mobilenet_v2", 0.35, 48).id))
    result = mnas.search(**given | {"baseline": ["mobilenet_v2@0.35", "mobilenet_v3_small@0.35"]})
    assert [row["name"] for row in result.metrics["networks"]] == ["winner", "mobilenet_v3_small@0.35"]
    assert Run(given["run"]).state().done


def test_all_diverge(given: dict[str, Any], spied: Callable[..., list[Step]]) -> None:
    spied(lambda step: "diverge")
    with pytest.raises(mnas.MnasError, match="diverged") as told:
        mnas.search(**given)
    assert "trial" in str(told.value)
    assert not (given["run"] / "winner" / "metrics.json").exists()
    spied()
    assert mnas.search(**given).winner.latency_ms <= BUDGET_MS, "nothing of it is kept"


# --- budgets


def test_all_are_over_the_budget(
    unbroken: mnas.Result, given: dict[str, Any], spied: Callable[..., list[Step]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole networks take fifty times what was predicted: nothing is trained, and a quiet machine goes on."""
    measure = LatencyModel.measure

    def slower(self: LatencyModel, archs: Sequence[Architecture]) -> list[Measurement]:
        return [Measurement(50 * one.median_ms, 0.0, 30) for one in measure(self, archs)]

    steps = spied()
    with monkeypatch.context() as patch, pytest.raises(mnas.Infeasible) as told:
        patch.setattr(LatencyModel, "measure", slower)
        mnas.search(**given)
    finished = [trial.latency_ms for trial in unbroken.trials if trial.state == "complete"]
    assert told.value.exit_code == 3
    assert f"{50 * min(finished):.2f} ms" in str(told.value), "the fastest is named"
    assert not steps
    expect_same(mnas.search(**given), unbroken)
