"""Who enters a race."""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timed_runs import Machine
from trainers import trainer

import mnas
from mnas.config import RunConfig, Target, load_objective
from mnas.data.sources import ImageData
from mnas.errors import BadInput
from mnas.latency.conditions import Conditions
from mnas.latency.model import PREDICTED, DeviceLatency, LatencyModel
from mnas.latency.speed import MeasuredHere
from mnas.latency.table.anchors import Anchor
from mnas.latency.timing.rounds import Measurement, RoundLimits
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline.contenders import contenders, finalists, ranking
from mnas.pipeline.context import Context
from mnas.pipeline.race import Contender, Rank
from mnas.pipeline.races import enter
from mnas.pipeline.references import Reference
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.constraints import NO_CONSTRAINTS, Constraint, Constraints
from mnas.study.trial import ZERO_COST, Evaluation, Trial
from mnas.training.distributed import SINGLE

ARCHS = [mnas.zoo.get("mobilenet_v3_small", width, 32) for width in (0.35, 0.5, 0.75, 1.0, 1.25, 1.5)]


def trials(accuracies: Sequence[float], latencies: Sequence[float], fidelity: str = "") -> list[Trial]:
    return [
        Trial(i, "complete", arch, ms, accuracy, evaluation=Evaluation(fidelity))
        for i, (arch, accuracy, ms) in enumerate(zip(ARCHS, accuracies, latencies, strict=False))
    ]


class Device:
    """Measures what it was told, and remembers what it was asked."""

    def __init__(self, measured: Sequence[float], spread: float = 0.0):
        self.ms = dict(zip(ARCHS, measured, strict=False))
        self.others_ms = math.inf
        self.spread, self.asked = spread, list[list[Architecture]]()

    def __call__(self, archs: Sequence[Architecture]) -> list[Measurement]:
        self.asked.append(list(archs))
        return [Measurement(self.ms.get(arch, self.others_ms), self.spread, 30) for arch in archs]


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


@pytest.fixture
def hard(context: Callable[..., Context]) -> Rank:
    return ranking(context(Device([])), 10.0)


def numbers(found: Sequence[Contender]) -> list[int | None]:
    return [one.trial for one in found]


def ranked(candidates: Sequence[Trial], device: Device, rank: Rank, count: int = 5) -> list[int | None]:
    return numbers(finalists(candidates, device, rank, 10, count))


# --- the finalists of one budget


def test_the_most_accurate_that_keeps_the_budget_when_measured(hard: Rank) -> None:
    candidates = trials([0.5, 0.7, 0.8, 0.9], [5, 7, 9, 9.5])
    found = finalists(candidates, Device([5, 7, 9, 11], 0.1), hard, 10, 5)  # the table underestimates the last one
    assert numbers(found) == [2, 1, 0], "best first"
    assert [one.latency for one in found] == [Measurement(ms, 0.1, 30) for ms in (9, 7, 5)]
    assert {(one.kind, one.weights) for one in found} == {("found", "scratch")}
    assert [one.architecture for one in found] == [ARCHS[2], ARCHS[1], ARCHS[0]]


def test_equal_accuracies_are_ranked_by_latency(hard: Rank) -> None:
    assert ranked(trials([0.7, 0.7, 0.7], [7, 5, 6]), Device([7, 5, 6]), hard) == [1, 2, 0]


def test_the_reward_that_was_asked_for_decides(context: Callable[..., Context], hard: Rank) -> None:
    """MnasNet's soft reward: half the latency is worth 5% of the accuracy."""
    soft = ranking(context(Device([]), "mnasnet"), 10.0)
    candidates = trials([0.80, 0.82], [5, 9.9])
    assert ranked(candidates, Device([5, 9.9]), hard)[0] == 1
    assert ranked(candidates, Device([5, 9.9]), soft)[0] == 0
    assert ranked(trials([0.80, 0.85], [5, 9.9]), Device([5, 9.9]), soft)[0] == 1


