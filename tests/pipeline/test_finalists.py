"""Which candidate is handed over."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trainers import trainer

import mnas
from mnas.config import Recipe, RunConfig, Target, load_objective
from mnas.data.sources import ImageData, load_data
from mnas.data.splits import limited
from mnas.estimators.weight_sharing import WeightSharing
from mnas.latency.conditions import Conditions
from mnas.latency.model import DeviceLatency, LatencyModel
from mnas.latency.timing.rounds import Measurement
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline.context import Context
from mnas.pipeline.finalists import (
    Finalist,
    Ranking,
    best_trained,
    choose,
    fine_tuned_again,
    measured_finalists,
    ranking,
)
from mnas.pipeline.metrics import add_latencies, add_latency
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.constraints import NO_CONSTRAINTS, Constraint, Constraints
from mnas.study.trial import Evaluation, Trial
from mnas.training.distributed import SINGLE
from mnas.training.loop import Diverged
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


HARD, SOFT = (ranking(load_objective(name), 10) for name in ("mnasnet_hard", "mnasnet"))


def ranked(trials: Sequence[Trial], device: Device, rank: Ranking = HARD, at_once: int = 5) -> list[Trial]:
    return [finalist.trial for finalist in measured_finalists(trials, device, rank, 10, at_once)]


def test_the_most_accurate_that_keeps_the_budget_when_measured() -> None:
    candidates = trials([0.5, 0.7, 0.8, 0.9], [5, 7, 9, 9.5])
    device = Device([5, 7, 9, 11])  # the table underestimates the last one
    assert ranked(candidates, device) == [candidates[2], candidates[1], candidates[0]], "best first"


def test_equal_accuracies_are_ranked_by_latency() -> None:
    candidates = trials([0.7, 0.7, 0.7], [7, 5, 6])
    assert ranked(candidates, Device([7, 5, 6])) == [candidates[1], candidates[2], candidates[0]]


def test_the_reward_that_was_asked_for_decides() -> None:
    """MnasNet's soft reward: half the latency is worth 5% of the accuracy."""
    candidates = trials([0.80, 0.82], [5, 9.9])
    assert ranked(candidates, Device([5, 9.9]), HARD)[0] is candidates[1]
    assert ranked(candidates, Device([5, 9.9]), SOFT)[0] is candidates[0]
    candidates = trials([0.80, 0.85], [5, 9.9])
    assert ranked(candidates, Device([5, 9.9]), SOFT)[0] is candidates[1]


def test_a_spread_across_the_budget_does_not_keep_it() -> None:
    candidates = trials([0.5, 0.9], [5, 9.9])
    assert ranked(candidates, Device([5, 9.9], spread=0.2)) == [candidates[0]]


def test_a_table_that_overestimates_loses_no_candidate() -> None:
    candidates = trials([0.5, 0.9], [5, 10.4])
    assert ranked(candidates, Device([5, 9.0]))[0] is candidates[1]


def test_no_more_is_measured_than_needed() -> None:
    candidates = trials([0.5, 0.6, 0.7, 0.8, 0.9, 0.95], [5, 5, 5, 5, 5, 5])
    device = Device([5, 5, 5, 5, 11, 11])
    assert ranked(candidates, device, at_once=2) == [candidates[3], candidates[2]]
    assert device.asked == [[ARCHS[5], ARCHS[4]], [ARCHS[3], ARCHS[2]]]


def test_nothing_keeps_the_budget() -> None:
    with pytest.raises(mnas.Infeasible, match=r"10 ms .* 11\.00 ms"):
        ranked(trials([0.5, 0.6], [9, 9]), Device([12, 11]))


# --- the choice of a run


