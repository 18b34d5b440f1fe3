"""The sampler of a search knows the space, the cutoff and the constraints before the first trial."""

from __future__ import annotations

import random

import optuna
import pytest
from small_study import at_most_params, problem_of, tiny_space

from mnas.samplers import SAMPLERS
from mnas.study.optuna_log import experimental_features
from mnas.study.sampler import example, search_sampler


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", ["predictor", "evolution"])
def test_proposals_satisfy_what_is_known(name: str, quick: bool) -> None:
    space = tiny_space()
    problem = problem_of(space, budgets_ms=(0.4,), constraints=at_most_params(space, 0.5))
    study = optuna.create_study(sampler=search_sampler(name, problem, seed=0, quick=quick))
    proposed = []
    for number in range(6):
        with experimental_features():
            trial = study.ask()
            proposed.append(space.suggest(trial))
        study.tell(trial, number)
    assert all(problem.constraints.satisfied_by(arch) for arch in proposed)
    if quick:
        assert all(problem.allows(arch) for arch in proposed)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_made(name: str) -> None:
    sampler = search_sampler(name, problem_of(tiny_space()), seed=0, quick=True)
    assert isinstance(sampler, optuna.samplers.BaseSampler)


def test_an_example_has_the_choices_of_a_network() -> None:
    frozen = example(tiny_space(), random.Random(0))
    assert tiny_space().decode(frozen.params) in tiny_space()
    assert set(frozen.distributions) == set(frozen.params)
