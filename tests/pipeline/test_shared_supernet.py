"""A supernet that was trained once: alone, used again as it is, adapted to other images, refused elsewhere."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import damage
from PIL import Image
from safetensors.torch import save_file
from small_search import QUICK, TINY_SPACE

import mnas
from mnas.api import train_supernet
from mnas.config import Recipe, RunConfig, SupernetRecipe, Target, load_objective
from mnas.data.division import read_division
from mnas.data.sources import load_data
from mnas.errors import BadInput
from mnas.estimators.weight_sharing import WeightSharing
from mnas.nn.origin import Origin
from mnas.nn.weights import read_safetensors
from mnas.pipeline.races_file import races_of
from mnas.pipeline.shared_supernet import adapted, adopt, use_as_it_is, with_published_supernet
from mnas.pipeline.supernet_source import sharing
from mnas.run import Run
from mnas.space import zoo
from mnas.training.supernet import SupernetTraining

SET = {"supernet.epochs": 1, "supernet.images": 160, "supernet.batch_size": 16, "supernet.subnets": 1}
OPTIONS: dict[str, Any] = {
    "space": None, "latency_ms": 0.6, "trials": 2, "estimator": None, "baseline": [],
    "set": {**QUICK, **SET, "recipe.epochs": 1, "finetune_epochs": 0, "references": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a supernet of the tiny space, trained on the digits."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("supernets")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    facts = train_supernet(folder / "digits", space=folder / "tiny.yaml", seed=3, set=SET)
    assert facts["steps"] == 9 and facts["space"] == "tiny" and 0 <= facts["accuracy_largest"] <= 1
    return folder / "digits"


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return read_safetensors(folder / "checkpoints" / "supernet.safetensors")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of each training of a supernet that begins."""
    steps: list[int] = []
    run = SupernetTraining.run

    def counted(training: SupernetTraining, *args: Any) -> Any:
        steps.append(training.steps)
        return run(training, *args)

    monkeypatch.setattr(SupernetTraining, "run", counted)
    return steps


def test_what_its_folder_holds(trained: Path) -> None:
    files = {path.name for path in trained.iterdir()}
    assert {"config.yaml", "splits.json", "supernet.json", "run.log", "tb"} <= files
    assert json.loads((trained / "supernet.json").read_text())["classes"] == [str(digit) for digit in range(10)]
    assert weights_in(trained)


def test_the_same_images_need_no_training(
    search: Callable[..., mnas.Result], trained: Path, watched: list[int], tmp_path: Path
) -> None:
    before = (trained / "checkpoints" / "supernet.safetensors").read_bytes()
    result = search(**OPTIONS, supernet=trained)
    run = Run(result.folder)
    assert not watched
    assert run.supernet_weights.read_bytes() == before
    assert run.state().estimator == "supernet" and run.state().adapts is False
    assert (run.folder / "splits.json").read_bytes() == (trained / "splits.json").read_bytes()
    assert {trial.fidelity for trial in result.trials if trial.evaluated} == {"inherited"}
    entered, _ = races_of(run)[0.6]
    assert {contender.weights for contender in entered} == {"inherited"}
    again = search(**{**OPTIONS, "latency_ms": 0.8, "run": tmp_path / "second"}, supernet=result.folder)  # of a run
    assert again.trials and not watched


def test_a_stated_baseline_goes_on_from_it_too(search: Callable[..., mnas.Result], tmp_path: Path) -> None:
    """So nothing but its architecture sets it apart, although it is not of the space."""
    small = {**SET, "supernet.images": 32}
    train_supernet(tmp_path / "small", space="v3_small", resolution=(32,), seed=3, set=small)
    name = "mobilenet_v3_small@0.35:32"
    assert mnas.zoo.load_architecture(name) not in mnas.load_space("v3_small").with_resolutions((32,))
    options = {**OPTIONS, "latency_ms": 5, "baseline": [name], "set": {**OPTIONS["set"], "recipe.images": 32}}
    result = search(**options, supernet=tmp_path / "small")
    assert [row["weights"] for row in result.metrics["networks"]] == ["inherited", "inherited"]


