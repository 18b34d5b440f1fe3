"""A study that processes share, in PostgreSQL and SQLite: no trial is lost or doubled, and none is too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from postgresql import Server, running_server
from shared_processes import NAME, Slow, close_all, main_process, opened, schedule, workers
from small_study import milliseconds, problem_of, tiny_space

from mnas.errors import BadInput, MnasError
from mnas.estimators import Report
from mnas.run import Run
from mnas.samplers import make_sampler
from mnas.space.architecture import Architecture
from mnas.study import tickets
from mnas.study.failures import FAILURES
from mnas.study.shared import Evaluator, SharedStudy
from mnas.study.storage import written_trials
from mnas.training.loop import Diverged


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.db"
    started: Server = request.getfixturevalue("server")
    started.drop_all()
    return started.url


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / NAME).mkdir()
    return Run(tmp_path / NAME)


def checked(study: SharedStudy, run: Run, trials: int) -> None:
    """As many networks as were asked for, each once; trials.jsonl and the database agree."""
    written = written_trials(run)
    evaluated = [trial for trial in written if trial.evaluated]
    assert len(evaluated) == trials
    assert len({trial.architecture for trial in evaluated}) == trials
    assert len({trial.number for trial in written}) == len(written)
    assert written == study.trials
    frozen = study.optuna.get_trials(deepcopy=False)
    assert not [trial for trial in frozen if trial.state in (TrialState.RUNNING, TrialState.WAITING)]
    for trial in written:
        if trial.state == "complete":
            assert frozen[trial.number].values == [trial.reward]


# --- one process


def test_one_process_evaluates_what_was_asked_for(url: str, run: Run, tmp_path: Path) -> None:
    study, seen = main_process(url, run), list[int]()
    study.optimize(Slow(tmp_path / "notes"), schedule(5), [lambda trial: seen.append(trial.number)])
    checked(study, run, 5)
    assert seen == [trial.number for trial in study.trials]
    assert len((tmp_path / "notes").read_text().split()) == 5
    again = main_process(url, run)
    again.optimize(Slow(tmp_path / "notes"), schedule(7))
    checked(again, run, 7)


def test_a_small_space_ends(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnas.study.shared.MAX_IDLE", 3)
    url, space = f"sqlite:///{tmp_path}/shared.db", tiny_space()
    latencies = sorted(map(milliseconds, space.enumerate()))
    problem = problem_of(space, budgets_ms=(latencies[1] / 1.05,))
    study = SharedStudy(run, problem, make_sampler("random", 0), storage=opened(url))
    study.optimize(Slow(tmp_path / "notes"), schedule(10_000))
    allowed = sum(map(problem.allows, space.enumerate()))
    assert 2 <= allowed <= 6
    checked(study, run, allowed)


def test_candidates_that_fail_one_after_another_stop_it(run: Run, tmp_path: Path) -> None:
    class Diverging(Slow):
        def __call__(self, arch: Architecture, report: Report) -> float:
            raise Diverged("the loss is nan")

    study = main_process(f"sqlite:///{tmp_path}/shared.db", run)
    with pytest.raises(MnasError, match="the loss is nan"):
        study.optimize(Diverging(tmp_path / "notes"), schedule(30))
    assert [trial.state for trial in study.trials if trial.evaluated] == ["failed"] * FAILURES
    assert not study.optuna.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_a_study_of_another_run_is_not_taken(url: str, run: Run, tmp_path: Path) -> None:
    main_process(url, run)
    other = Run(tmp_path / "elsewhere" / NAME)
    other.folder.mkdir(parents=True)
    with pytest.raises(BadInput, match="another run"):
        main_process(url, other)
    assert other.state().study is None


# --- tickets


def evaluator(study: SharedStudy, url: str, estimate: Callable[..., float]) -> Evaluator:
    storage = opened(url)
    shared = optuna.load_study(study_name=NAME, storage=storage, sampler=make_sampler("predictor", 1))
    estimate.fidelity, estimate.images = "own", None  # type: ignore[attr-defined]
    return Evaluator(shared, storage, study.problem, estimate)  # type: ignore[arg-type]


def interrupted(arch: object, report: object) -> float:
    raise KeyboardInterrupt


def broken(arch: object, report: object) -> float:
    raise MnasError("out of order")


@pytest.mark.parametrize(("estimate", "error", "times"), [(interrupted, KeyboardInterrupt, 5), (broken, MnasError, 2)])
def test_a_ticket_that_is_not_ended(
    url: str, run: Run, tmp_path: Path, estimate: Callable[..., float], error: type[BaseException], times: int
) -> None:
    """One that is given back is run again as often as needed; one whose process breaks, once."""
    study = main_process(url, run)
    tickets.add(study.optuna, 1)
    other, storage = evaluator(study, url, estimate), opened(url)
    for _ in range(times):
        with pytest.raises(error):
            other.evaluate_next()
        tickets.free_dead(study.optuna, storage)
    now = tickets.TicketReader(study.optuna).read()
    assert (len(now.waiting), len(now.given_up)) == ((1, 0) if error is KeyboardInterrupt else (0, 1))
    params = [trial.params for trial in study.optuna.get_trials()]
    assert all(one == params[0] for one in params), "the same network"
    study.optimize(Slow(tmp_path / "notes"), schedule(3))
    checked(study, run, 3)
    assert sum(trial.state == "failed" for trial in study.trials) == (error is MnasError)


def test_too_many_tickets_are_withdrawn(url: str, run: Run, tmp_path: Path) -> None:
    study = main_process(url, run)
    tickets.add(study.optuna, 12)  # as after an answer that got lost
    study.optimize(Slow(tmp_path / "notes"), schedule(4))
    checked(study, run, 4)


# --- many processes


def test_workers_share_the_trials(url: str, run: Run, tmp_path: Path) -> None:
    study, notes, takes = main_process(url, run), tmp_path / "notes", url.startswith("sqlite")
    with workers(2, url, notes, 0.3):
        tickets.add(study.optuna, 2)
        wait_for(notes.exists)
        study.optimize(Slow(tmp_path / "own", 0.3), schedule(8), takes=takes)
    checked(study, run, 8)
    others = len(notes.read_text().split())
    assert others >= (1 if takes else 8), others


def test_sixteen_start_at_the_same_instant(url: str, run: Run, tmp_path: Path) -> None:
    """In an empty database, whose tables and study are not there yet."""
    count = 16 if url.startswith("postgresql") else 4  # SQLite has one lock for all
    with workers(count, url, tmp_path / "notes", at_once=True) as started:
        time.sleep(0.3)
        study = main_process(url, run)
        study.optimize(Slow(tmp_path / "notes"), schedule(16), takes=False)
        assert all(process.is_alive() for process in started)
    checked(study, run, 16)


def test_a_killed_worker_frees_its_trial(server: Server, run: Run, tmp_path: Path) -> None:
    server.drop_all()
    study, notes = main_process(server.url, run), tmp_path / "notes"
    tickets.add(study.optuna, 1)
    with workers(1, server.url, notes, 60.0) as (victim,):
        wait_for(lambda: notes.exists() and notes.read_text())
        victim.kill()
        victim.join()
    lost = notes.read_text().split()
    assert len(lost) == 1
    study.optimize(Slow(notes), schedule(3))
    checked(study, run, 3)
    assert notes.read_text().split().count(lost[0]) == 2, "run once more"
    (first,) = [trial for trial in study.optuna.get_trials() if trial.state == TrialState.FAIL]
    retried = [trial for trial in study.optuna.get_trials() if trial.system_attrs.get("failed_trial") == first.number]
    assert [trial.state for trial in retried] == [TrialState.COMPLETE]


def wait_for(what: Callable[[], Any]) -> None:
    ends = time.monotonic() + 30
    while not what():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.02)


# --- a server that goes away


def test_a_restart_is_waited_out(server: Server, run: Run, tmp_path: Path) -> None:
    server.drop_all()
    study, notes = main_process(server.url, run), tmp_path / "notes"
    restarts = threading.Thread(target=lambda: [restarted(server, how) for how in ("immediate", "fast", "immediate")])
    with workers(3, server.url, notes, 0.2) as started:
        restarts.start()
        study.optimize(Slow(notes, 0.2), schedule(24))
        restarts.join()
        assert all(process.is_alive() for process in started)
    checked(study, run, 24)
    assert len(notes.read_text().split()) <= 24 + 12, "at most one estimate of each process is made again at a restart"


def restarted(server: Server, how: str) -> None:
    time.sleep(0.4)
    server.stop(how)
    time.sleep(0.3)
    server.start()


def test_a_server_that_stays_away_is_named_without_its_password(server: Server) -> None:
    server.drop_all()
    storage = opened(server.url, patience_s=0.5)
    server.stop()
    try:
        with pytest.raises(MnasError, match="mnas resume") as raised:
            storage.get_all_studies()
    finally:
        server.start()
    assert "s3cret" not in str(raised.value) and "nas:***@" in str(raised.value)
    assert storage.get_all_studies() == []
