"""A search in a space without some choices: its plan, its trials, its rivals, and what a resume reads."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from small_search import QUICK, TINY_SPACE, guess, milliseconds, no_pictures

import mnas
from mnas.api import train_supernet
from mnas.errors import BadInput
from mnas.nn.weights import read_safetensors
from mnas.pipeline.context import space_of
from mnas.pipeline.races_file import races_of
from mnas.pipeline.supernet_source import shared_space, source_of
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace, load_space

NAMES = "se,hard_swish,kernel5"


def lacks(arch: Architecture) -> bool:
    """Whether a network has nothing of NAMES."""
    activations = {part.activation for part in (arch.stem, arch.head, *arch.blocks)}
    return activations == {"relu"} and not any(block.se or block.kernel == 5 for block in arch.blocks)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "tiny.yaml"
    path.write_text(TINY_SPACE)
    return path


@pytest.fixture(scope="module")
def done(tiny: Path) -> mnas.Result:
    with no_pictures():
        return mnas.search(
            space=tiny, without=NAMES, latency_ms=0.6, trials=4, estimator=guess, latency=milliseconds,
            run=tiny.parent / "run", sampler="random", set=QUICK | {"recipe.epochs": 1, "references": 2},
        )  # fmt: skip


def test_every_network_lacks_the_choices(done: mnas.Result) -> None:
    assert len(done.trials) >= 4
    assert all(lacks(trial.architecture) for trial in done.trials)
    assert lacks(done.winner.architecture)


def test_the_plan_says_the_space_and_its_size(done: mnas.Result, tiny: Path) -> None:
    log = (done.folder / "run.log").read_text()
    left = load_space(tiny).without(NAMES)
    assert f"space tiny without se, hard_swish, kernel5: {left.size:.3g} networks" in log
    assert "mobilenet_v3_small without se, hard_swish, kernel5 is not in the space" in log
    assert done.metrics["search"]["space"] == "tiny without se, hard_swish, kernel5"


def test_rivals_follow_and_say_so(done: mnas.Result) -> None:
    (entered, _), *_ = races_of(Run(done.folder)).values()
    rivals = [one for one in entered if one.kind == "reference"]
    assert rivals
    for rival in rivals:
        assert rival.name.startswith("mobilenet_v3_") and " without se, hard_swish" in rival.name
        assert lacks(rival.architecture)
    rows = list(csv.DictReader((done.folder / "leaderboard.csv").read_text().splitlines()))
    assert all(float(row["width"]) > 0 for row in rows if row["name"].startswith("mobilenet"))


def test_a_resume_has_the_narrowed_space(done: mnas.Result, tiny: Path) -> None:
    config = Run.open(done.folder).config()
    assert config.without == ("se", "hard_swish", "kernel5")
    assert space_of(config, None).file == load_space(tiny).without(NAMES).file


def test_a_baseline_stays_as_it_is_stated(tiny: Path, tmp_path: Path) -> None:
    with no_pictures():
        done = mnas.search(
            space=load_space(tiny), without=["kernel5"], latency_ms=0.6, trials=2, estimator=guess,
            latency=milliseconds, run=tmp_path / "run", baseline=["mobilenet_v3_small@0.35:32"],
            set=QUICK | {"recipe.epochs": 1, "references": 0},
        )  # fmt: skip
    assert done.metrics["networks"][1]["name"] == "mobilenet_v3_small@0.35:32"
    assert Run.open(done.folder).config().without == ("kernel5",)
    assert all(block.kernel == 3 for trial in done.trials for block in trial.architecture.blocks)


def search(space: Any, tmp_path: Path, **options: Any) -> str:
    """The refusal of a search; nothing may be left of it."""
    with pytest.raises(BadInput) as caught:
        mnas.search(space=space, latency_ms=5, run=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    return str(caught.value)


def test_what_cannot_be_left_out_is_refused_before_any_work(tiny: Path, tmp_path: Path) -> None:
    assert "did you mean 'kernel5'" in search(tiny, tmp_path, without="kernel4")
    assert "stage 1 of space 'tiny'" in search(tiny, tmp_path, without=["kernel3"])
    assert "--without se" in search(tiny, tmp_path, set={"without": "se"})


def test_a_supernet_has_the_narrowed_space_alone(tiny: Path, tmp_path: Path) -> None:
    recipe = {"supernet.epochs": 1, "supernet.images": 64, "supernet.batch_size": 16, "supernet.subnets": 1}
    facts = train_supernet(tmp_path / "shared", space=tiny, without=NAMES, resolution=[32], set=recipe)
    assert facts["space"] == "tiny without se, hard_swish, kernel5"
    weights = read_safetensors(tmp_path / "shared" / "checkpoints" / "supernet.safetensors")
    assert {weight.shape[-1] for weight in weights.values() if weight.ndim == 4} == {1, 3}
    assert not [name for name in weights if ".se." in name]
    space: SearchSpace = shared_space(source_of(tmp_path / "shared"))
    assert space.name == facts["space"]
    assert "another space" in search(tiny, tmp_path, supernet=tmp_path / "shared", estimator="supernet")
    assert "another space" in search(None, tmp_path, supernet=tmp_path / "shared", without="expand3")