def test_other_images_of_other_classes_adapt_it(
    search: Callable[..., mnas.Result], trained: Path, watched: list[int], tmp_path: Path
) -> None:
    digits = load_data("digits")
    few = digits.train.labels < 4
    images = digits.train.fetch(np.flatnonzero(few), 0).permute(0, 2, 3, 1).numpy()
    labels = digits.train.labels[few]
    arrays = {"train_images": images[40:], "train_labels": labels[40:], "test_images": images[:40]}
    np.savez(tmp_path / "four.npz", **arrays, test_labels=labels[:40])
    result = search(**OPTIONS, data=tmp_path / "four.npz", supernet=trained)
    run = Run(result.folder)
    assert watched[-1] == 10  # the stated epoch, after the speed was measured
    assert run.state().adapts is True
    ours, theirs = read_safetensors(run.supernet_weights), weights_in(trained)
    assert len(ours["head.3.linear.weight"]) == 4
    assert ours.keys() == theirs.keys()


def test_adapting_is_shorter_and_gentler_unless_stated() -> None:
    recipe = adapted(SupernetRecipe())
    assert (recipe.epochs, recipe.lr) == (2, 0.1)
    stated = adapted(SupernetRecipe(epochs=9, lr=0.3))
    assert (stated.epochs, stated.lr) == (9, 0.3)


def test_a_search_in_it_trains_for_less_unless_stated(trained: Path) -> None:
    objective, targets = load_objective("mnasnet"), (Target(latency_ms=1.0),)
    config = RunConfig(space="tiny", space_file={"bn_eps": 1e-5}, targets=targets, objective=objective)
    shared = Run(trained)
    found = sharing(config, shared)
    assert (found.recipe.epochs, found.objective.accuracy, found.space_file["bn_eps"]) == (10, "supernet", 1e-3)
    division = read_division(trained)
    assert division is not None and division.train_images == 1151
    for batch_size, epochs in ((12, 10), (8, 7), (2, 5)):  # 95, 143 and 575 steps an epoch
        shorter = sharing(config.model_copy(update={"recipe": Recipe(batch_size=batch_size)}), shared)
        assert shorter.recipe.epochs == epochs, "1,000 steps, if a third and a sixth of the epochs allow"
    others = config.model_copy(update={"data": "photos", "recipe": Recipe(batch_size=2)})
    assert sharing(others, shared).recipe.epochs == 10, "it has to adapt to other images"
    stated = config.model_copy(update={"budget_s": 600.0})
    assert sharing(stated, shared).recipe.epochs == 30
    assert sharing(config.model_copy(update={"from_scratch": True}), shared).recipe.epochs == 30


def test_interrupted_it_goes_on_to_the_same_weights(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnas.training.supernet.INTERVAL", 2)
    monkeypatch.setattr("mnas.training.supernet.CHECKPOINT_S", 0.0)
    options: dict[str, Any] = {"space": trained.parent / "tiny.yaml", "seed": 3, "set": SET}
    train = WeightSharing.train

    def cut(sharing: WeightSharing, recipe: Any, board: Any, after: Any) -> None:
        def stop() -> None:
            after()
            raise KeyboardInterrupt

        train(sharing, recipe, board, stop)

    with monkeypatch.context() as patch:
        patch.setattr(WeightSharing, "train", cut)
        with pytest.raises(KeyboardInterrupt):
            train_supernet(tmp_path / "cut", **options)
    assert (tmp_path / "cut" / "checkpoints" / "supernet.pt").exists()
    train_supernet(tmp_path / "cut", **options)
    ours, theirs = weights_in(tmp_path / "cut"), weights_in(trained)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)


