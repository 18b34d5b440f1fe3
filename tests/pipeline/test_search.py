"""The whole path on real digits: searched, trained, exported, measured, watched."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import optuna
import pytest
import torch
import yaml
from small_search import QUICK, TINY_SPACE, guess, milliseconds, read

import mnas
from mnas.data.splits import ArraySplit
from mnas.errors import BadInput, Infeasible
from mnas.estimators.weight_sharing import WeightSharing
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.study.objective import front


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> mnas.Result:
    """One real search with a supernet in a small space; no reference network takes the win."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    return mnas.search(
        space=folder / "tiny.yaml", latency_ms=20, trials=5, run=folder / "runs" / "first", estimator="supernet",
        set=QUICK | {"references": 0}, baseline=["mobilenet_v3_small@0.5"],
    )  # fmt: skip


def test_result(done: mnas.Result) -> None:
    assert sum(trial.evaluated for trial in done.trials) == 5
    chosen = next(trial for trial in done.trials if trial.number == done.metrics["search"]["chosen_trial"])
    assert chosen.architecture == done.winner.architecture
    assert 0 < done.winner.latency_ms <= 20
    latencies = [trial.latency_ms for trial in done.front]
    assert latencies == sorted(latencies)
    assert [row["role"] for row in done.metrics["networks"]] == ["winner", "baseline"]
    assert done.metrics["accuracy"]["test_images"] == 359
    assert done.metrics["accuracy"]["train_images"] == pytest.approx(QUICK["recipe.images"], abs=5)
    assert json.loads((done.folder / "winner" / "metrics.json").read_text()) == done.metrics
    on_front = {(trial.accuracy, trial.latency_ms) for trial in done.front}
    points = [(t.accuracy or 0, t.latency_ms) for t in done.trials if t.state == "complete"]
    assert on_front == set(front(points))


def test_without_a_comparison_there_is_none(done: mnas.Result) -> None:
    assert not {"random", "front"} & set(done.metrics["search"])
    assert done.winners == (done.winner,)
    assert (done.winner.budget_ms, done.winner.folder) == (20, done.folder / "winner")
    assert not (done.folder / "winners").exists()


def test_run_folder(done: mnas.Result) -> None:
    names = {path.name for path in done.folder.iterdir()}
    assert {"config.yaml", "trials.jsonl", "study.db", "tb", "checkpoints", "latency_table.yaml", "run.log"} <= names
    config = yaml.safe_load((done.folder / "config.yaml").read_text())
    assert config["config"]["seed"] == 0
    assert {"torch", "mnas", "optuna"} <= set(config["versions"])
    assert config["hardware"]["device"]
    log = (done.folder / "run.log").read_text()
    assert "supernet is trained for 1 epoch" in log
    assert "finalist" in log
    assert {path.name for path in (done.folder / "checkpoints").iterdir()} >= {"supernet.safetensors"}


def test_it_says_how_accuracies_were_found_and_weights_began(done: mnas.Result) -> None:
    grades = {"complete": "fine-tuned", "pruned": "inherited"}
    for trial in done.trials:
        if trial.evaluated:
            assert trial.fidelity == grades[trial.state]
    lines = [json.loads(line) for line in (done.folder / "trials.jsonl").read_text().splitlines()]
    assert [line["grade"] for line in lines] == [trial.fidelity for trial in done.trials]
    search = done.metrics["search"]
    assert (search["estimator"], search["chosen_grade"]) == ("supernet", "fine-tuned")
    entered = {one["name"]: one["weights"] for one in search["race"]["contenders"]}
    assert set(entered.values()) == {"inherited", "scratch"}, "the race decides"
    assert [row["weights"] for row in done.metrics["networks"]] == [entered[search["winner"]], "scratch"]
    card = (done.folder / "winner" / "README.md").read_text()
    assert "after fine-tuning the supernet's weights" in card
    assert "2 epochs from scratch" in card


