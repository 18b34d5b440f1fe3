"""mnas's samplers in plain Optuna studies: what they promise of any of them, and what they learn."""

from __future__ import annotations

import itertools
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from mnas.samplers import EvolutionSampler, PredictorSampler
from mnas.samplers.choices import ABSENT, Choices, choice_of
from mnas.samplers.improvement import hypervolume_improvement, log_expected_improvement
from mnas.samplers.pareto import hypervolume, ranks
from mnas.samplers.surrogate import Features, Surrogate, fitted

BOTH = [PredictorSampler, EvolutionSampler]
MakeSampler = Callable[..., optuna.samplers.BaseSampler]

KERNELS, ACTIVATIONS, DEPTH = [3, 5, 7], ["relu", "hard_swish"], (1, 3)


def network(trial: optuna.Trial) -> dict[str, Any]:
    """A conditional space, as architectures are: a layer's choices exist where the layer does. 294 points."""
    trial.suggest_categorical("activation", ACTIVATIONS)
    depth = trial.suggest_int("depth", *DEPTH)
    for layer in range(depth):
        trial.suggest_categorical(f"kernel{layer}", KERNELS)
        if layer and trial.params[f"kernel{layer}"] == 7:
            trial.suggest_categorical(f"squeeze{layer}", [True, False])
    return trial.params


def milliseconds(params: dict[str, Any]) -> float:
    return 1.0 + sum(params[f"kernel{layer}"] ** 1.5 / 10 for layer in range(params["depth"]))


def accuracy(params: dict[str, Any]) -> float:
    kernels = sum({3: 0.0, 5: 2.0, 7: 2.5}[params[f"kernel{layer}"]] for layer in range(params["depth"]))
    squeezed = sum(value is True for name, value in params.items() if name.startswith("squeeze"))
    return 80 + kernels + 0.7 * squeezed + (params["activation"] == "hard_swish") * (1 + 0.3 * params["depth"])


def points() -> list[dict[str, Any]]:
    """Every point of the space."""
    found = []
    for activation, depth in itertools.product(ACTIVATIONS, range(DEPTH[0], DEPTH[1] + 1)):
        for kernels in itertools.product(KERNELS, repeat=depth):
            squeezes = [i for i, kernel in enumerate(kernels) if i and kernel == 7]
            for values in itertools.product([True, False], repeat=len(squeezes)):
                found.append(
                    {"activation": activation, "depth": depth}
                    | {f"kernel{i}": kernel for i, kernel in enumerate(kernels)}
                    | {f"squeeze{i}": value for i, value in zip(squeezes, values, strict=True)}
                )
    return found


def key(params: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(params.items()))


def studied(sampler: optuna.samplers.BaseSampler, trials: int, **options: Any) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, **options or {"direction": "maximize"})
    study.optimize(lambda trial: accuracy(network(trial)), n_trials=trials)
    return study


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("make", BOTH)
def test_nothing_twice_while_something_is_new(make: MakeSampler) -> None:
    study = studied(make(seed=0), len(points()))
    tried = {key(trial.params) for trial in study.trials}
    # before a choice was seen, it can only be drawn at random
    assert len(tried) >= len(points()) - 3
    assert tried <= {key(params) for params in points()}


@pytest.mark.parametrize("make", BOTH)
def test_budget(make: MakeSampler) -> None:
    """Whatever is affordable is tried, nothing else, once the choices are known."""
    budget = float(np.quantile([milliseconds(params) for params in points()], 0.2))
    affordable = {key(params) for params in points() if milliseconds(params) <= budget}
    study = studied(make(seed=0, known_cost=milliseconds, budget=budget), len(affordable) + 12)
    tried = [key(trial.params) for trial in study.trials]
    assert affordable <= set(tried)
    last = max(number for number, one in enumerate(tried) if one in affordable)
    assert sum(one not in affordable for one in tried[: last + 1]) <= 12  # choices not yet seen