@pytest.fixture
def context(few: ImageData, tmp_path: Path) -> Callable[..., Context]:
    """The context of a run whose only stand-in is the device."""

    def make(
        device: Device, objective: str = "mnasnet_hard", constraints: Constraints = NO_CONSTRAINTS, **given: Any
    ) -> Context:
        space = mnas.load_space("v3_small").with_resolutions((32,))
        budget_ms = given.pop("latency_ms", 10.0)
        config = RunConfig(
            space=space.name, targets=(Target(latency_ms=budget_ms),), objective=load_objective(objective), **given
        )
        run = Run(tmp_path / "run")
        run.folder.mkdir(exist_ok=True)
        source = DeviceLatency("here", Conditions("torch"), budget_ms, lambda arch: 0.0, device)
        board = TensorBoard(run.tensorboard)
        return Context(run, config, space, trainer(few), SINGLE, board, LatencyModel((source,)), constraints)

    return make


def test_only_finished_trials_count(context: Callable[..., Context]) -> None:
    candidates = [*trials([0.5], [5]), Trial(9, "pruned", ARCHS[5], 5, 0.99), Trial(10, "over_budget", ARCHS[4], 50)]
    assert choose(context(Device([5] * 6)), candidates, None, None) == candidates[:1]
    with pytest.raises(mnas.Infeasible, match="--trials"):
        choose(context(Device([5] * 6), seed=1), candidates[1:], None, None)


def test_without_a_budget_the_knee_is_chosen_unmeasured(context: Callable[..., Context]) -> None:
    candidates = trials([0.3, 0.8, 0.82], [1, 2, 9])
    device = Device([])
    assert choose(context(device, "pareto", latency_ms=None), candidates, None, None) == [candidates[1]]
    assert not device.asked


def test_a_kill_between_two_budgets_loses_no_choice(context: Callable[..., Context]) -> None:
    """The second budget's finalists are measured again, and the process is killed there: the third's choice stays."""
    candidates = trials([0.5, 0.7, 0.9], [3, 6, 9])

    def measure(device: Device) -> list[Trial | None]:
        return choose(context(device, "pareto", budgets_ms=(4.0, 7.0, 10.0)), candidates, None, None)

    assert measure(Device([3, 8, 9])) == [candidates[0], candidates[0], candidates[2]]
    run = context(Device([]), "pareto").run
    run.update_state(winner_trials=(0, None, 2))

    class Killed(Device):
        def __call__(self, archs: Sequence[Architecture]) -> list[Measurement]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(Killed([]))
    assert run.state().winner_trials == (0, None, 2)
    device = Device([3, 6, 9])
    assert measure(device) == candidates
    assert len(device.asked) == 1, "only what was missing is measured"


def test_a_missed_budget_leaves_the_others(context: Callable[..., Context]) -> None:
    candidates = trials([0.5, 0.9], [3, 9])
    several = context(Device([5, 9]), "pareto", budgets_ms=(4.0, 10.0))
    assert choose(several, candidates, None, None) == [None, candidates[1]]
    assert several.run.state().winner_trials == (None, 1)


def test_a_rival_that_is_better_when_trained_becomes_the_winner(context: Callable[..., Context]) -> None:
    def trained(index: int, val: float) -> Trained:
        return Trained(str(index), ARCHS[index], mnas.build(ARCHS[index], 10), val)

    chosen, small, large, outside = trained(2, 0.8), trained(3, 0.9), trained(4, 0.95), trained(0, 0.99)
    device = Device([1, 2, 5, 7, 12, 15])
    made = context(device)
    assert ARCHS[3] in made.space
    assert ARCHS[4] not in made.space
    assert best_trained(made, [chosen, small, large, outside], 10) is small
    assert best_trained(made, [chosen, small], 6) is chosen, "over the budget"
    assert best_trained(made, [small, chosen], 10) is small
    assert best_trained(made, [chosen, small], None) is chosen
    tight = Constraints((Constraint("--max-params", mnas.cost(ARCHS[3], 10).params - 1, lambda one: one.params),), 10)
    assert best_trained(context(device, constraints=tight), [chosen, small], 10) is chosen, "too many parameters"
    slower, faster = trained(3, 0.82), replace(chosen, val_accuracy=0.81)
    assert best_trained(made, [faster, slower], 10) is slower
    assert best_trained(context(device, "mnasnet"), [faster, slower], 10) is faster, "7 ms against 5 ms"


