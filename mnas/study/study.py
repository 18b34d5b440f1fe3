"""The study: ask Optuna, evaluate, tell. Every finished trial is on disk before the next begins."""

from __future__ import annotations

import logging
import math
import random
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mnas.config import Objective
from mnas.errors import BadInput, MnasError
from mnas.estimators import Estimate, Estimator, make_estimate, never
from mnas.monitor.console import progress
from mnas.monitor.tensorboard import Seen, TensorBoard
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.space import SearchSpace
from mnas.study import objective
from mnas.study.constraints import NO_LIMITS, Limits
from mnas.study.progress import DRAW_EVERY_S, describe
from mnas.study.seeding import references
from mnas.study.storage import choices_of, open_storage
from mnas.study.trial import Trial
from mnas.training.distributed import SINGLE, ProcessGroup

log = logging.getLogger("mnas")

LATENCY_CONSTRAINT, LIMITS_CONSTRAINT = "latency", "limits"
MAX_IDLE = 12
"""Proposals in a row that need no evaluation, before one is made that does."""


@dataclass(frozen=True)
class Goal:
    """What the study maximises, and what it must not spend time on."""

    objective: Objective
    budget_ms: float | None
    """The largest, where there are several."""
    budgets_ms: tuple[float, ...] = ()
    """Several, ascending, where a winner is wanted for each."""

    @property
    def limit_ms(self) -> float:
        """Candidates slower than this are not evaluated."""
        return math.inf if self.budget_ms is None else self.budget_ms * self.objective.evaluate_up_to

    def reward(self, accuracy: float, latency_ms: float) -> float | None:
        """The single reward, or None where there are two objectives."""
        told = objective.values(self.objective, accuracy, latency_ms, self.budget_ms)
        return told[0] if len(told) == 1 else None


