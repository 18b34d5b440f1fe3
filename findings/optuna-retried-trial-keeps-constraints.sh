#!/bin/sh
# optuna 5.0.0: a trial whose worker died is run once more by the retry callback, with the constraint values that the dead
# worker had set. Trial.set_constraint of the second run is ignored with a UserWarning, so that a constraint that is
# measured (a latency on a busy machine, say) keeps the first value: here the second run is feasible, the study says that
# there is no feasible trial. The values are copied with the trial's system attributes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check optuna==5.0.0
cat > "$folder/worker.py" <<'PY'
import os
import signal
import sys
import time
import warnings

import optuna
from optuna.storages import RDBStorage
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
role, path = sys.argv[1:]
storage = RDBStorage(
    f"sqlite:///{path}", heartbeat_interval=1, grace_period=2, heartbeat_stale_trial_callback=Retry(max_retry=1)
)
study = optuna.create_study(study_name="s", storage=storage, load_if_exists=True)
said = []


def objective(trial):
    trial.suggest_float("x", 0, 1)
    if role == "dies":
        trial.set_constraint("latency", 1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trial.set_constraint("latency", -1.0)
    said.extend(str(one.message) for one in caught)
    return 0.0


if role == "retries":
    time.sleep(4)
study.optimize(objective, n_trials=1)
states = [(trial.state.name, trial.constraints) for trial in study.get_trials()]
print(states)
assert states == [("FAIL", {"latency": 1.0}), ("COMPLETE", {"latency": 1.0})]
assert len(said) == 1 and "ignored" in said[0], said
try:
    study.best_trial
except ValueError as error:
    print(error)
else:
    raise AssertionError("a feasible trial")
PY
"$folder/venv/bin/python" "$folder/worker.py" dies "$folder/study.db" || true
"$folder/venv/bin/python" "$folder/worker.py" retries "$folder/study.db" || { echo "this has changed"; exit 1; }
