"""A run's supernet: trained once, found again, watched, asked."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from damage import KINDS, damage
from ofa_names import ofa_named
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mnas
from mnas.config import Recipe, RunConfig, SupernetRecipe, Target, load_objective
from mnas.data.division import write_division
from mnas.data.sources import load_data
from mnas.data.splits import limited
from mnas.errors import BadInput
from mnas.estimators import supernet as supernet_estimator
from mnas.estimators.weight_sharing import EVALUATIONS, WeightSharing
from mnas.monitor.tensorboard import TensorBoard
from mnas.nn.network import Network
from mnas.nn.origin import Origin, read_origin
from mnas.nn.starting import outsiders_start
from mnas.nn.supernet import Supernet, has_kernel_transforms
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace, load_space
from mnas.tasks.classification import Classification
from mnas.training.sizes import TrainingSizes
from mnas.training.speed import supernet_speed
from mnas.training.supernet import SupernetTraining
from mnas.training.trainer import Trainer

CPU = torch.device("cpu")
RECIPE = SupernetRecipe(epochs=2, batch_size=16, subnets=1)
FINETUNE = Recipe(epochs=1, batch_size=16, lr=2.0, dropout=0.0)


@pytest.fixture(scope="module")
def data_trainer() -> Trainer:
    digits = load_data("digits")
    parts = {name: limited(getattr(digits, name), count, 0) for name, count in (("train", 170), ("val", 288))}
    return Trainer(Classification(replace(digits, **parts)), TrainingSizes(base=48, proxy=16), CPU, 0)


@pytest.fixture
def space(tiny: Path) -> SearchSpace:
    return load_space(tiny)


@pytest.fixture
def sharing(space: SearchSpace, data_trainer: Trainer, tmp_path: Path) -> Callable[..., WeightSharing]:
    def make(folder: str = "run", origins: tuple[Origin, ...] = (), **changes: Any) -> WeightSharing:
        config = RunConfig(
            space=space.name, targets=(Target(latency_ms=15.0),), objective=load_objective("mnasnet"), **changes
        )
        (tmp_path / folder).mkdir(exist_ok=True)
        trainer = replace(data_trainer, seed=config.seed, origins=origins)
        return WeightSharing(Run(tmp_path / folder), config, space, trainer)

    return make


@pytest.fixture(params=[True, False], ids=["finished", "interrupted"])
def finished(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_supernet_of_once_for_all_keeps_its_kernel_transforms(
    finished: bool, data_trainer: Trainer, tmp_path: Path
) -> None:
    """Also where the run is resumed and the file is gone."""
    space = load_space("ofa_mbv3_w1.0").with_resolutions((32,))
    given = Supernet(space, 10, kernel_transforms=True)
    with torch.no_grad():
        for name, matrix in given.named_parameters():
            if has_kernel_transforms([name]):
                matrix.add_(0.01 * torch.randn_like(matrix))
    path = tmp_path / "ofa_mbv3_d234_e346_k357_w1.0"
    torch.save({"state_dict": ofa_named(given)}, path)
    config = RunConfig(space=space.name, targets=(Target(latency_ms=15.0),), objective=load_objective("mnasnet"))
    origin = read_origin(path, space.published(space.reference), str(path))
    trainer = replace(data_trainer, sizes=TrainingSizes(base=32, proxy=32), origins=(origin,))
    first = WeightSharing(Run(tmp_path), config, space, trainer)
    assert same(first.supernet, given)
    recipe = RECIPE.model_copy(update={"images": 32})
    if finished:
        first.train(recipe)
    else:
        SupernetTraining(first.supernet, recipe, trainer, checkpoint=tmp_path / "checkpoints" / "supernet.pt").save()
    again = WeightSharing(Run(tmp_path), config, space, replace(trainer, origins=()))
    assert again.supernet.kernel_transforms
    again.train(recipe)
    assert finished == same(again.supernet, first.supernet)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    there = other.state_dict()
    return all(torch.equal(tensor, there[name]) for name, tensor in one.state_dict().items())


# --- training


def test_trained_once_and_found_again(
    sharing: Callable[..., WeightSharing], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = sharing()
    fresh = {name: tensor.clone() for name, tensor in first.supernet.state_dict().items()}
    called: list[str] = []
    first.train(RECIPE, after_interval=lambda: called.append("interval"))
    assert called, "what a run has taken is kept meanwhile"
    files = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert files == {"supernet.safetensors", "supernet.safetensors.sha256"}, "the checkpoint is gone when it is trained"
    assert any(not torch.equal(tensor, fresh[name]) for name, tensor in first.supernet.state_dict().items())
    torch.manual_seed(5)
    second = sharing()
    with caplog.at_level(logging.INFO, "mnas"):
        second.train(RECIPE)
    assert "loaded" in caplog.text
    assert same(second.supernet, first.supernet)


def test_training_depends_on_the_seed_alone(sharing: Callable[..., WeightSharing]) -> None:
    trained = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(trained))
        trained.append(sharing(folder, seed=seed))
        trained[-1].train(RECIPE.model_copy(update={"epochs": 1}))
    assert same(trained[0].supernet, trained[1].supernet)
    assert not same(trained[0].supernet, trained[2].supernet)


def test_a_network_outside_the_space_starts_from_its_reference(data_trainer: Trainer, tmp_path: Path) -> None:
    space = load_space("v3_small").with_resolutions((32,))
    config = RunConfig(space=space.name, targets=(Target(latency_ms=15.0),), objective=load_objective("mnasnet"))
    sharing = WeightSharing(Run(tmp_path), config, space, replace(data_trainer, sizes=TrainingSizes(base=32, proxy=32)))
    _, narrow = space.rival("mobilenet_v3_small@0.5:32")
    assert narrow not in space
    network, again = sharing.inherited(narrow), sharing.inherited(narrow)
    assert isinstance(network, Network) and same(network, again)
    whole = sharing.supernet.extract(outsiders_start(space)).classifier.state_dict()["weight"].T
    kept = network.classifier.state_dict()["weight"].T
    assert all(any(torch.equal(column, other) for other in whole) for column in kept)


def test_the_supernet_of_another_space_is_refused(sharing: Callable[..., WeightSharing], tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "supernet.safetensors"
    path.parent.mkdir(parents=True)
    other = safetensors.torch.save(mnas.build(mnas.space.zoo.get("mobilenet_v3_small", 0.35, 32), 10).state_dict())
    path.write_bytes(other)
    with pytest.raises(BadInput) as caught:
        sharing().train(RECIPE)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_supernet_is_named_and_trained_again(
    sharing: Callable[..., WeightSharing], tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, path = RECIPE.model_copy(update={"epochs": 1}), tmp_path / "run" / "checkpoints" / "supernet.safetensors"
    first = sharing()
    first.train(recipe)
    whole = path.read_bytes()
    damage(path, kind)
    second = sharing()
    assert f"{path}: " in caplog.text
    second.train(recipe)
    assert same(second.supernet, first.supernet) and path.read_bytes() == whole


def test_what_is_seen_of_it_in_tensorboard(sharing: Callable[..., WeightSharing], tmp_path: Path) -> None:
    board = TensorBoard(tmp_path / "tb")
    from mnas.training import supernet as training

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "INTERVAL", 2)
        patch.setattr(supernet_estimator, "STATISTICS_IMAGES", 64)
        sharing().train(RECIPE, board)
    board.close()
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()  # type: ignore[no-untyped-call]

    def read(tag: str) -> dict[int, float]:
        return {event.step: event.value for event in events.Scalars(f"supernet/{tag}")}  # type: ignore[no-untyped-call]

    steps = list(range(2, 21, 2))  # 10 whole batches of 16, twice
    for tag in ("loss_largest", "loss_smallest", "loss_random", "lr", "images_per_s", "collapsed"):
        assert list(read(tag)) == steps, tag
    assert all(0 < loss < 5 for tag in ("largest", "smallest", "random") for loss in read(f"loss_{tag}").values())
    assert all(speed > 0 for speed in read("images_per_s").values())
    assert read("lr")[20] < max(read("lr").values()) <= RECIPE.lr * RECIPE.batch_size / 128 + 1e-6
    assert set(read("collapsed").values()) == {0.0}
    for name in ("largest", "smallest", "random1", "random2"):
        seen = read(f"accuracy_{name}")
        assert len(seen) == EVALUATIONS and list(seen)[-1] == 20, name
        assert all(0 <= reached <= 1 for reached in seen.values())
    tags = events.Tags()["scalars"]  # type: ignore[no-untyped-call]
    assert "supernet/accuracy_reference" not in tags, "mobilenet_v3_small is not in the tiny space"


def test_the_reference_is_judged_where_the_space_has_it(data_trainer: Trainer, tmp_path: Path) -> None:
    space = load_space("v3_small").with_resolutions((32,))
    config = RunConfig(space="v3_small", targets=(Target(latency_ms=15.0),), objective=load_objective("mnasnet"))
    one = WeightSharing(Run(tmp_path), config, space, data_trainer)
    assert set(one._accuracies(one.supernet)) == {
        f"accuracy_{name}" for name in ("largest", "smallest", "reference", "random1", "random2")
    }


# --- taken from another run


@pytest.mark.parametrize(("names", "rows"), [
    (tuple("0123456789"), list(range(10))), (tuple("9876543210"), list(range(9, -1, -1))),
    (("x", "3", "0"), [None, 3, 0]), (None, list(range(10))),
])  # fmt: skip
def test_outputs_for_classes_of_the_same_name_are_kept(
    space: SearchSpace, data_trainer: Trainer, tmp_path: Path, names: tuple[str, ...] | None, rows: list[int | None]
) -> None:
    run, theirs = Run(tmp_path), mnas.Supernet(space, 10)
    run.given_supernet.parent.mkdir(parents=True)
    safetensors.torch.save_file(theirs.state_dict(), run.given_supernet)
    data = replace(data_trainer.data, classes=names or data_trainer.data.classes)
    division = data_trainer.data.division
    assert division is not None
    if names is not None:
        write_division(run.given_supernet.parent, division)
    config = RunConfig(space="tiny", targets=(Target(latency_ms=15.0),), objective=load_objective("mnasnet"))
    ours = WeightSharing(run, config, space, replace(data_trainer, task=Classification(data))).supernet.state_dict()
    there = theirs.state_dict()
    for name, tensor in ours.items():
        if name.startswith("head.3."):
            assert all(tensor[row].equal(there[name][other]) for row, other in enumerate(rows) if other is not None)
            assert len(tensor) == len(rows)
        else:
            assert tensor.equal(there[name]), name


# --- what inherits its weights


def test_inherited(
    sharing: Callable[..., WeightSharing], space: SearchSpace, data_trainer: Trainer
) -> None:
    one = sharing()
    one.train(RECIPE.model_copy(update={"epochs": 1}))
    before = {name: tensor.clone() for name, tensor in one.supernet.state_dict().items()}
    arch = space.sample(random.Random(1))
    network, plain = one.inherited(arch), one.supernet.extract(arch)
    data_trainer.finish(plain, arch, len(data_trainer.data.train))
    assert same(network, plain)
    smaller, larger = (one.inherited(replace(arch, resolution=size)) for size in space.resolutions)
    assert not same(smaller, larger), "each has the statistics of its own size"
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.supernet.state_dict().items())
    with pytest.raises(BadInput, match="tiny"):
        one.inherited(mnas.space.zoo.get("mobilenet_v3_small", resolution=32))


def test_it_begins_with_the_weights_of_a_trained_network(
    sharing: Callable[..., WeightSharing], space: SearchSpace, caplog: pytest.LogCaptureFixture
) -> None:
    arch: Architecture = space.sample(random.Random(3))
    torch.manual_seed(11)
    origin = Origin("trained", arch, mnas.build(arch, 10).eval())
    with caplog.at_level(logging.INFO, "mnas"):
        one = sharing(origins=(origin,))
    assert "weights of trained" in caplog.text
    assert same(one.supernet.extract(arch), origin.network)
    assert not same(one.supernet, sharing("fresh").supernet)
    one.train(RECIPE)
    again = sharing()  # what has begun has its weights: it goes on without the origin
    again.train(RECIPE)
    assert same(again.supernet, one.supernet)


def test_speed_is_measured_without_touching_the_run(space: SearchSpace, data_trainer: Trainer) -> None:
    assert supernet_speed(space, RECIPE, data_trainer) > 10