@pytest.mark.parametrize("make", BOTH)
def test_the_same_again_and_after_a_resume(make: MakeSampler) -> None:
    def run(sampler: optuna.samplers.BaseSampler, study: optuna.Study, trials: int) -> None:
        study.sampler = sampler
        study.optimize(lambda trial: accuracy(network(trial)), n_trials=trials)

    options: dict[str, Any] = {"known_cost": milliseconds, "budget": 4.0}
    unbroken, broken = (optuna.create_study(direction="maximize", study_name="one") for _ in range(2))
    run(make(seed=5, **options), unbroken, 24)
    for trials in (9, 1, 14):
        run(make(seed=5, **options), broken, trials)
    other = optuna.create_study(direction="maximize", study_name="one")
    run(make(seed=6, **options), other, 24)
    assert [trial.params for trial in broken.trials] == [trial.params for trial in unbroken.trials]
    assert [trial.params for trial in other.trials] != [trial.params for trial in unbroken.trials]


@pytest.mark.parametrize("make", BOTH)
def test_a_batch_holds_no_point_twice(make: MakeSampler) -> None:
    study = studied(make(seed=1), 30)
    asked = [study.ask() for _ in range(8)]
    batch = [key(network(trial)) for trial in asked]
    assert len(set(batch)) == 8
    assert not set(batch) & {key(trial.params) for trial in study.get_trials(states=(TrialState.COMPLETE,))}