def test_winner_folder(done: mnas.Result) -> None:
    winner = done.folder / "winner"
    expected = {"model.py", "weights.safetensors", "architecture.yaml", "preprocessing.json", "metrics.json",
                "model.onnx", "README.md"}
    assert expected <= {path.name for path in winner.iterdir()}
    assert Architecture.from_yaml((winner / "architecture.yaml").read_text()) == done.winner.architecture


def test_winner_computes_the_same_everywhere(done: mnas.Result) -> None:
    winner = done.folder / "winner"
    network = done.winner.load()
    session = onnxruntime.InferenceSession(winner / "model.onnx", providers=["CPUExecutionProvider"])
    code = "import torch, model; torch.save([*map(model.build_model(), torch.load(\"../x.pt\"))], \"../y.pt\")"
    images = [torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch)) for batch in (1, 8)]
    torch.save(images, winner.parent / "x.pt")
    subprocess.run([sys.executable, "-c", code], cwd=winner, check=True)
    for x, y in zip(images, torch.load(winner.parent / "y.pt"), strict=True):
        with torch.inference_mode():
            expected = network(x)
        (logits,) = session.run(None, {"images": x.numpy()})
        assert np.abs(logits - expected.numpy()).max() <= 1e-4
        assert (y - expected).abs().max() <= 1e-4


def test_test_accuracy_is_what_evaluate_finds(done: mnas.Result) -> None:
    from mnas.commands.models import evaluate

    again = evaluate(done.folder, data="digits")
    assert again["accuracy"] == pytest.approx(done.winner.test_accuracy, abs=0.003)
    assert again["images"] == 359


def test_tensorboard(done: mnas.Result) -> None:
    events = read(done.folder / "tb")
    tags = events.Tags()  # type: ignore[no-untyped-call]
    for tag in ("trial/accuracy", "trial/latency_ms", "trial/reward", "best/feasible_accuracy", "best/hypervolume"):
        assert len(events.Scalars(tag)) >= 3, tag  # type: ignore[no-untyped-call]
    written = {t.number: t for t in done.trials if t.evaluated}
    for event in events.Scalars("trial/accuracy"):  # type: ignore[no-untyped-call]
        assert event.value == pytest.approx(written[event.step].accuracy)
    best = [event.value for event in events.Scalars("best/feasible_accuracy")]  # type: ignore[no-untyped-call]
    assert best == sorted(best)
    for name, epochs in ((done.metrics["search"]["winner"], 2), ("mobilenet_v3_small@0.5", 2)):
        assert len(events.Scalars(f"train_{name}/loss")) == epochs  # type: ignore[no-untyped-call]
    for tag in ("loss_largest", "loss_smallest", "loss_random", "accuracy_largest", "accuracy_smallest", "lr"):
        assert f"supernet/{tag}" in tags["scalars"]
    assert "pareto" in tags["images"]
    picture = events.Images("pareto")[-1]  # type: ignore[no-untyped-call]
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert "winner/text_summary" in tags["tensors"]
    one = next(iter(written.values()))
    trial = read(done.folder / "tb" / "trials" / f"{one.number:04d}")
    assert "_hparams_/session_start_info" in trial.summary_metadata
    curve = "candidate/accuracy" in trial.Tags()["scalars"] and trial.Scalars("candidate/accuracy")  # type: ignore[no-untyped-call]
    assert len(curve or []) == len(one.curve)


def test_a_finished_run_gives_the_same_again(done: mnas.Result) -> None:
    before = (done.folder / "trials.jsonl").read_bytes()
    again = mnas.resume(done.folder)
    assert (done.folder / "trials.jsonl").read_bytes() == before
    assert again.winner.architecture == done.winner.architecture
    assert again.winner.test_accuracy == done.winner.test_accuracy


# --- objects from Python ----------------------------------------------------------------------------------------


