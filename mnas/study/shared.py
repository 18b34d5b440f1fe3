"""A study that several processes share: each takes tickets and evaluates them; the main one keeps count and writes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from mnas.errors import BadInput, MnasError
from mnas.estimators import Estimator, make_estimate
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study import tickets
from mnas.study.database import PatientStorage
from mnas.study.failures import Failures
from mnas.study.optuna_log import quiet_optuna
from mnas.study.problem import Problem
from mnas.study.proposal import evaluated_trial, proposed, pruner, unevaluated_trial
from mnas.study.schedule import Schedule
from mnas.study.seeding import reference_networks
from mnas.study.storage import add_lost, choices_of, storage_errors, tell
from mnas.study.study import MAX_IDLE, Callback, Study
from mnas.study.trial import Trial

log = logging.getLogger("mnas")

AHEAD = 32
"""Tickets that wait at most: more would make each look at the study slow."""
POLL_S = 0.5
"""Between two looks at a study without a ticket."""


class Evaluator:
    """One process's part of a shared study: it takes a ticket, evaluates its network and tells the result."""

    def __init__(self, study: optuna.Study, storage: PatientStorage, problem: Problem, estimator: Estimator):
        self._study, self._storage, self._problem, self._estimator = study, storage, problem, estimator
        self._reader, self._references = tickets.TicketReader(study), reference_networks(problem.space)

    def evaluate_next(self, after_step: Callable[[], None] = lambda: None) -> Trial | None:
        """The next ticket's trial; None where it has none. `after_step` is called while it is estimated."""
        ticket = tickets.take(self._study, self._storage)
        if ticket is None:
            return None
        with tickets.heartbeat(self._storage, ticket._trial_id):
            try:
                return self._evaluated(ticket, after_step)
            except UpdateFinishedTrialError:  # this process fell silent for too long
                log.warning("trial %d: is another process's by now; it is left to that one", ticket.number)
                return None
            except BaseException as error:
                interrupted = isinstance(error, KeyboardInterrupt)
                tickets.give_back(self._study, self._storage, ticket._trial_id, interrupted=interrupted)
                raise

    def _evaluated(self, ticket: optuna.trial.Trial, after_step: Callable[[], None]) -> Trial:
        proposal = proposed(ticket, self._problem)
        arch, now = proposal.architecture, self._reader.read()
        name = self._references.get(arch, "")
        earlier = next((trial for trial in now.finished if trial.evaluated and trial.architecture == arch), None)
        if earlier is not None or not self._problem.allows(arch):
            trial = unevaluated_trial(proposal, earlier, name)
        elif any(other.number < ticket.number and other.params == ticket.params for other in now.running):
            trial = Trial(ticket.number, "repeated", arch, proposal.latency_ms, name=name)
        else:
            ends = pruner(proposal, self._problem, may_prune=arch not in self._references)

            def after(step: int, accuracy: float) -> bool:
                ended = ends(step, accuracy)
                after_step()
                return ended

            trial = evaluated_trial(proposal, make_estimate(self._estimator, arch, after), self._problem, name)
        values = _values(self._problem, trial, earlier)
        ticket.set_user_attr(tickets.RECORD, trial.to_json())
        tell(self._study, trial, values)
        return trial


def _values(problem: Problem, trial: Trial, earlier: Trial | None) -> list[float] | None:
    evaluated = earlier if trial.state == "repeated" else trial
    if evaluated is None or evaluated.state != "complete" or trial.accuracy is None:
        return None
    return problem.values(trial.accuracy, trial.latency_ms)