class Study:
    """An Optuna study over a space, kept in a run's folder.

    `fastest` is the space's fastest network that keeps the limits, `slowest_ms` bounds the hypervolume; candidates may
    be pruned after the step `prune_after` of their estimate.
    """

    def __init__(
        self, run: Run, space: SearchSpace, goal: Goal, *, sampler: optuna.samplers.BaseSampler, storage: str | None,
        seed: int, latency: Callable[[Architecture], float], num_classes: int, board: TensorBoard,
        fastest: Architecture, slowest_ms: float, limits: Limits = NO_LIMITS, prune_after: int = 0,
        callbacks: Sequence[Callable[[Trial], None]] = (),
    ):  # fmt: skip
        self.run, self.space, self.goal, self.latency, self.limits = run, space, goal, latency, limits
        self.trials = [Trial.from_json(record) for record in run.read_trials()]
        self._board, self._callbacks, self._num_classes = board, callbacks, num_classes
        self._fastest, self._slowest_ms, self._drawn = fastest, slowest_ms, 0.0
        self._rng = random.Random(f"{seed}/{len(self.trials)}")
        self._enqueued: dict[Architecture, str] = {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=self._opened(storage), study_name=self._name(storage), load_if_exists=True,
            sampler=sampler,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=prune_after),
            directions=objective.directions(goal.objective),  # type: ignore[arg-type]
        )
        self._reconcile()

    def _opened(self, storage: str | None) -> optuna.storages.BaseStorage:
        try:
            return open_storage(storage or self.run.storage_url)
        except BadInput as error:
            own = "; delete that file to go on: the finished trials are in trials.jsonl" if storage is None else ""
            raise BadInput(f"{error}{own}") from None

    def _name(self, storage: str | None) -> str:
        """In the run's own database always the same; in a shared one a name of its own."""
        if storage is None:
            return "mnas"
        name = self.run.state().study or f"{self.space.name}-{uuid.uuid4().hex[:8]}"
        self.run.update_state(study=name)
        return str(name)

    # --- what is known so far

    @property
    def evaluated(self) -> int:
        """Trials on which an estimate was spent."""
        return sum(trial.evaluated for trial in self.trials)

    def best(self) -> Trial | None:
        """The most accurate finished trial within the budget."""
        limit = self.goal.budget_ms or math.inf
        kept = [trial for trial in self._complete() if trial.latency_ms <= limit]
        return max(kept, key=lambda trial: (trial.accuracy or 0, -trial.latency_ms), default=None)

    def front(self) -> list[objective.Point]:
        return objective.front((trial.accuracy or 0, trial.latency_ms) for trial in self._complete())

    def _complete(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state == "complete"]

    def may_be_evaluated(self, arch: Architecture) -> bool:
        """Whether it is fast enough to be worth it, and keeps the limits."""
        return self.latency(arch) <= self.goal.limit_ms and self.limits.keeps(arch)

    # --- the loop

    def optimize(
        self, estimator: Estimator, *, trials: int | None, deadline: float | None, at_once: int = 1,
        group: ProcessGroup = SINGLE,
    ) -> None:  # fmt: skip
        """Evaluate until `trials` estimates are spent, `deadline` (time.monotonic) is past, or nothing new is left.

        Optuna is asked for `at_once` candidates before it is told of any; `group` share their estimates.
        """
        self._enqueue_references()
        began, before, idle = time.monotonic(), self.evaluated, 0
        with progress("search", 1.0) as shown:
            while (trials is None or self.evaluated < trials) and (deadline is None or time.monotonic() < deadline):
                if idle >= MAX_IDLE and not self._enqueue_new(deadline):
                    log.info("no further network that may be evaluated was found")
                    break
                left = at_once if trials is None else min(at_once, trials - self.evaluated)
                done = self._guarded(estimator, left, group)
                idle = 0 if any(trial.evaluated for trial in done) else idle % MAX_IDLE + len(done)
                part = self.evaluated / trials if trials else 0.0
                if deadline is not None:
                    part = max(part, (time.monotonic() - began) / max(1e-9, deadline - began))
                shown.update(min(1.0, part), 1.0, self._standing())
        self._draw()
        spent = self.evaluated - before
        log.info("search: %d candidates evaluated in %.0f s", spent, time.monotonic() - began)

    def _guarded(self, estimator: Estimator, count: int, group: ProcessGroup) -> list[Trial]:
        try:
            return self._some(estimator, count, group)
        except optuna.exceptions.StorageInternalError as error:
            raise MnasError(
                f"{self.run.folder / 'study.db'}: cannot be written ({str(error.__cause__ or error).splitlines()[0]}); "
                f"what was finished is kept: free some space, then mnas resume {self.run.folder}"
            ) from None

    def _some(self, estimator: Estimator, count: int, group: ProcessGroup) -> list[Trial]:
        """`count` proposals: asked, judged, written, told."""
        asked = [self._ask() for _ in range(count)]
        new = {arch: trial for trial, arch, _ in reversed(asked) if self._is_new(arch)}
        prunes = {arch: self._pruner(trial, arch) for arch, trial in new.items()}

        def estimate(arch: Architecture) -> Estimate:
            return make_estimate(estimator, arch, prunes.get(arch, never))

        archs = list(reversed(new))
        estimates = dict(zip(archs, group.map(estimate, archs), strict=True))
        trials = []
        for trial, arch, latency_ms in asked:
            first = arch in new and new[arch] is trial
            trials.append(self._judged(trial.number, arch, latency_ms, estimates[arch] if first else None))
            self.run.append_trial(trials[-1].to_json())
            self._tell(trials[-1])
            self.trials.append(trials[-1])
            self._show(trials[-1])
            for callback in self._callbacks:
                callback(trials[-1])
        return trials

    def _ask(self) -> tuple[optuna.trial.Trial, Architecture, float]:
        asked = self._study.ask()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            arch = self.space.suggest(asked)
        latency_ms = self.latency(arch)
        if self.goal.budget_ms is not None:
            # what may be evaluated is feasible to the sampler: within it, the objective alone decides
            asked.set_constraint(LATENCY_CONSTRAINT, latency_ms / self.goal.limit_ms - 1)
        if self.limits.each:
            asked.set_constraint(LIMITS_CONSTRAINT, self.limits.load(arch) - 1)
        return asked, arch, latency_ms

    def _is_new(self, arch: Architecture) -> bool:
        return self.may_be_evaluated(arch) and not any(t.evaluated and t.architecture == arch for t in self.trials)

    def _pruner(self, asked: optuna.trial.Trial, arch: Architecture) -> Callable[[int, float], bool]:
        latency_ms, is_reference = self.latency(arch), bool(self._enqueued.get(arch))

        def prune(step: int, accuracy: float) -> bool:
            reward = self.goal.reward(accuracy, latency_ms)
            if reward is None:
                return False
            asked.report(reward, step)
            return not is_reference and asked.should_prune()

        return prune

    def _judged(self, number: int, arch: Architecture, latency_ms: float, estimate: Estimate | None) -> Trial:
        """A proposal as a trial; without an estimate it was evaluated before, or may not be."""
        name = self._enqueued.get(arch, "")
        if estimate is not None:
            accuracy = estimate.accuracy
            reward = None if accuracy is None else self.goal.reward(accuracy, latency_ms)
            return Trial(
                number, estimate.state, arch, latency_ms, accuracy, reward, estimate.seconds, estimate.curve, name,
                estimate.fidelity,
            )  # fmt: skip
        same = next((trial for trial in self.trials if trial.evaluated and trial.architecture == arch), None)
        if same is None:
            return Trial(number, "over_budget", arch, latency_ms, name=name)
        fidelity = same.fidelity
        return Trial(number, "repeated", arch, latency_ms, same.accuracy, same.reward, name=name, fidelity=fidelity)

    def _tell(self, trial: Trial) -> None:
        same = trial.state == "repeated" and trial.accuracy is not None and self._was_complete(trial.architecture)
        if trial.state == "complete" or same:
            assert trial.accuracy is not None
            told = objective.values(self.goal.objective, trial.accuracy, trial.latency_ms, self.goal.budget_ms)
            self._study.tell(trial.number, told)
        elif trial.state == "failed":
            self._study.tell(trial.number, state=TrialState.FAIL)
        else:
            self._study.tell(trial.number, state=TrialState.PRUNED)

    def _was_complete(self, arch: Architecture) -> bool:
        return any(trial.architecture == arch for trial in self._complete())

    # --- proposals of our own

    def _enqueue_references(self) -> None:
        """The zoo's networks that lie in the space and may be evaluated: they are what to beat. Then the fastest one.

        After a kill, those that trials.jsonl lacks.
        """
        known = {trial.architecture for trial in self.trials}
        unasked = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        waiting = [choices_of(frozen) for frozen in unasked]
        for arch, name in [*references(self.space), (self._fastest, "")]:
            self._enqueued.setdefault(arch, name)
            genes = dict(self.space.encode(arch))
            if arch not in known and genes not in waiting and self.may_be_evaluated(arch):
                self._study.enqueue_trial(genes)

    def _enqueue_new(self, deadline: float | None) -> bool:
        """Enqueue a network that keeps the budget and was not evaluated, near the best ones; False if none is found."""
        known = {trial.architecture for trial in self.trials if trial.evaluated}
        if len(known) >= self.space.size:
            return False
        ranked = sorted(self._complete(), key=lambda trial: -(trial.reward or trial.accuracy or 0))
        parents = [trial.architecture for trial in ranked[:8]] or [self._fastest]
        for attempt in range(400):
            if deadline is not None and time.monotonic() > deadline:
                return True
            arch = self.space.mutate(self._rng.choice(parents), self._rng, rate=min(0.5, 0.05 + attempt / 400))
            if arch not in known and self.may_be_evaluated(arch):
                self._study.enqueue_trial(dict(self.space.encode(arch)))
                return True
        if self.space.size > 10_000:
            return False
        others = (arch for arch in self.space.enumerate() if arch not in known)
        new = next((arch for arch in others if self.may_be_evaluated(arch)), None)
        if new is not None:
            self._study.enqueue_trial(dict(self.space.encode(new)))
        return new is not None

    # --- after a kill

    def _reconcile(self) -> None:
        """Bring the study to what trials.jsonl says; a proposal that was cut off is asked for again."""
        written = {trial.number: trial for trial in self.trials}
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if frozen.number in written:
                self._tell(written[frozen.number])
            else:
                self._study.tell(frozen.number, state=TrialState.FAIL)
                if choices_of(frozen):
                    self._study.enqueue_trial(choices_of(frozen))
        # a loss of power may take the last trials of study.db, never those of trials.jsonl
        for number in range(len(self._study.get_trials(deepcopy=False)), max(written, default=-1) + 1):
            self._study.add_trial(self._frozen(written.get(number)))

    def _frozen(self, trial: Trial | None) -> FrozenTrial:
        """A finished trial as Optuna keeps it; a failed one in the place of a number that was never finished."""
        if trial is None or trial.accuracy is None or trial.state != "complete":
            return create_trial(state=TrialState.FAIL)
        told = objective.values(self.goal.objective, trial.accuracy, trial.latency_ms, self.goal.budget_ms)
        options = self.space.options(trial.architecture)
        distributions: dict[str, BaseDistribution] = {name: CategoricalDistribution(o) for name, o in options.items()}
        params = dict(self.space.encode(trial.architecture))
        return create_trial(state=TrialState.COMPLETE, values=told, params=params, distributions=distributions)

    # --- what is shown

    def _standing(self) -> str:
        best = self.best()
        if best is None:
            return f"{self.evaluated} candidates, nothing within the budget yet"
        reached = best.summary.removeprefix("accuracy ")
        return f"{self.evaluated} candidates, best {reached} at {best.latency_ms:.2f} ms"

    def _show(self, trial: Trial) -> None:
        if not trial.evaluated or trial.accuracy is None:
            return
        best = self.best()
        figures = {"trial/accuracy": trial.accuracy, "trial/latency_ms": trial.latency_ms}
        if trial.reward is not None:
            figures["trial/reward"] = trial.reward
        if best is not None and best.accuracy is not None:
            figures["best/feasible_accuracy"] = best.accuracy
        complete = [(other.accuracy or 0, other.latency_ms) for other in self._complete()]
        figures["best/hypervolume"] = objective.hypervolume(complete, self._slowest_ms)
        self._board.trial(trial.number, figures)
        counted = cost(trial.architecture, self._num_classes)
        figures = {tag.removeprefix("trial/"): value for tag, value in figures.items() if tag.startswith("trial/")}
        self._board.hparams(
            trial.number, describe(trial.architecture), figures | {"madds": counted.madds, "params": counted.params},
            trial.curve,
        )  # fmt: skip
        if time.monotonic() - self._drawn > DRAW_EVERY_S:
            self._draw()
        what = f" ({trial.name})" if trial.name else ""
        log.info(
            "trial %d%s: %s, %s, %.2f ms, %.1f s; %s", trial.number, what, trial.state, trial.summary, trial.latency_ms,
            trial.seconds, self._standing(),
        )  # fmt: skip


    def _draw(self) -> None:
        """The Pareto front as a picture; a picture costs as much as a hundred scalars."""
        seen = [Seen(trial.accuracy or 0, trial.latency_ms, trial.name) for trial in self._complete()]
        goal, points = self.goal, self.front()
        budgets = goal.budgets_ms or ([] if goal.budget_ms is None else [goal.budget_ms])
        knee = objective.knee(points) if points and objective.is_pareto(goal.objective) else None
        self._board.pareto(seen, points, budgets, self.evaluated, knee)
        self._drawn = time.monotonic()