@pytest.mark.parametrize("make", BOTH)
def test_failed_pruned_and_useless_trials(make: MakeSampler) -> None:
    study = optuna.create_study(sampler=make(seed=0), direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        params = network(trial)
        match trial.number % 5:
            case 0:
                raise ValueError("out of memory")
            case 1:
                return math.nan
            case 2:
                trial.report(accuracy(params) / 2, 1)
                raise optuna.TrialPruned
            case 3 if trial.number % 2:
                raise optuna.TrialPruned
        return math.inf if trial.number == 14 else accuracy(params)

    study.optimize(objective, n_trials=60, catch=(ValueError,))
    tried = [key(trial.params) for trial in study.trials]
    assert len(set(tried[5:])) == len(tried[5:]), "what failed is not tried again"


def test_all_fail() -> None:
    study = optuna.create_study(sampler=PredictorSampler(seed=0), direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        network(trial)
        raise ValueError

    study.optimize(objective, n_trials=12, catch=(ValueError,))
    assert len(study.trials) == 12


@pytest.mark.parametrize("make", BOTH)
def test_workers_share_a_study(make: MakeSampler) -> None:
    study = optuna.create_study(sampler=make(seed=0, known_cost=milliseconds, budget=5.0), direction="maximize")
    study.optimize(lambda trial: accuracy(network(trial)), n_trials=40, n_jobs=4)
    assert len(study.trials) == 40
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


@pytest.mark.parametrize("make", BOTH)
def test_one_sampler_for_two_studies_and_pickled(make: MakeSampler) -> None:
    sampler = make(seed=0)
    first = studied(sampler, 12)
    other = optuna.create_study(sampler=sampler, direction="minimize")
    other.optimize(lambda trial: trial.suggest_int("other", 1, 40), n_trials=12)
    assert {"other"} == {name for trial in other.trials for name in trial.params}
    copied = pickle.loads(pickle.dumps(sampler))
    first.sampler = copied
    first.optimize(lambda trial: accuracy(network(trial)), n_trials=3)
    assert len(first.trials) == 15


@pytest.mark.parametrize("make", BOTH)
def test_other_parameters_are_drawn_at_random(make: MakeSampler) -> None:
    study = optuna.create_study(sampler=make(seed=0, known_cost=lambda params: params["width"], budget=100))

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 1e-3, 1.0, log=True)
        assert trial.suggest_categorical("only", ["this"]) == "this"
        return abs(trial.suggest_int("width", 8, 512, step=8) - 96) + rate

    study.optimize(objective, n_trials=30)
    assert len({trial.params["rate"] for trial in study.trials}) == 30
    assert {trial.params["width"] for trial in study.trials} >= set(range(8, 100, 8)), "then some of them again"
    assert sum(trial.params["width"] > 100 for trial in study.trials) <= 1, "the first is drawn before all is known"
    assert study.best_trial.params["width"] == 96


@pytest.mark.parametrize("make", BOTH)
def test_ranges_that_change(make: MakeSampler) -> None:
    study = optuna.create_study(sampler=make(seed=0))

    def objective(trial: optuna.Trial) -> float:
        return abs(trial.suggest_int("width", 8, 16 * (1 + trial.number % 4)) - 40)

    study.optimize(objective, n_trials=40)
    assert study.best_value <= 1


def test_the_cost_may_be_unknown() -> None:
    """None is no promise and no ban."""
    study = studied(PredictorSampler(seed=0, known_cost=lambda params: None, budget=1.0), 30)
    assert study.best_value > 85


@pytest.mark.parametrize("budget", [0, -1.0])
def test_budgets_that_mean_nothing(budget: float) -> None:
    with pytest.raises(ValueError, match="budget="):
        PredictorSampler(known_cost=milliseconds, budget=budget)


def test_a_seed_is_no_less_than_zero() -> None:
    with pytest.raises(ValueError, match="seed=-1"):
        PredictorSampler(seed=-1)


def test_a_budget_needs_a_cost() -> None:
    with pytest.raises(ValueError, match="known_cost"):
        EvolutionSampler(budget=3.0)


# --- what is learned


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_better_than_random(make: MakeSampler, direction: str) -> None:
    """Of 294 points, in 50 trials, over five seeds."""
    sign = 1 if direction == "maximize" else -1

    def reached(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler, direction="maximize" if sign > 0 else "minimize")
        study.optimize(lambda trial: sign * accuracy(network(trial)), n_trials=50)
        return sign * study.best_value

    mine = np.mean([reached(make(seed=seed)) for seed in range(5)])
    random = np.mean([reached(optuna.samplers.RandomSampler(seed=seed)) for seed in range(5)])
    best = max(accuracy(params) for params in points())
    assert best - mine < (best - random) * (0.2 if make is PredictorSampler else 0.9)


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("cost", [100.0, math.inf, 1e308])
def test_a_budget_that_nothing_keeps(make: MakeSampler, cost: float) -> None:
    """A sampler cannot refuse: it goes on."""
    study = studied(make(seed=0, known_cost=lambda params: cost, budget=1.0), 8)
    assert len(study.trials) == 8


@pytest.mark.parametrize("make", BOTH)
def test_values_outside_of_their_range(make: MakeSampler) -> None:
    """Enqueued ones, and single values of before: the range is what all trials had."""
    study = optuna.create_study(direction="maximize", sampler=make(seed=0))
    for depth in (99, 4):
        study.enqueue_trial({"depth": depth})

    def objective(trial: optuna.Trial) -> float:
        first = trial.number < 3
        n = trial.suggest_int("n", 5 if first else 1, 5 if first else 3)
        return n + trial.suggest_int("depth", 1, 21, step=5) + trial.suggest_int("wide", 0, 2**62) / 2**62

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna says of what was enqueued that it is out of range
        study.optimize(objective, n_trials=15)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert {trial.params["n"] for trial in study.trials[3:]} <= {1, 2, 3}


@pytest.mark.parametrize("make", BOTH)
def test_a_value_outside_of_the_range_that_no_finished_trial_has(make: MakeSampler) -> None:
    """Of a trial that failed, and of one that still runs elsewhere."""
    study = optuna.create_study(direction="maximize", sampler=make(seed=0))

    def objective(trial: optuna.Trial) -> float:
        if (n := trial.suggest_int("n", 1, 9)) > 9:
            raise RuntimeError("too many")
        return n

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna says of what was enqueued that it is out of range
        study.optimize(objective, n_trials=4)
        for number in (50, 70):
            study.enqueue_trial({"n": number})
        study.optimize(objective, n_trials=1, catch=(RuntimeError,))
        study.ask().suggest_int("n", 1, 9)
        study.optimize(objective, n_trials=8)
    assert [trial.params["n"] for trial in study.trials if trial.state == TrialState.FAIL] == [50]
    assert sum(trial.state == TrialState.COMPLETE for trial in study.trials) == 12


@pytest.mark.parametrize("make", BOTH)
def test_a_second_study_of_the_same_name_is_another_one(make: MakeSampler) -> None:
    """As every search without a storage has it: its trials are not those of the first."""
    sampler, found = make(seed=0, known_cost=milliseconds, budget=4.0), []
    for used in (sampler, sampler, make(seed=0, known_cost=milliseconds, budget=4.0)):
        study = optuna.create_study(direction="maximize", study_name="one", sampler=used)
        if not found:  # the first one sees other choices
            study.enqueue_trial({"depth": 1})
        study.optimize(lambda trial: accuracy(network(trial)), n_trials=14)
        found.append([trial.params for trial in study.trials])
    assert found[1] == found[2]


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("scale", [1e307, 1e-320])
def test_values_and_options_at_the_end_of_what_floats_hold(make: MakeSampler, scale: float) -> None:
    study = optuna.create_study(direction="maximize", sampler=make(seed=0))

    def objective(trial: optuna.Trial) -> float:
        option = trial.suggest_categorical("a", [math.nan, math.inf, 1.0, 2.0])
        return scale * (trial.suggest_int("d", 1, 6) + (option == 2.0))

    study.optimize(objective, n_trials=12)
    assert len(study.trials) == 12


def test_a_cost_that_is_no_number() -> None:
    with pytest.raises(TypeError, match=r"^known_cost of \{.*: expected a number or None, got 'dear'$"):
        studied(PredictorSampler(seed=0, known_cost=lambda params: "dear", budget=1.0), 8)  # type: ignore[arg-type, return-value]


def test_a_space_too_large_to_enumerate() -> None:
    """The best of 118,098 points, whose cost is a product of a sum, nearly found; few are ever asked what they cost."""
    asked = 0

    def cost(params: dict[str, Any]) -> float:
        nonlocal asked
        asked += 1
        layers = sum(params[f"kernel{i}"] ** 1.2 * (1 + params["width"]) for i in range(9))
        return float(params["resolution"] ** 2 * layers)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("resolution", [16, 24, 32])
        trial.suggest_int("width", 1, 2)
        for i in range(9):
            trial.suggest_categorical(f"kernel{i}", KERNELS)
        return math.log(cost(trial.params)) + 0.05 * sum(trial.params[f"kernel{i}"] == 5 for i in range(9))

    budget = 60_000.0
    sampler = PredictorSampler(known_cost=cost, budget=budget, seed=0)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(objective, n_trials=40)
    within = [trial for trial in study.trials if cost(trial.params) <= budget]
    assert len(within) > 37
    best = max(
        math.log(cost) + 0.05 * fives
        for fives in range(10) for sevens in range(10 - fives) for size in (16, 24, 32) for width in (2, 3)
        if (cost := size**2 * width * ((9 - fives - sevens) * 3**1.2 + fives * 5**1.2 + sevens * 7**1.2)) <= budget
    )  # fmt: skip
    assert max(trial.value or 0 for trial in within) > best - 0.01
    assert asked < 40 * 200


@pytest.mark.parametrize("make", BOTH)
def test_front_of_two_objectives(make: MakeSampler) -> None:
    """The known cost is an objective too; more of the hypervolume is found than at random."""

    def volume(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])

        def objective(trial: optuna.Trial) -> tuple[float, float]:
            params = network(trial)
            return accuracy(params), milliseconds(params)

        study.optimize(objective, n_trials=40)
        front = sorted({tuple(trial.values) for trial in study.best_trials}, key=lambda values: values[1])
        ends = [ms for _, ms in front[1:]] + [12.0]
        return sum((value - 80) * (end - ms) for (value, ms), end in zip(front, ends, strict=True))

    mine = np.mean([volume(make(seed=seed, known_cost=milliseconds)) for seed in range(3)])
    assert mine > np.mean([volume(optuna.samplers.RandomSampler(seed=seed)) for seed in range(3)])