@pytest.mark.parametrize(("options", "word"), [
    ({"space": "v3_small"}, "v3_small"), ({"space": "v3_large", "resolution": [32]}, "width"),
])  # fmt: skip
def test_another_space_is_refused(
    options: dict[str, Any], word: str, search: Callable[..., mnas.Result], trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=word):
        search(**{**OPTIONS, **options}, supernet=trained)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "no run"])
def test_a_damaged_one_is_refused(
    damage: str, search: Callable[..., mnas.Result], trained: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    file = copy / "checkpoints" / "supernet.safetensors"
    content = file.read_bytes()
    match damage:
        case "truncated":
            file.write_bytes(content[:-100])
        case "changed":
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "missing":
            file.unlink()
        case _:
            (copy / "config.yaml").unlink()
    with pytest.raises(BadInput) as caught:
        search(**OPTIONS, supernet=copy)
    assert "\n" not in str(caught.value) and str(copy) in str(caught.value)
    assert not (tmp_path / "run" / "trials.jsonl").exists()


def test_a_damaged_copy_is_copied_again(trained: Path, tmp_path: Path) -> None:
    config = RunConfig(
        space="tiny", targets=(Target(latency_ms=1.0),), objective=load_objective("mnasnet"),
        shared_supernet=str(trained),
    )  # fmt: skip
    run, whole = Run(tmp_path / "run"), (trained / "checkpoints" / "supernet.safetensors").read_bytes()
    run.update_state(adapts=False)
    for _ in range(2):
        adopt(run, config)
        use_as_it_is(run)
        assert run.given_supernet.read_bytes() == run.supernet_weights.read_bytes() == whole
        damage(run.given_supernet, "in the middle")
        damage(run.supernet_weights, "cut in half")


def test_a_folder_of_a_supernet_is_no_search(trained: Path) -> None:
    with pytest.raises(BadInput, match="--supernet"):
        mnas.resume(trained)


def test_a_published_supernet_has_only_to_adapt() -> None:
    targets, arch = (Target(latency_ms=1.0),), zoo.get("mobilenet_v3_small", 0.35, 32)
    config = RunConfig(space="tiny", targets=targets, objective=load_objective("mnasnet"))
    network = mnas.build(arch, 3)
    published = mnas.Supernet(mnas.load_space("v3_small").with_resolutions((32,)), 3)
    assert with_published_supernet(config, ()) == config
    assert with_published_supernet(config, [Origin("a network", arch, network)]) == config
    found = with_published_supernet(config, [Origin("a supernet", arch, network, published)]).supernet
    assert (found.epochs, found.lr) == (2, 0.1)


# --- what belongs to its images


@pytest.fixture(scope="module")
def grey_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two classes of small images, and beside it a supernet of them in one channel."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    for kind in ("dark", "light"):
        (folder / "photos" / kind).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 128, (32, 32), np.uint8) + 127 * (kind == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / kind / f"{number}.png")
    torch.set_num_threads(1)
    train_supernet(
        folder / "grey", space=folder / "tiny.yaml", data=folder / "photos", channels=1, resolution=[32],
        group_by=r"(\d+)", set={**SET, "recipe.flip": False},
    )  # fmt: skip
    return folder


def test_what_is_not_stated_is_as_it_was(
    search: Callable[..., mnas.Result], grey_photos: Path, watched: list[int]
) -> None:
    config = Run(search(**OPTIONS, supernet=grey_photos / "grey", seed=5).folder).config()
    assert (config.channels, config.resolution, config.group_by) == (1, (32,), r"(\d+)")
    assert config.recipe.flip is False and not watched


def test_images_that_were_moved_are_the_same(
    search: Callable[..., mnas.Result], grey_photos: Path, watched: list[int], tmp_path: Path
) -> None:
    shutil.copytree(grey_photos / "photos", tmp_path / "moved")
    run = Run(search(**OPTIONS, supernet=grey_photos / "grey", data=tmp_path / "moved", seed=5).folder)
    assert run.state().adapts is False and not watched


