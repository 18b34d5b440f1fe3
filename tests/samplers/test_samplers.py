"""Samplers by name, and the package as an attribute of mnas."""

from __future__ import annotations

import subprocess
import sys

import optuna
import pytest
from layered_study import accuracy, network

import mnas
from mnas.samplers import SAMPLERS, make_sampler


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_by_name(name: str) -> None:
    study = optuna.create_study(sampler=make_sampler(name, 0), direction="maximize")
    study.optimize(lambda trial: accuracy(network(trial)), n_trials=3)
    assert len(study.trials) == 3


def test_an_unknown_sampler_names_the_nearest() -> None:
    with pytest.raises(mnas.BadInput, match=r"'nsga'.*'nsga2'"):
        make_sampler("nsga", 0)


def test_samplers_are_an_attribute_of_mnas_and_imported_when_needed() -> None:
    code = (
        "import sys, mnas; before = [name for name in ('torch', 'optuna', 'sklearn') if name in sys.modules]; "
        "print(before, mnas.samplers.PredictorSampler.__name__, mnas.samplers.EvolutionSampler.__name__)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["[]", "PredictorSampler", "EvolutionSampler"]