def test_three_objectives() -> None:
    study = optuna.create_study(sampler=PredictorSampler(seed=0), directions=["maximize", "minimize", "minimize"])

    def objective(trial: optuna.Trial) -> tuple[float, float, float]:
        params = network(trial)
        return accuracy(params), milliseconds(params), float(params["depth"])

    study.optimize(objective, n_trials=12)
    assert len(study.best_trials) >= 3


def test_existence_is_learned() -> None:
    study = studied(optuna.samplers.RandomSampler(seed=0), 80)
    choices = Choices()
    choices.learn(study.trials)
    assert list(choices.by_name) == ["activation", "depth", "kernel0", "kernel1", "squeeze1", "kernel2", "squeeze2"]
    drawn = choices.random(300, np.random.default_rng(0))
    assert {key(choices.params(point)) for point in drawn} <= {key(params) for params in points()}
    changed = choices.mutated(drawn, np.random.default_rng(1))
    assert (changed != drawn).any(1).all()
    crossed = choices.crossed(drawn, changed, np.random.default_rng(2))
    for made in (changed, crossed):
        assert {key(choices.params(point)) for point in made} <= {key(params) for params in points()}
    assert (drawn == ABSENT).any()
    assert {key(choices.params(point)) for point in choices.all()} == {key(params) for params in points()}