def test_a_spread_across_the_budget_does_not_keep_it(hard: Rank) -> None:
    assert ranked(trials([0.5, 0.9], [5, 9.9]), Device([5, 9.9], spread=0.2), hard) == [0]


def test_a_table_that_overestimates_loses_no_candidate(hard: Rank) -> None:
    assert ranked(trials([0.5, 0.9], [5, 10.4]), Device([5, 9.0]), hard)[0] == 1


def test_no_more_is_measured_than_needed(hard: Rank) -> None:
    candidates = trials([0.5, 0.6, 0.7, 0.8, 0.9, 0.95], [5] * 6)
    device = Device([5, 5, 5, 5, 11, 11])
    assert ranked(candidates, device, hard, count=2) == [3, 2]
    assert device.asked == [[ARCHS[5], ARCHS[4]], [ARCHS[3], ARCHS[2]]]
    device = Device([5, 5, 5, 5, 5, 11])
    assert ranked(candidates, device, hard, count=2) == [4, 3], "as many as are wanted, the best of them"
    device = Device([5, 5, 5, 11, 11, 5])
    assert ranked(candidates, device, hard, count=1) == [5]
    assert device.asked == [[ARCHS[5]]]
    device = Device([5, 5, 11, 11, 11, 11])
    assert ranked(candidates, device, hard, count=2) == [1, 0], "the best ones are all too slow"


@given(
    accuracies=st.lists(st.floats(0, 1), min_size=6, max_size=6, unique=True),
    measured=st.lists(st.floats(1, 20), min_size=6, max_size=6), count=st.integers(1, 6),
)  # fmt: skip
def test_whatever_is_measured_the_finalists_keep_the_budget(
    accuracies: list[float], measured: list[float], count: int
) -> None:
    device, candidates = Device(measured), trials(accuracies, [5] * 6)

    def find() -> list[int | None]:
        return ranked(candidates, device, lambda accuracy, ms: (accuracy, -ms), count)

    if min(measured) > 10:
        with pytest.raises(mnas.Infeasible, match=f"{min(measured):.2f} ms"):
            find()
        return
    found = find()
    assert 1 <= len(found) <= count
    asked = [arch for group in device.asked for arch in group]
    assert len(set(asked)) == len(asked), "none twice"
    best = sorted(range(6), key=lambda i: accuracies[i], reverse=True)
    assert asked == [ARCHS[i] for i in best[: len(asked)]], "by their estimates"
    assert found == [i for i in best[: len(asked)] if measured[i] <= 10][:count]


def test_nothing_keeps_the_budget(hard: Rank) -> None:
    with pytest.raises(mnas.Infeasible, match=r"10 ms .* 11\.00 ms") as told:
        ranked(trials([0.5, 0.6], [9, 9]), Device([12, 11]), hard)
    assert told.value.exit_code == 3


@pytest.mark.parametrize(("fidelity", "sizes"), [
    ("fine-tuned", [32, 32, 32, 48, 48, 64]), (ZERO_COST, [32, 48, 64, 32, 48, 32]),
])  # fmt: skip
def test_scores_without_training_vary_the_resolutions(fidelity: str, sizes: list[int], hard: Rank) -> None:
    """The larger the image, the worse the score here; a score says little about that."""
    archs = [mnas.zoo.get("mobilenet_v3_small", 0.35 + i / 10, size) for i, size in enumerate((32, 32, 32, 48, 48, 64))]
    candidates = [
        Trial(i, "complete", arch, 5.0, 0.9 - i / 10, evaluation=Evaluation(fidelity)) for i, arch in enumerate(archs)
    ]
    found = finalists(candidates, lambda asked: [Measurement(5.0, 0.0, 30)] * len(asked), hard, 10, 6)
    assert [one.architecture.resolution for one in found] == sizes
    first = [next(one.trial for one in found if one.architecture.resolution == size) for size in (32, 48, 64)]
    assert first == [0, 3, 5], "the best of each"