def test_callables_sampler_and_callbacks(search: Callable[..., mnas.Result]) -> None:
    seen: list[mnas.Trial] = []
    result = search(
        sampler=optuna.samplers.RandomSampler(seed=3), callbacks=[seen.append],
        set=QUICK | {"recipe.epochs": 1, "finalists": 1, "references": 0},
    )  # fmt: skip
    assert seen == result.trials
    assert result.winner.latency_ms == milliseconds(result.winner.architecture) <= 0.6
    feasible = [t for t in result.trials if t.state == "complete" and t.latency_ms <= 0.6]
    assert guess(result.winner.architecture) == max(t.accuracy for t in feasible if t.accuracy is not None)


def test_the_callers_settings_are_restored(search: Callable[..., mnas.Result], tmp_path: Path) -> None:
    """Torch's threads and Optuna's verbosity, also where the search fails."""
    verbosity = optuna.logging.get_verbosity()
    torch.set_num_threads(2)
    search(trials=2)
    assert (torch.get_num_threads(), optuna.logging.get_verbosity()) == (2, verbosity)

    def fails(arch: Architecture) -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search(estimator=fails, seed=1, run=tmp_path / "other")
    assert (torch.get_num_threads(), optuna.logging.get_verbosity()) == (2, verbosity)


def test_space_and_data_as_objects(search: Callable[..., mnas.Result], tiny: Path) -> None:
    result = search(space=mnas.load_space(tiny), data=mnas.load_data("digits"))
    with pytest.raises(BadInput, match="space, data, estimator, latency"):
        mnas.resume(result.folder)


def test_pareto_without_a_budget(whole_search: Callable[..., mnas.Result]) -> None:
    result = whole_search(objective="pareto", latency_ms=None)
    assert result.winner.architecture in [trial.architecture for trial in result.front]


def test_measured_latency(search: Callable[..., mnas.Result]) -> None:
    result = search(latency="measured", latency_ms=50, trials=2)
    assert all(trial.latency_ms > 0 for trial in result.trials)
    assert not (result.folder / "latency_table.yaml").exists()
    assert result.metrics["networks"][0]["exported_latency_ms"] > 0


def test_onnxruntime(whole_search: Callable[..., mnas.Result]) -> None:
    result = whole_search(latency="table", runtime="onnxruntime", latency_ms=20, trials=2)
    winner = result.metrics["networks"][0]
    assert winner["exported_file"] == "model.onnx"
    assert 0 < winner["exported_latency_ms"] <= 20
    calibration = mnas.LatencyTable.load(result.folder / "latency_table.yaml").calibration
    assert calibration is not None and len(calibration.anchors) == 8
    networks, (device,) = result.metrics["networks"], winner["latencies"]
    assert len({network["speed_factor"] for network in networks}) == 1, "all in the same rounds"
    assert all(
        network["measured_ms"] == pytest.approx(network["speed_factor"] * network["latency_ms"]) for network in networks
    )
    assert winner["exported_measured_ms"] == pytest.approx(winner["speed_factor"] * winner["exported_latency_ms"])
    assert {name: winner[name] for name in ("measured_ms", "speed_factor")}.items() <= device.items()