@pytest.mark.parametrize("options", [{"group_by": r"(.*)", "seed": 5}, {"data": "object"}])
def test_none_that_judge_were_trained_on(
    options: dict[str, Any], search: Callable[..., mnas.Result], trained: Path, grey_photos: Path, tmp_path: Path
) -> None:
    if "data" in options:
        source, given = trained, {"data": load_data("digits", seed=5)}
    else:
        source, given = grey_photos / "grey", options
    with pytest.raises(BadInput, match=r"trained on \d+ of the images"):
        search(**OPTIONS, **given, supernet=source)
    assert not (tmp_path / "run").exists()


def test_other_sizes_are_told(search: Callable[..., mnas.Result], trained: Path) -> None:
    result = search(**OPTIONS, supernet=trained, resolution=[48, 64])
    assert "trained at 32, 48 px, and is searched at 64 px" in (result.folder / "run.log").read_text()


def test_networks_have_the_eps_that_it_was_trained_with(
    search: Callable[..., mnas.Result], trained: Path, tmp_path: Path
) -> None:
    tiny = mnas.load_space(trained.parent / "tiny.yaml")
    arch = replace(tiny.sample(random.Random(0)), bn_eps=1e-5)
    start = tmp_path / "start"
    start.mkdir()
    save_file(mnas.build(arch, 10).state_dict(), start / "weights.safetensors")
    (start / "architecture.yaml").write_text(arch.to_yaml())
    train_supernet(tmp_path / "timm", space=trained.parent / "tiny.yaml", init=start, set=SET)
    result = search(**OPTIONS, supernet=tmp_path / "timm")
    assert result.winner.architecture.bn_eps == 1e-5


# --- refused, continued


@pytest.mark.parametrize(("options", "word"), [
    ({"estimator": "zero_cost"}, "zero_cost"), ({"estimator": lambda arch: 0.5}, "own"),
    ({"init": "x.safetensors"}, "--init"), ({"pretrained": True}, "--pretrained"), ({"channels": 1}, "image_channels"),
])  # fmt: skip
def test_what_excludes_a_supernet(
    options: dict[str, Any], word: str, search: Callable[..., mnas.Result], trained: Path, tmp_path: Path
) -> None:
    if "init" in options:
        (tmp_path / "x.safetensors").write_bytes((trained / "checkpoints" / "supernet.safetensors").read_bytes())
        options = {"init": tmp_path / "x.safetensors"}
    with pytest.raises(BadInput, match=word):
        search(**{**OPTIONS, **options}, supernet=trained)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_space_are_refused(
    search: Callable[..., mnas.Result], trained: Path, tmp_path: Path
) -> None:
    wider = mnas.load_space(trained.parent / "tiny.yaml").file.model_copy(update={"width": (1.25,)})
    shutil.copytree(trained, tmp_path / "copy")
    run = Run(tmp_path / "copy")
    save_file(mnas.Supernet(mnas.SearchSpace(wider), 10).state_dict(), run.supernet_weights)
    run.supernet_weights.with_name("supernet.safetensors.sha256").unlink()
    with pytest.raises(BadInput, match=r"not a supernet of space 'tiny': head\.0"):
        search(**OPTIONS, supernet=tmp_path / "copy")
    assert not (tmp_path / "run").exists()


def test_an_infeasible_budget_leaves_nothing(
    search: Callable[..., mnas.Result], trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(mnas.Infeasible):
        search(**{**OPTIONS, "latency_ms": 1e-6}, supernet=trained)
    assert not (tmp_path / "run").exists()


def test_a_trained_one_is_not_trained_again(trained: Path, watched: list[int]) -> None:
    before = (trained / "supernet.json").read_bytes()
    facts = train_supernet(trained, space=trained.parent / "tiny.yaml", seed=3, set=SET)
    assert facts == json.loads(before) and not watched
    with pytest.raises(BadInput, match="another configuration"):
        train_supernet(trained, space=trained.parent / "tiny.yaml", seed=4, set=SET)
    assert (trained / "supernet.json").read_bytes() == before