def test_scores_without_training_are_of_networks_near_the_budget_first(hard: Rank) -> None:
    """The best score is of a network that uses half of the budget."""
    candidates = trials([0.9, 0.8, 0.7, 0.6], [5, 6.5, 9, 5.2], ZERO_COST)
    assert ranked(candidates, Device([5, 6.5, 9, 5.2]), hard, count=2) == [1, 2]
    assert ranked(candidates, Device([5, 11, 11, 5.2]), hard, count=2) == [0, 3], "but the others where need be"
    loose = trials([0.9, 0.8, 0.7], [2, 5, 4], ZERO_COST)
    assert ranked(loose, Device([2, 5, 4]), hard, count=2) == [1, 2], "near the slowest, where the budget does not bind"


def test_a_slow_minute_costs_no_finalist_and_admits_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two candidates just within and just above the budget, on a machine 30% slower and 20% faster than its table."""
    sizes = [Machine().network_ms(mnas.build(arch, 10).eval()) for arch in ARCHS]
    candidates = trials([0.5, 0.9], sizes)
    budget_ms = (sizes[0] + sizes[1]) / 2
    anchors = tuple(Anchor(arch, 10, ms) for arch, ms in zip(ARCHS[2:5], sizes[2:5], strict=True))
    for slowness in (1.3, 0.8):
        Machine(lambda now, slowness=slowness: slowness).install(monkeypatch)
        here = MeasuredHere(Conditions("torch"), RoundLimits(20), 10, random.Random(0), anchors)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            found = finalists(candidates, here, lambda accuracy, ms: (accuracy, -ms), budget_ms, 2)
        assert numbers(found) == [0]
        assert all(f"{slowness * ms:.2f} as measured" in caplog.text for ms in sizes[:2])


# --- all contenders of one budget


def reference(index: int, ms: float = 9.5) -> Reference:
    return Reference(f"reference {index}", ARCHS[index], Measurement(ms, 0.1, 30))


def test_published_networks_enter_once(context: Callable[..., Context]) -> None:
    """Scored without training, they are no finalists beside the references, which are scaled to the budget."""
    named = Trial(7, "complete", ARCHS[5], 9.0, 0.99, name="mobilenet_v3_small/32", evaluation=Evaluation(ZERO_COST))
    candidates = [*trials([0.5, 0.6], [9, 9], ZERO_COST), named]
    made = context(Device([9] * 6), finalists=3)
    made.run.update_state(estimator="zero_cost")
    assert numbers(contenders(made, candidates, [reference(3)], 10)) == [1, 0, None]
    assert numbers(contenders(made, candidates, [], 10)) == [7, 1, 0], "without references they may"
    made.run.update_state(estimator="train")
    assert numbers(contenders(made, candidates, [reference(3)], 10)) == [7, 1, 0, None]


@pytest.mark.parametrize(("count", "neighbours", "searched"), [(1, 0, []), (2, 1, []), (3, 1, [1]), (4, 2, [1])])
def test_most_beside_those_that_were_scored_are_near_a_reference(
    context: Callable[..., Context], count: int, neighbours: int, searched: list[int]
) -> None:
    """Near a good network is known to be good, and a score says little."""
    device = Device([9] * 6)
    device.others_ms = 9.0
    made = context(device, finalists=count, references=1)
    made.run.update_state(estimator="zero_cost")
    candidates = trials([0.5, 0.6], [9, 9], ZERO_COST)
    found = contenders(made, candidates, [reference(3)], 10)
    assert [one.name for one in found] == [
        "shallow mobilenet_v3_small@1.5:32",
        *(f"neighbour {number} of {reference(3).name}" for number in range(1, neighbours + 1)),
        *(f"trial {number}" for number in searched), reference(3).name,
    ]  # fmt: skip
    assert {one.kind for one in found[:-1]} == {"found"}
    assert len({one.architecture for one in found}) == count + 1
    assert found == contenders(made, candidates, [reference(3)], 10), "the same again"
    device.others_ms = 11.0
    found = contenders(made, candidates, [reference(3)], 10)
    assert numbers(found) == [*[1, 0][:count], None], "the near ones break the budget"
    device.others_ms = 9.0
    made.run.update_state(estimator="train")
    assert numbers(contenders(made, candidates, [reference(3)], 10)) == [*[1, 0][:count], None]


def test_no_network_is_near_in_two_ways(context: Callable[..., Context]) -> None:
    """MobileNetV2's shallow network differs in one choice, where one stage alone has several depths: a neighbour may be
    the same."""
    device = Device([])
    device.others_ms = 9.0
    made = context(device, finalists=12, references=1)
    made.run.update_state(estimator="zero_cost")
    widest = mnas.zoo.get("mobilenet_v2", 1.5, 32)
    file = mnas.load_space("v2").with_resolutions((32,)).file
    stages = [
        stage.model_copy(update={"kernel": (3,), "depth": (len(own) - 1, len(own)) if number == 2 else (len(own),)})
        for number, (stage, own) in enumerate(zip(file.stages, widest.stages, strict=True))
    ]
    few = mnas.SearchSpace(file.model_copy(update={"stages": tuple(stages)}))
    found = contenders(
        replace(made, space=few), [], [Reference("mobilenet_v2@1.5:32", widest, Measurement(9.0, 0.0, 30))], 10
    )
    archs = [one.architecture for one in found]
    assert found[0].name == "shallow mobilenet_v2@1.5:32" and len(found) > 3
    assert len({*archs}) == len(archs)


@pytest.mark.parametrize(("estimator", "stated", "expected"), [
    ("zero_cost", {}, 2), ("zero_cost", {"finalists": 4}, 4), ("train", {}, 3), ("train", {"finalists": 1}, 1),
])  # fmt: skip
def test_few_images_tell_few_networks_apart(
    context: Callable[..., Context], estimator: str, stated: dict[str, int], expected: int
) -> None:
    made = context(Device([9] * 6), **stated)
    made.run.update_state(estimator=estimator)
    fidelity = ZERO_COST if estimator == "zero_cost" else "validation"
    candidates = trials([0.5, 0.6, 0.7, 0.8], [9, 9, 9, 9], fidelity)
    assert len(contenders(made, candidates, [reference(5)], 10)) == expected + 1


def test_only_finished_trials_count(context: Callable[..., Context]) -> None:
    candidates = [*trials([0.5], [5]), Trial(9, "pruned", ARCHS[5], 5, 0.99), Trial(10, "over_budget", ARCHS[4], 50)]
    assert numbers(contenders(context(Device([5] * 6)), candidates, [], 10)) == [0]
    with pytest.raises(mnas.Infeasible, match="--trials"):
        contenders(context(Device([5] * 6)), candidates[1:], [], 10)


def test_without_a_budget_the_knee_is_chosen_unmeasured(context: Callable[..., Context]) -> None:
    device = Device([])
    made = context(device, "pareto", latency_ms=None)
    (found,) = contenders(made, trials([0.3, 0.8, 0.82], [1, 2, 9]), [], None)
    assert (found.trial, found.latency) == (1, Measurement(2, 0.0, PREDICTED))
    assert not device.asked
    with pytest.raises(mnas.Infeasible, match="--trials"):
        contenders(made, [], [], None)


def test_the_largest_references_enter(context: Callable[..., Context]) -> None:
    made = context(Device([5] * 6), references=2)
    found = contenders(made, trials([0.9], [5]), [reference(2), reference(4), reference(3)], 10)
    assert [one.name for one in found] == ["trial 0", "reference 4", "reference 3"]
    assert [one.kind for one in found] == ["found", "reference", "reference"]
    assert found[1].trial is None
    assert found[1].latency == Measurement(9.5, 0.1, 30), "measured when they were scaled"
    alone = context(Device([5] * 6), references=0)
    assert [one.name for one in contenders(alone, trials([0.9], [5]), [reference(4)], 10)] == ["trial 0"]


@pytest.mark.parametrize(("options", "found", "published"), [
    ({}, [("trial 0", "inherited"), ("trial 0 from scratch", "scratch"), ("trial 1", "inherited")], "scratch"),
    ({"shared_supernet": "a run"}, [("trial 0", "inherited"), ("trial 1", "inherited")], "inherited"),
    ({"shared_supernet": "a run", "from_scratch": True}, [("trial 0", "scratch"), ("trial 1", "scratch")], "scratch"),
])  # fmt: skip
def test_in_another_runs_supernet_all_go_on_from_its_weights(
    context: Callable[..., Context], options: dict[str, Any], found: list[tuple[str, str]], published: str
) -> None:
    outside, narrow = (
        Reference(name, mnas.zoo.get(name, width, 32), Measurement(9.5, 0.1, 30))
        for name, width in (("mobilenet_v3_large", 1.0), ("mobilenet_v3_small", 0.45))
    )
    made = context(Device([5] * 6), references=3, **options)
    made.run.update_state(estimator="supernet")
    assert [one in made.space for one in (ARCHS[3], outside.architecture, narrow.architecture)] == [True, False, False]
    entered = contenders(made, trials([0.9, 0.8], [5, 5]), [outside, narrow, reference(3)], 10)
    assert [(one.name, one.weights) for one in entered if one.kind == "found"] == found
    references = {one.name: one.weights for one in entered if one.kind == "reference"}
    fresh = {"mobilenet_v3_large": "scratch"} if published == "scratch" else {}  # no comparison with the others
    assert references == {"reference 3": published, "mobilenet_v3_small": published, **fresh}
    longer = replace(made, config=made.config.model_copy(update={"budget_s": 3600.0}))
    entered = contenders(longer, trials([0.9, 0.8], [5, 5]), [outside, narrow, reference(3)], 10)
    assert "mobilenet_v3_large" in {one.name for one in entered}
    alone = contenders(made, trials([0.9, 0.8], [5, 5]), [outside], 10)
    assert [one.weights for one in alone if one.kind == "reference"] == ["scratch"], "better than none"


def test_one_reference_has_the_images_own_size(context: Callable[..., Context]) -> None:
    """However few multiply-adds it has: it trains fastest."""
    made = context(Device([5] * 6), references=2)
    made = replace(made, space=made.space.with_resolutions((48, 64, 96)))
    scaled = [
        Reference(f"{width}:{size}", mnas.zoo.get("mobilenet_v3_small", width, size), Measurement(9.5, 0.1, 30))
        for width, size in ((0.35, 48), (0.5, 48), (1.0, 64), (1.25, 96))
    ]  # fmt: skip
    names = [one.name for one in contenders(made, trials([0.9], [5]), scaled, 10)]
    assert names == ["trial 0", "1.25:96", "0.5:48"]
    one = replace(made, config=made.config.model_copy(update={"references": 1}))
    assert [one.name for one in contenders(one, trials([0.9], [5]), scaled, 10)] == ["trial 0", "1.25:96"]


def test_references_satisfy_the_constraints(context: Callable[..., Context]) -> None:
    tight = Constraints((Constraint("--max-params", mnas.cost(ARCHS[3], 10).params, lambda one: one.params),), 10)
    made = context(Device([5] * 6), constraints=tight)
    found = contenders(made, trials([0.9], [5]), [reference(4), reference(3)], 10)
    assert [one.name for one in found] == ["trial 0", "reference 3"]


def test_no_network_enters_twice(context: Callable[..., Context]) -> None:
    """The search found a reference: the next best candidate takes the place."""
    made = context(Device([5] * 6), finalists=1)
    found = contenders(made, trials([0.5, 0.9], [5, 5]), [reference(1)], 10)
    assert [one.name for one in found] == ["trial 0", "reference 1"]
    assert [one.name for one in contenders(made, trials([0.5, 0.9], [5, 5])[1:], [reference(1)], 10)] == ["reference 1"]


def test_references_race_alone_where_no_candidate_keeps_the_budget(context: Callable[..., Context]) -> None:
    made = context(Device([12] * 6))
    assert [one.name for one in contenders(made, trials([0.5], [9]), [reference(1)], 10)] == ["reference 1"]


def test_of_several_budgets_each_has_candidates_of_its_own(context: Callable[..., Context]) -> None:
    """Those predicted far above the budget are not measured."""
    device = Device([3, 6, 9])
    made = context(device, "pareto", budgets_ms=(4.0, 10.0))
    assert numbers(contenders(made, trials([0.5, 0.7, 0.9], [3, 6, 9]), [], 4)) == [0]
    assert device.asked == [[ARCHS[0]]]


# --- the races of a run


def test_a_kill_between_two_budgets_loses_no_choice(context: Callable[..., Context]) -> None:
    candidates = trials([0.5, 0.7, 0.9], [3, 6, 9])

    class Killed(Device):
        def __call__(self, archs: Sequence[Architecture]) -> list[Measurement]:
            if len(self.asked) == 1:
                raise KeyboardInterrupt
            return super().__call__(archs)

    def entered(device: Device, run: Callable[..., Context] = context) -> dict[float | None, list[Contender]]:
        references: dict[float | None, list[Reference]] = {10.0: [reference(4)]}
        return enter(run(device, "pareto", budgets_ms=(4.0, 7.0, 10.0)), candidates, references, list)

    with pytest.raises(KeyboardInterrupt):
        entered(Killed([3, 6, 9]))
    device = Device([1, 6, 9])
    found = entered(device)
    assert {ms: numbers(ones) for ms, ones in found.items()} == {4.0: [0], 7.0: [1, 0], 10.0: [2, 1, 0, None]}
    assert found[4.0][0].latency.median_ms == 3, "as it was measured"
    assert len(device.asked) == 2, "only what was missing is measured"
    assert entered(Killed([])) == found, "and then nothing"


def test_a_missed_budget_leaves_the_others(context: Callable[..., Context]) -> None:
    candidates = trials([0.5, 0.9], [3, 9])
    several = context(Device([5, 9]), "pareto", budgets_ms=(4.0, 10.0))
    assert {ms: numbers(found) for ms, found in enter(several, candidates, {}, list).items()} == {10.0: [1, 0]}
    faster = context(Device([3, 9]), "pareto", budgets_ms=(4.0, 10.0))
    assert {ms: numbers(found) for ms, found in enter(faster, candidates, {}, list).items()} == {4.0: [0], 10.0: [1, 0]}


def test_no_budget_is_kept(context: Callable[..., Context]) -> None:
    several = context(Device([12, 11]), "pareto", budgets_ms=(4.0, 10.0))
    with pytest.raises(mnas.Infeasible, match=r"10 ms .* 11\.00 ms"):
        enter(several, trials([0.5, 0.9], [3, 9]), {}, list)
    assert not several.run.races_path.exists()


def test_a_damaged_record_is_named(context: Callable[..., Context]) -> None:
    made = context(Device([5] * 6))
    enter(made, trials([0.5], [5]), {}, list)
    record = json.loads(made.run.races_path.read_text())
    del record["contenders"][0]["latency"], record["crc32"]
    made.run.races_path.write_text(json.dumps(record) + "\n")
    with pytest.raises(BadInput, match=r"races\.jsonl"):
        enter(made, trials([0.5], [5]), {}, list)