def test_the_test_split_is_read_at_the_end_only(search: Callable[..., mnas.Result]) -> None:
    digits = mnas.load_data("digits")
    log: list[str] = []

    class Watched(ArraySplit):
        def fetch(self, indices: Any, size: int) -> torch.Tensor:
            log.append("test")
            return super().fetch(indices, size)

    assert isinstance(digits.test, ArraySplit)
    watched = Watched(digits.test.images, digits.test._labels, digits.test.rows)
    data = dataclasses.replace(digits, test=watched)
    search(data=data, estimator="train", callbacks=[lambda trial: log.append("trial")])
    first = log.index("test")
    assert "trial" not in log[first:]
    judged = 2 * -(-len(watched) // 256)
    assert log.count("test") == judged + 1, "once for the winner, once for the baseline; then the mistakes are shown"


@pytest.mark.parametrize("budget", [1e-6, 0.01])
def test_an_infeasible_budget_is_refused_before_training(
    search: Callable[..., mnas.Result], budget: float, tmp_path: Path
) -> None:
    asked: list[Architecture] = []
    with pytest.raises(Infeasible, match=r" 0\.\d+ ms"):
        search(latency_ms=budget, estimator=lambda arch: asked.append(arch) or 0.5)  # type: ignore[func-returns-value]
    assert not asked
    assert not (tmp_path / "run").exists(), "so that another budget may be tried there"


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_bad_budgets(search: Callable[..., mnas.Result], value: float, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--latency-ms"):
        search(latency_ms=value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", [
    lambda accuracy: functools.partial(accuracy, bonus=0.1),
    lambda accuracy: lambda arch, verbose=False: accuracy(arch, 0.0),
    lambda accuracy: lambda arch, report: report(1, 0.1) or accuracy(arch, 0.0),
])  # fmt: skip
def test_every_kind_of_callable(search: Callable[..., mnas.Result], make: Callable[..., Any]) -> None:
    def accuracy(arch: Architecture, bonus: float) -> float:
        return guess(arch) - bonus

    assert search(estimator=make(accuracy), trials=2).trials


def test_no_budget_at_all(search: Callable[..., mnas.Result]) -> None:
    with pytest.raises(BadInput, match="--latency-ms"):
        search(latency_ms=None)


def test_a_time_budget_ends_the_search(search: Callable[..., mnas.Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that is a second further after each trial."""
    clock, skipped = time.monotonic, list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(skipped))
    began = time.monotonic()
    result = search(
        estimator="supernet", trials=None, budget=30, set={"supernet.epochs": 1, "supernet.images": 320},
        callbacks=[lambda trial: skipped.append(1.0)],
    )  # fmt: skip
    assert time.monotonic() - began < 45
    assert 2 <= sum(trial.evaluated for trial in result.trials) <= 20


def test_a_refused_search_leaves_a_folder_as_it_was(search: Callable[..., mnas.Result], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(Infeasible):
        search(latency_ms=0.001)
    assert list((tmp_path / "run").iterdir()) == []
    (tmp_path / "run" / "latency_table.yaml").write_text("mine")
    with pytest.raises(BadInput, match=r"run: .*not empty"):
        search()
    assert (tmp_path / "run" / "latency_table.yaml").read_text() == "mine"


def test_a_finished_run_stays_when_another_is_refused_there(done: mnas.Result, tmp_path: Path) -> None:
    before = sorted(path.name for path in done.folder.iterdir())
    with pytest.raises(BadInput, match="another configuration"):
        mnas.search(space="v3_small", latency_ms=0.001, run=done.folder)
    assert sorted(path.name for path in done.folder.iterdir()) == before


@pytest.mark.parametrize("value", [None, "x", 2])
def test_an_estimator_of_one_argument_must_give_an_accuracy(search: Callable[..., mnas.Result], value: Any) -> None:
    with pytest.raises(BadInput, match=r"estimator.* from 0 to 1"):
        search(estimator=lambda arch: value)


@pytest.mark.parametrize("name", ["latency_ms", "runtime", "latency_table"])
def test_what_belongs_to_one_device_is_not_set(search: Callable[..., mnas.Result], name: str) -> None:
    with pytest.raises(BadInput, match=f"--set {name}: .*--{name.replace('_', '-')}"):
        search(set={name: "1"})


# --- where accuracies come from


def test_zero_cost(search: Callable[..., mnas.Result]) -> None:
    result = search(estimator="zero_cost", set={**QUICK, "recipe.epochs": 1, "zero_cost": "params"})
    evaluated = [trial for trial in result.trials if trial.evaluated]
    assert len(evaluated) == 4
    assert {trial.fidelity for trial in evaluated} == {"zero-cost"}
    by_size = sorted(evaluated, key=lambda trial: cost(trial.architecture, 10).params)
    assert [trial.accuracy for trial in by_size] == sorted(trial.accuracy or 0 for trial in evaluated)
    assert result.metrics["search"]["estimator"] == "zero_cost"
    assert {row["weights"] for row in result.metrics["networks"]} == {"scratch"}
    assert not list((result.folder / "checkpoints").glob("supernet*"))


def test_pretrained_weights_of_the_reference(
    search: Callable[..., mnas.Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(4)
    reference = mnas.zoo.get("mobilenet_v3_small", resolution=32)
    network = mnas.build(reference, 10)
    torch.save(network.state_dict(), tmp_path / "small.pth")
    begins: list[torch.nn.Module] = []
    train = WeightSharing.train

    def watched(sharing: WeightSharing, *given: Any) -> None:
        begins.append(sharing.supernet.extract(reference))
        train(sharing, *given)

    monkeypatch.setattr(WeightSharing, "train", watched)
    quick = {
        **QUICK, "supernet.images": 64, "supernet.batch_size": 32, "recipe.images": 64, "recipe.epochs": 1,
        "finetune_epochs": 0,
    }  # fmt: skip
    result = search(
        estimator="supernet", space="v3_small", resolution=[32], latency_ms=50, trials=1, init=tmp_path / "small.pth",
        baseline=["mobilenet_v3_small@0.35"], set=quick,
    )  # fmt: skip
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        difference = begins[0].eval()(images) - network.eval()(images)
    assert difference.abs().max() < 1e-5
    assert "small.pth" in (result.folder / "run.log").read_text()
    assert result.trials[0].name == "mobilenet_v3_small"


def test_weights_that_do_not_fit_are_refused_before_anything(
    search: Callable[..., mnas.Result], tmp_path: Path
) -> None:
    torch.save(mnas.build(mnas.space.zoo.get("mobilenet_v2", 0.35, 32), 10).state_dict(), tmp_path / "other.pth")
    with pytest.raises(BadInput, match=r"other\.pth: "):
        search(estimator="supernet", space="v3_small", resolution=[32], latency_ms=50, init=tmp_path / "other.pth")
    assert not (tmp_path / "run").exists()
    with pytest.raises(BadInput, match=r"other\.pth: "):
        search(estimator="supernet", init=tmp_path / "other.pth")
    assert not (tmp_path / "run").exists()


def test_data_of_other_classes_is_refused(done: mnas.Result, tmp_path: Path) -> None:
    from mnas.commands.models import evaluate

    images = np.zeros((40, 8, 8), np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "two.npz", train_images=images, train_labels=labels, class_names=np.array(["0", "ten"]))
    with pytest.raises(BadInput, match=r"'ten'.* \(10\)"):
        evaluate(done.folder, data=str(tmp_path / "two.npz"))
    np.savez(tmp_path / "part.npz", test_images=images, test_labels=labels)
    assert evaluate(done.folder, data=str(tmp_path / "part.npz"))["images"] == 40, "of the first two classes"


def test_a_space_edited_during_a_run_does_not_change_it(search: Callable[..., mnas.Result], tiny: Path) -> None:
    result = search(trials=2)
    tiny.write_text(tiny.read_text().replace("kernel: [3, 5]", "kernel: [3, 5, 7]"))
    with pytest.raises(BadInput, match="another configuration"):
        search(trials=2)
    assert Run.open(result.folder).config().space_file["stages"][1]["kernel"] == [3, 5]


def test_a_database_that_cannot_be_opened_is_told_first(search: Callable[..., mnas.Result], tmp_path: Path) -> None:
    with pytest.raises(mnas.BadInput, match="nowhere"):
        search(storage=f"sqlite:///{tmp_path}/nowhere/study.db")
    assert not list(tmp_path.rglob("checkpoints/*"))
