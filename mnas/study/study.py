"""The study: ask Optuna, evaluate, tell. Every finished trial is on disk before the next begins."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Sequence

import optuna

from mnas.estimators import Estimate, Estimator, make_estimate, never
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.database import PatientStorage
from mnas.study.failures import Failures
from mnas.study.objective import directions
from mnas.study.optuna_log import quiet_optuna
from mnas.study.problem import Problem
from mnas.study.proposal import Proposal, ask, evaluated_trial, pruner, unevaluated_trial
from mnas.study.schedule import Schedule
from mnas.study.seeding import enqueue, new_network, reference_networks
from mnas.study.storage import (
    open_study,
    reconcile,
    storage_errors,
    tell,
    unfinished,
    whole_study,
    written_trials,
)
from mnas.study.trial import Trial

log = logging.getLogger("mnas")

MAX_IDLE = 12
"""Proposals in a row without an evaluation, before a new network is enqueued."""
PARENTS = 8
"""Best networks, near which a new one is looked for."""


Callback = Callable[[Trial], None]
"""Called with each finished trial."""


class Study:
    """An Optuna study of a problem, kept in a run's folder. Its pruner may end an estimate after step `prune_after`."""

    @quiet_optuna()
    def __init__(
        self, run: Run, problem: Problem, sampler: optuna.samplers.BaseSampler, *,
        storage: PatientStorage | None = None, seed: int = 0, prune_after: int = 0,
    ):  # fmt: skip
        self.run, self.problem, self.trials = run, problem, written_trials(run)
        self._references = reference_networks(problem.space)
        self._seed, self._storage = seed, storage
        self._evaluated = {trial.architecture: trial for trial in self.trials if trial.evaluated}

        def open_it() -> optuna.Study:
            return open_study(
                run, storage, directions=directions(problem.objective), sampler=sampler, prune_after=prune_after
            )

        with storage_errors(run.folder, storage):
            self._optuna = open_it() if storage else whole_study(
                run, open_it, self.trials, problem.space, self._values
            )
            self._recover()

    def _recover(self) -> None:
        """Bring the study to what trials.jsonl holds."""
        reconcile(self._optuna, self.trials, self.problem.space, self._values)

    @property
    def optuna(self) -> optuna.Study:
        """Optuna's study."""
        return self._optuna

    def close(self) -> None:
        """Close the connections to a shared database."""
        if self._storage is not None:
            self._storage.close()

    @property
    def evaluated(self) -> int:
        """Number of trials for which an estimate was made."""
        return len(self._evaluated)

    @quiet_optuna()
    def optimize(self, estimator: Estimator, schedule: Schedule, callbacks: Sequence[Callback] = ()) -> None:
        """Evaluate until the schedule ends or no network is left that may be evaluated; callbacks get each trial.

        Raises MnasError where several estimates in a row have failed.
        """
        failures = Failures()
        with storage_errors(self.run.folder, self._storage):
            self._enqueue_first()
            cut_off = unfinished(self._optuna)
            count = self._rest_of_batch(schedule)
            while count:
                if self._idle >= MAX_IDLE and not cut_off and not self._enqueue_new(schedule):
                    break
                again, cut_off = cut_off[:count], cut_off[count:]
                proposals = [ask(self._optuna, self.problem, frozen) for frozen in again]
                proposals += [ask(self._optuna, self.problem) for _ in range(count - len(again))]
                estimates = self._estimates(proposals, estimator, schedule)
                for proposal in proposals:  # of equal networks, the first one has the estimate
                    trial = self._finish(proposal, estimates.pop(proposal.architecture, None))
                    for callback in callbacks:
                        callback(trial)
                    failures.add(trial)
                count = schedule.batch(self.evaluated)

    def _rest_of_batch(self, schedule: Schedule) -> int:
        """How many networks to propose first, so that batches are those of a run that was not stopped."""
        began = evaluated = 0
        while (count := schedule.batch(evaluated)) and began + count <= len(self.trials):
            evaluated += sum(trial.evaluated for trial in self.trials[began : began + count])
            began += count
        return count and began + count - len(self.trials)

    @property
    def _idle(self) -> int:
        """Proposals since the last evaluation."""
        return sum(1 for _ in itertools.takewhile(lambda trial: not trial.evaluated, reversed(self.trials)))

    def _estimates(
        self, proposals: Sequence[Proposal], estimator: Estimator, schedule: Schedule
    ) -> dict[Architecture, Estimate]:
        """Estimates of the proposed networks that are new and may be evaluated."""
        new: dict[Architecture, Proposal] = {}
        for proposal in proposals:
            if self._earlier(proposal.architecture) is None and self.problem.allows(proposal.architecture):
                new.setdefault(proposal.architecture, proposal)

        def estimate(arch: Architecture) -> Estimate:
            prune = pruner(new[arch], self.problem, may_prune=arch not in self._references)
            # workers cannot prune: with several processes, nobody does, so that equal candidates fare equally
            return make_estimate(estimator, arch, prune if schedule.group.size == 1 else never)

        return dict(zip(new, schedule.group.map(estimate, list(new)), strict=True))

    def _finish(self, proposal: Proposal, estimate: Estimate | None) -> Trial:
        """Record a proposal's trial on disk and report it to Optuna."""
        earlier, name = self._earlier(proposal.architecture), self._references.get(proposal.architecture, "")
        if estimate is None:
            trial = unevaluated_trial(proposal, earlier, name)
        else:
            trial = evaluated_trial(proposal, estimate, self.problem, name)
        self.run.append_trial(trial.to_json())
        if trial.evaluation.error:
            proposal.trial.set_user_attr("error", trial.evaluation.error)
        tell(self._optuna, trial, self._values(trial))
        self._remember(trial)
        return trial

    def _remember(self, trial: Trial) -> None:
        self.trials.append(trial)
        if trial.evaluated:
            self._evaluated.setdefault(trial.architecture, trial)

    def _values(self, trial: Trial) -> list[float] | None:
        """Objective values of a network that was evaluated to the end, by this trial or an earlier one."""
        evaluated = self._earlier(trial.architecture) if trial.state == "repeated" else trial
        if evaluated is None or evaluated.state != "complete" or trial.accuracy is None:
            return None
        return self.problem.values(trial.accuracy, trial.latency_ms)

    def _earlier(self, arch: Architecture) -> Trial | None:
        """The trial that evaluated `arch`."""
        return self._evaluated.get(arch)

    def _known(self) -> set[Architecture]:
        """Networks that were evaluated."""
        return set(self._evaluated)

    def _enqueue_first(self) -> None:
        """Enqueue the reference networks and the fastest one, unless proposed before or not to be evaluated."""
        proposed = {trial.architecture for trial in self.trials}
        first = [arch for arch in [*self._references, self.problem.fastest] if arch not in proposed]
        enqueue(self._optuna, self.problem.space, filter(self.problem.allows, first))

    def _enqueue_new(self, schedule: Schedule) -> bool:
        """Enqueue a network near the best ones that was not evaluated; False where none is found."""
        space = self.problem.space
        complete = [trial for trial in self.trials if trial.state == "complete"]
        complete.sort(key=lambda trial: (trial.accuracy or 0) if trial.reward is None else trial.reward, reverse=True)
        parents = [trial.architecture for trial in complete[:PARENTS]] or [self.problem.fastest]
        rng = random.Random(f"{self._seed}/{len(self.trials)}")
        arch = new_network(space, parents, self._known(), self.problem.allows, rng, lambda: schedule.is_late)
        if arch is not None:
            enqueue(self._optuna, space, [arch])
        elif not schedule.is_late:
            log.info("found no further network that may be evaluated")
        return arch is not None
