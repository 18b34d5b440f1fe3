"""The tickets of a shared study: waiting trials, each to be evaluated once by whichever process takes it.

The main process alone adds tickets, so that no more networks are evaluated than were asked for. Taking one is Optuna's
change of a trial's state from waiting to running, which the database grants to one process.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState, create_trial

from mnas.errors import MnasError
from mnas.study.database import PatientStorage
from mnas.study.optuna_log import experimental_features
from mnas.study.trial import Trial

log = logging.getLogger("mnas")

RECORD = "trial"
"""The user attribute of a finished trial that holds its line of trials.jsonl."""
GIVEN_BACK = "given_back"
"""The user attribute of a trial whose process was interrupted: that counts as no failure of the trial."""
REPLACES = "replaces"
"""The system attribute of a ticket that is in place of one that was given back: that one's number."""
MAX_RETRIES = 1
"""How often a trial is run again whose process died."""


@dataclass(frozen=True)
class Tickets:
    """The trials of a shared study at one moment."""

    finished: list[Trial]
    """Those with a result, by number."""
    waiting: list[FrozenTrial]
    running: list[FrozenTrial]
    dead: list[FrozenTrial]
    """Those whose process ended, and that no ticket replaces yet."""

    @property
    def retried(self) -> list[FrozenTrial]:
        """The dead ones that are run again."""
        return [trial for trial in self.dead if _may_retry(trial)]

    @property
    def given_up(self) -> list[FrozenTrial]:
        """The dead ones that are not."""
        return [trial for trial in self.dead if not _may_retry(trial)]


def _may_retry(trial: FrozenTrial) -> bool:
    return GIVEN_BACK in trial.user_attrs or len(trial.system_attrs.get("retry_history", [])) < MAX_RETRIES


class TicketReader:
    """Reads the tickets of a study; what is finished is parsed once."""

    def __init__(self, study: optuna.Study):
        self._study, self._finished = study, dict[int, Trial]()

    def read(self) -> Tickets:
        """The tickets as they are now."""
        trials = self._study.get_trials(deepcopy=False)
        replaced: set[int] = set()
        for trial in trials:
            replaced.update(trial.system_attrs.get("retry_history", []))
            replaced.add(trial.system_attrs.get(REPLACES, -1))
        dead = []
        for trial in trials:
            if trial.number in self._finished or not trial.state.is_finished() or trial.number in replaced:
                continue
            record = trial.user_attrs.get(RECORD)
            if record is not None and record["number"] == trial.number and _agree(trial, record["state"]):
                self._finished[trial.number] = Trial.from_json(record)
            elif trial.state == TrialState.FAIL and "fixed_params" in trial.system_attrs:
                dead.append(trial)
        finished = [self._finished[number] for number in sorted(self._finished)]
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        return Tickets(finished, waiting, running, dead)


def _agree(trial: FrozenTrial, state: str) -> bool:
    """Whether a trial ended as its record says; otherwise it was taken for dead before its process told the end."""
    return (trial.state == TrialState.FAIL) == (state == "failed")


# --- what the main process does


def add(study: optuna.Study, count: int) -> None:
    """Add tickets for whatever the sampler proposes."""
    for _ in range(count):
        study.enqueue_trial({})


def withdraw(study: optuna.Study, waiting: Sequence[FrozenTrial]) -> None:
    """Take tickets back that nobody has taken."""
    for trial in waiting:
        if _take(study, trial):
            study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED)


def free_dead(study: optuna.Study, storage: PatientStorage) -> None:
    """End the trials whose processes show no sign of life, and enqueue again those that may be run again."""
    with experimental_features():
        if not storage.just_back:
            optuna.storages.fail_stale_trials(study)
        again = RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)
        for trial in map(copy.deepcopy, TicketReader(study).read().retried):
            if GIVEN_BACK in trial.user_attrs:
                del trial.user_attrs[GIVEN_BACK]
                study.add_trial(create_trial(
                    state=TrialState.WAITING, params=trial.params, distributions=trial.distributions,
                    user_attrs=trial.user_attrs, system_attrs={**trial.system_attrs, REPLACES: trial.number},
                ))  # fmt: skip
            else:
                log.warning("trial %d: its process ended or fell silent; it is run again", trial.number)
                again(study, trial)


# --- what each process does


def take(study: optuna.Study, storage: PatientStorage) -> optuna.trial.Trial | None:
    """A ticket that is this process's from now on, as a trial; None where none is waiting."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        storage.record_heartbeat(trial._trial_id)  # before it runs: without one, nobody would ever miss it
        if _take(study, trial):
            study._thread_local.cached_all_trials = None  # as Study.ask does: samplers read the study anew
            return optuna.trial.Trial(study, trial._trial_id)
    return None


def _take(study: optuna.Study, trial: FrozenTrial) -> bool:
    try:
        return study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    except UpdateFinishedTrialError:
        return False


def give_back(study: optuna.Study, storage: PatientStorage, trial_id: int, *, interrupted: bool) -> None:
    """End a trial without a result, so that the main process enqueues it again. This process ends: it waits no more."""
    storage.patience_s = 0.0
    try:
        if interrupted:
            study._storage.set_trial_user_attr(trial_id, GIVEN_BACK, True)
        study._storage.set_trial_state_values(trial_id, TrialState.FAIL)
    except (UpdateFinishedTrialError, optuna.exceptions.StorageInternalError, MnasError):
        pass  # it is freed once its signs of life are missed


@contextmanager
def heartbeat(storage: PatientStorage, trial_id: int) -> Iterator[None]:
    """Show a sign of life of a running trial for the length of the block.

    Optuna's own thread ends with the first connection that breaks; this one waits as the storage does.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(storage.heartbeat_interval):
            try:
                storage.record_heartbeat(trial_id)
            except (optuna.exceptions.StorageInternalError, MnasError):
                return  # the trial's own next operation says why

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