class SharedStudy(Study):
    """The study of a run in a database where other processes evaluate trials too, seen from its main process."""

    _storage: PatientStorage

    def __init__(
        self, run: Run, problem: Problem, sampler: optuna.samplers.BaseSampler, *, storage: PatientStorage,
        seed: int = 0, prune_after: int = 0,
    ):  # fmt: skip
        self._given_up = set[int]()
        super().__init__(run, problem, sampler, storage=storage, seed=seed, prune_after=prune_after)
        self._reader = tickets.TicketReader(self._optuna)

    def _recover(self) -> None:
        """What other processes run goes on; only what the database lost is added."""
        add_lost(self._optuna, self.trials, self.problem.space, self._values)

    @quiet_optuna()
    def optimize(
        self, estimator: Estimator, schedule: Schedule, callbacks: Sequence[Callback] = (), *, takes: bool = True
    ) -> None:
        """Keep the tickets until the schedule ends, and evaluate some of them here unless this process `takes` none.

        Raises MnasError where several estimates in a row have failed, on any machine.
        """
        own = Evaluator(self._optuna, self._storage, self.problem, estimator)
        self._exhausted, self._failures = False, Failures()

        def keep() -> bool:
            return self._keep(schedule, callbacks)

        def keep_meanwhile() -> None:
            keep()

        with storage_errors(self.run.folder, self._storage):
            self._enqueue_first()
            while keep():
                if not takes or own.evaluate_next(keep_meanwhile) is None:
                    time.sleep(POLL_S)

    def _keep(self, schedule: Schedule, callbacks: Sequence[Callback]) -> bool:
        """Write what is finished, free what is dead, add or withdraw tickets; whether something is left to do."""
        tickets.free_dead(self._optuna, self._storage)
        now = self._reader.read()
        try:
            self._write(now, callbacks)
        except MnasError:
            tickets.withdraw(self._optuna, now.waiting)
            raise
        spent = self.evaluated + len(self._given_up)
        wanted = AHEAD if schedule.trials is None else min(AHEAD, schedule.trials - spent - len(now.running))
        wanted = 0 if schedule.is_late or self._exhausted else max(0, wanted)
        if self._idle >= MAX_IDLE:
            wanted = min(wanted, 1)  # what is new changes with each
        if len(now.waiting) > wanted:
            tickets.withdraw(self._optuna, now.waiting[wanted:])
        elif len(now.waiting) < wanted:
            if self._idle < MAX_IDLE:
                tickets.add(self._optuna, wanted - len(now.waiting))
            else:
                self._exhausted = not self._enqueue_new(schedule) and not now.running
        return bool(wanted or now.running)

    def _write(self, now: tickets.Tickets, callbacks: Sequence[Callback]) -> None:
        """Add what is finished to trials.jsonl; of equal networks that ran at the same time the first one counts."""
        written = {trial.number for trial in self.trials}
        failed = [self._failed(frozen) for frozen in now.given_up if frozen.number not in written | self._given_up]
        for trial in [*now.finished, *filter(None, failed)]:
            if trial.number in written:
                continue
            earlier = self._earlier(trial.architecture) if trial.evaluated else None
            if earlier is not None:
                trial = Trial(
                    trial.number, "repeated", trial.architecture, trial.latency_ms, earlier.accuracy, earlier.reward,
                    trial.name,
                )  # fmt: skip
            self.run.append_trial(trial.to_json())
            self._remember(trial)
            for callback in callbacks:
                callback(trial)
            self._failures.add(trial)

    def _failed(self, frozen: optuna.trial.FrozenTrial) -> Trial | None:
        """The failed trial of a ticket whose processes ended each time; None where its network was not chosen yet."""
        log.warning("trial %d: its process ended again; it counts as failed", frozen.number)
        try:
            arch = self.problem.space.decode(frozen.params)
        except BadInput:
            self._given_up.add(frozen.number)
            return None
        return Trial(frozen.number, "failed", arch, self.problem.latency(arch))

    def _known(self) -> set[Architecture]:
        """Networks that were evaluated, or are being."""
        known = super()._known()
        for frozen in self._reader.read().running:
            try:
                known.add(self.problem.space.decode(choices_of(frozen)))
            except BadInput:  # its network is not chosen yet
                continue
        return known