def test_choices_of_distributions() -> None:
    kernel = choice_of(CategoricalDistribution([3, 5, 9]))
    assert kernel is not None and kernel.positions is not None
    assert kernel.positions.tolist() == [0, 1 / 3, 1]
    width = choice_of(IntDistribution(1, 64, log=True))
    assert width is not None and width.positions is not None
    assert width.positions[7] == pytest.approx(0.5)
    named = choice_of(CategoricalDistribution(["relu", "swish"]))
    assert named is not None and named.positions is None
    assert choice_of(FloatDistribution(0, 1)) is None


def test_uncertainty_is_calibrated() -> None:
    """80% intervals of fresh points hold about so many of them, from few trials and from many."""
    rng = np.random.default_rng(0)
    choices = Choices()
    choices.learn(studied(optuna.samplers.RandomSampler(seed=1), 60).trials)
    every = choices.all()
    values = np.array([accuracy(choices.params(point)) for point in every]) + rng.normal(0, 0.5, len(every))
    for count in (15, 30, 60):
        inside = []
        for _ in range(8):
            order = rng.permutation(len(every))
            tried, others = order[:count], order[count:]
            describe = Features(list(choices.by_name.values()))
            x = describe.of_choices(every[tried])
            hyper = fitted(x, describe.owner, values[tried])
            mean, deviation = Surrogate(hyper, x, values[tried], x[:0])(describe.of_choices(every[others]))
            noise = math.sqrt(hyper.noise) * values[tried].std()
            spread = np.sqrt(deviation**2 + noise**2)
            inside.append(np.mean(np.abs(values[others] - mean) < 1.28 * spread))
        assert 0.65 < np.mean(inside) < 0.95, count


# --- improvement


def test_expected_improvement_is_what_draws_improve() -> None:
    rng = np.random.default_rng(0)
    mean, deviation = np.array([0.0, 1.0, -1.0, 0.5]), np.array([1.0, 0.5, 2.0, 0.01])
    drawn = np.maximum(0, rng.normal(mean, deviation, (400_000, 4)) - 0.6).mean(0)
    found = np.exp(log_expected_improvement(mean, deviation, 0.6))
    assert found[:3] == pytest.approx(drawn[:3], rel=0.02)
    far = log_expected_improvement(np.array([-40.0, -50.0]), np.ones(2), 0.0)
    assert np.isfinite(far).all() and far[0] > far[1]


@pytest.mark.parametrize("objectives", [2, 3])
def test_hypervolume_is_the_part_of_the_box_below(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    values, box = rng.random((12, objectives)), rng.random((200_000, objectives))
    below = np.any(np.all(box[:, None] <= values[None], axis=2), axis=1).mean()
    assert hypervolume(values, np.zeros(objectives)) == pytest.approx(below, abs=0.005)
    more = rng.random((6, objectives)) * 1.2
    added = [hypervolume(np.vstack([values, one]), np.zeros(objectives)) for one in more]
    gained = hypervolume_improvement(more, values, np.zeros(objectives))
    assert gained == pytest.approx(np.array(added) - hypervolume(values, np.zeros(objectives)))


def test_ranks() -> None:
    values = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0], [0.5, 0.5], [1.0, 1.0]])
    place = ranks(values)
    assert set(place[:3]) == {0, 1, 2} and place[2] == 2, "the middle of the front is less lonely than its ends"
    assert place[4] == 3 and place[3] == 4
    assert ranks(np.array([[1.0], [3.0], [2.0]])).tolist() == [2, 0, 1]