# --- a second fine-tuning


@pytest.fixture
def sharing(tiny: Path, tmp_path: Path) -> WeightSharing:
    space, digits = mnas.load_space(tiny), load_data("digits")
    data = replace(digits, train=limited(digits.train, 170, 0), val=limited(digits.val, 288, 0))
    config = RunConfig(space=space.name, targets=(Target(latency_ms=15.0),), objective=load_objective("mnasnet_hard"))
    return WeightSharing(Run(tmp_path), config, space, trainer(data, 16))


FINETUNE = Recipe(epochs=6, batch_size=16, lr=2.0, dropout=0.0)


def tiny_finalists(sharing: WeightSharing, count: int) -> list[Finalist]:
    archs = [sharing.supernet.space.sample(random.Random(i)) for i in range(count)]
    return [
        Finalist(
            Trial(10 + i, "complete", arch, 5.0, 0.9 - i / 10, evaluation=Evaluation("fine-tuned")),
            Measurement(5.0, 0.0, 30),
        )
        for i, arch in enumerate(archs)
    ]


def test_finalists_are_ranked_by_two_fine_tunings(sharing: WeightSharing) -> None:
    finalists = tiny_finalists(sharing, 2)
    first, second = (sharing.estimator(FINETUNE, repeat=repeat) for repeat in (0, 1))
    reached = [second.fine_tuned(finalist.trial.architecture) for finalist in finalists]
    assert reached != [first.fine_tuned(finalist.trial.architecture) for finalist in finalists], "independent"
    assert reached[0] != reached[1], "or this proves nothing"
    better = int(reached[1] > reached[0])
    gap = abs(reached[1] - reached[0])
    for lead, wins in ((gap / 2, better), (2 * gap, 1 - better)):  # the other one's lead by the first estimate
        accuracies = {better: 0.5, 1 - better: 0.5 + lead}
        given = [replace(f, trial=replace(f.trial, accuracy=accuracies[i])) for i, f in enumerate(finalists)]
        assert fine_tuned_again(given, sharing, FINETUNE, HARD)[0] is given[wins]
        inherited = [replace(f, trial=replace(f.trial, evaluation=Evaluation("inherited"))) for f in given]
        assert fine_tuned_again(inherited, sharing, FINETUNE, HARD)[0] is inherited[better], "only fine-tunings count"


def test_one_finalist_is_not_trained(sharing: WeightSharing) -> None:
    finalists = tiny_finalists(sharing, 1)
    diverging = FINETUNE.model_copy(update={"lr": 1e30, "clip_norm": 1e30, "warmup": 0.0})
    assert fine_tuned_again(finalists, sharing, diverging, HARD) == finalists


def test_a_finalist_that_diverges_is_not_chosen(sharing: WeightSharing) -> None:
    diverging = FINETUNE.model_copy(update={"lr": 1e30, "clip_norm": 1e30, "warmup": 0.0})
    finalists = tiny_finalists(sharing, 2)
    with pytest.raises(Diverged):
        sharing.estimator(diverging).fine_tuned(finalists[0].trial.architecture)
    assert fine_tuned_again(finalists, sharing, diverging, HARD)[0] is finalists[0]


# --- full training

SHORT = Recipe(epochs=1, batch_size=16, dropout=0.0)


@pytest.fixture(scope="module")
def few() -> ImageData:
    digits = load_data("digits")
    return replace(digits, train=limited(digits.train, 64, 0), val=limited(digits.val, 50, 0))


def train(few: ImageData, folder: Path, **given: Any) -> Trained:
    return train_fully("one", ARCHS[0], SHORT, trainer(few, 32), checkpoints=folder, **given)


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
    add_latencies(rows, [trained], tmp_path, Conditions(runtime), seed=0, budget_ms=1000)
    assert (tmp_path / file).stat().st_size > 1000
    assert rows[0]["exported_file"] == file
    assert 0 < rows[0]["exported_latency_ms"] < 1000
    assert rows[0]["latencies"][0]["exported_keeps"]
