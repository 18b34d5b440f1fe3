"""Optuna's samplers with a seed for each trial, so that a resumed study goes on as if it had not stopped."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class SeededSampler(optuna.samplers.BaseSampler):
    """A sampler that `make` makes anew, from a seed, for each trial and each parameter that it draws by itself.

    So proposals depend on `seed`, the trial's number and the other trials only, also where the process was killed
    between two parameters of a trial. For samplers that keep what they know in the study alone.
    """

    def __init__(self, make: Callable[[int], optuna.samplers.BaseSampler], seed: int):
        self._make, self._seed = make, seed
        self._made: tuple[int, optuna.samplers.BaseSampler] | None = None

    def _new(self, *numbers: int) -> optuna.samplers.BaseSampler:
        return self._make(int(np.random.SeedSequence([self._seed, *numbers]).generate_state(1)[0]))

    def _sampler(self, trial: FrozenTrial) -> optuna.samplers.BaseSampler:
        if self._made is None or self._made[0] != trial.number:
            self._made = trial.number, self._new(trial.number)
        return self._made[1]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._new(trial.number, zlib.crc32(param_name.encode()))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:  # fmt: skip
        self._sampler(trial).after_trial(study, trial, state, values)
