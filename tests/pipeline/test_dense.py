"""`mnas search --task`: backbones under a head, from the command as typed to what `mnas evaluate` says of a winner."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Mnas
from made_up_tables import FIT, made_up, refitted
from safetensors.torch import load_file
from small_search import no_pictures, read
from torch import Tensor

import mnas
from mnas.data.dense import shapes
from mnas.data.dense.sources import load_segmentation
from mnas.errors import BadInput
from mnas.export.dense import load_dense
from mnas.latency.table.table import LatencyTable
from mnas.nn.dense import network_for
from mnas.space import zoo
from mnas.space.cost import layer_madds
from mnas.space.dense import DenseHead, under
from mnas.space.space import load_space
from mnas.training import full
from mnas.training import supernet as supernet_training
from mnas.training.device import restored_threads
from mnas.training.loop import Training

SPACE = """
name: tiny
reference: mobilenet_v3_small
resolution: [32]
stem: {channels: 8, kernel: 3, stride: 2, activation: hard_swish}
stages:
  - {channels: 8,  stride: 2, depth: 1,      kernel: 3,      expansion: 1,      activation: relu}
  - {channels: 16, stride: 2, depth: [1, 2], kernel: [3, 5], expansion: [2, 3], se: [0, 0.25], activation: relu}
  - {channels: 24, stride: 2, depth: [1, 2], kernel: 3,      expansion: [2, 3], activation: [relu, hard_swish]}
  - {channels: 32, stride: 2, depth: [1, 2], kernel: 3,      expansion: [2, 3], activation: hard_swish}
head: {channels: 48, hidden: 64, activation: hard_swish}
bn_eps: 0.001
"""
HEADS = {
    "lraspp": ("segmentation", DenseHead("lraspp", 5)), "deeplabv3": ("segmentation", DenseHead("deeplabv3", 5)),
    "ssdlite": ("detection", DenseHead("ssdlite", 5)),
}  # fmt: skip
FIGURES = {"segmentation": ("miou", "iou", "mIoU"), "detection": ("map", "ap", "mAP")}
WIDTH = 0.35
BASELINE = f"mobilenet_v3_small@{WIDTH}:32"
SMALL = (
    "--space", "tiny.yaml", "--allow-foreign-table", "--latency-ms", "1000", "--trials", "2", "--no-pretrained",
    "--set", "recipe.epochs=2", "--set", "recipe.images=16", "--set", "recipe.batch_size=8",
    "--set", "supernet.epochs=1", "--set", "supernet.images=16", "--set", "supernet.batch_size=8",
    "--set", "finetune_epochs=0", "--set", "finalists=1", "--set", "proxy.epochs=1", "--set", "proxy.images=8",
    "--set", "precision=float32",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_and_repeatable() -> Iterator[None]:
    """Few images, one thread: last bits differ with the number of threads."""
    with restored_threads(), no_pictures(), pytest.MonkeyPatch.context() as patch:
        torch.set_num_threads(1)
        patch.setattr(shapes, "COUNTS", {"train": 24, "val": 8, "test": 8})
        for opened in ("mnas.data.dense.sources._scenes",):
            patch.setattr(opened, lambda: [shapes.render(n, seed) for seed, n in enumerate(shapes.COUNTS.values())])
        yield


def written_table(folder: Path, head: str) -> LatencyTable:
    """A board's table: 1 ms a million multiply-adds, of the space and of its reference at one width, under a head."""
    (folder / "tiny.yaml").write_text(SPACE)
    outputs = HEADS[head][1]
    layers = load_space(folder / "tiny.yaml").layers(outputs)
    layers |= set(zoo.get("mobilenet_v3_small", WIDTH, 32).layers(outputs))
    fit = refitted(FIT, space=under("tiny", outputs), resolutions=(32,))
    table = made_up({layer: 0.001 + layer_madds(layer) / 1e6 for layer in layers}, calibration=fit)
    table.save(folder / "board.yaml")
    return table


def searched(mnas: Mnas, head: str, *args: str | Path) -> Any:
    done = mnas(
        "search", "--task", HEADS[head][0], "--head", head, "--data", "shapes", "--latency-table", "board.yaml", *SMALL,
        *args,
    )  # fmt: skip
    assert done.code == 0, done.err
    return done


@pytest.mark.parametrize(("head", "estimator"), [("lraspp", "auto"), ("deeplabv3", "train"), ("ssdlite", "supernet")])
def test_the_winners_figures_are_those_of_evaluate(head: str, estimator: str, mnas: Mnas, tmp_path: Path) -> None:
    table, (task, outputs) = written_table(tmp_path, head), HEADS[head]
    figure, by_class, name = FIGURES[task]
    seeds = {"lraspp": 2}.get(head, 1)
    options = ("--estimator", estimator, "--baseline", BASELINE, "--seeds", str(seeds))
    done = searched(mnas, head, *options, "--run", "run", "--json").json
    metrics = json.loads((tmp_path / "run" / "winner" / "metrics.json").read_text())
    assert metrics.items() <= done.items()
    winner, baseline = metrics["networks"]
    assert (metrics["task"], metrics["head"], metrics["figure"]) == (task, head, figure)
    assert [row["role"] for row in (winner, baseline)] == ["winner", "baseline"]
    assert metrics["verdicts"][0]["metric"] == figure and metrics["verdicts"][0]["baseline"] == baseline["name"]
    assert metrics["search"]["estimator"] == {"auto": "zero_cost"}.get(estimator, estimator)

    assert len(winner["seeds"]["values"]) == seeds and winner["seeds"]["values"][0] == winner[f"test_{figure}"]

    model = load_dense(tmp_path / "run")
    arch = model.architecture
    assert winner[f"test_{figure}"] == metrics["test"][figure]
    assert winner[f"val_{figure}"] == metrics["validation"][figure]
    for folder in ("run", "run/winner"):
        again = mnas("evaluate", folder, "--json").json
        assert {key: again[key] for key in metrics["test"]} == metrics["test"]
    assert list(metrics["test"][by_class]) == metrics["data"]["classes"]
    card = (tmp_path / "run" / "winner" / "README.md").read_text()
    assert f"| test | {metrics['test']['images']} | {metrics['test'][figure]:.2%} |" in card
    assert metrics["verdicts"][0]["verdict"] in card and "rendered, not photographed" in card
    assert sum(one.numel() for one in model.network.parameters()) == winner["params"] == metrics["network"]["params"]
    assert winner["madds"] == mnas_cost(arch, outputs)
    assert winner["latency_ms"] == pytest.approx(table.predict(arch, outputs))

    rows = list(csv.DictReader((tmp_path / "run" / "leaderboard.csv").read_text().splitlines()))
    assert float(rows[0]["accuracy"]) == pytest.approx(winner[f"test_{figure}"], abs=1e-6)
    assert int(rows[0]["params"]) == winner["params"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"test {name}" in page and f"validation {name} (%)".lower() in page.lower()
    tags = read(tmp_path / "run" / "tb").Tags()["scalars"]
    assert f"trial/{figure}" in tags and not any(tag.endswith("/accuracy") for tag in tags)
    log = (tmp_path / "run" / "run.log").read_text()
    assert task in log and head in log and f"validation {name}" in log
    assert "accuracy" not in log.replace("pixel accuracy", "")
    assert mnas("predict", "run", "board.yaml").code == 2


def mnas_cost(arch: mnas.Architecture, outputs: DenseHead) -> int:
    return mnas.cost(arch, outputs).madds


def test_limits_count_the_head(mnas: Mnas, tmp_path: Path) -> None:
    """DeepLabv3's head alone has more parameters than the limit, which every backbone keeps."""
    written_table(tmp_path, "deeplabv3")
    space = load_space(tmp_path / "tiny.yaml")
    largest = max(mnas_params(arch, 5) for arch in space.enumerate())
    command = (
        "search", "--task", "segmentation", "--head", "deeplabv3", "--latency-table", "board.yaml", *SMALL, "--run", "x"
    )  # fmt: skip
    for limits in (("--max-params", str(2 * largest)), ("--latency-ms", "0.5")):
        assert mnas(*command[:-2], *limits, "--run", "x").code == 3
        assert not (tmp_path / "x").exists()


def mnas_params(arch: mnas.Architecture, outputs: int) -> int:
    return mnas.cost(arch, outputs).params


@pytest.mark.parametrize("phase", ["supernet", "race"])
def test_a_killed_search_goes_on_bit_by_bit(
    phase: str, mnas: Mnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(full, "SAVE_S", 0.0)
    monkeypatch.setattr(supernet_training, "INTERVAL", 1)
    monkeypatch.setattr(supernet_training, "CHECKPOINT_S", 0.0)
    written_table(tmp_path, "lraspp")
    args = ("--estimator", "supernet")
    searched(mnas, "lraspp", *args, "--run", "whole")
    kind: Any = {"supernet": supernet_training.SupernetTraining, "race": Training}[phase]
    step, last = kind._train_step, {"supernet": 1, "race": 3}[phase]

    def dies(self: Any, *given: Any) -> Tensor:
        total = self.steps if phase == "supernet" else self._steps
        if self.step == last and total == {"supernet": 2, "race": 4}[phase]:  # not while the speed is measured
            raise KeyboardInterrupt
        out: Tensor = step(self, *given)
        return out

    with monkeypatch.context() as patch:
        patch.setattr(kind, "_train_step", dies)
        task = ("--task", "segmentation", "--head", "lraspp", "--data", "shapes", "--latency-table", "board.yaml")
        assert mnas("search", *task, *SMALL, *args, "--run", "killed").code == 130
    assert not (tmp_path / "killed" / "winner").exists()
    done = mnas("resume", "killed")
    assert done.code == 0, done.err
    whole, killed = (load_file(tmp_path / name / "winner" / "weights.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys() and all(torch.equal(whole[name], killed[name]) for name in whole)


def test_a_trial_is_handed_over_like_the_winner(mnas: Mnas, tmp_path: Path) -> None:
    written_table(tmp_path, "lraspp")
    searched(mnas, "lraspp", "--run", "run")
    done = mnas("export", "run", "--trial", "0", "--json")
    assert done.code == 0, done.err
    (row,) = done.json["exported"][0]["networks"]
    assert mnas("evaluate", "run/front/trial-0", "--json").json["miou"] == row["test_miou"]


@pytest.mark.parametrize("args", [
    ("--task", "segmentation", "--head", "ssdlite"), ("--task", "detection", "--head", "lraspp"), ("--head", "lraspp"),
    ("--task", "segment"), ("--task", "segmentation", "--data", "digits"),
    ("--task", "segmentation", "--labels", "labels.csv"), ("--task", "detection", "--group-by", "a"),
    ("--task", "segmentation", "--metric", "balanced"), ("--task", "segmentation", "--fit", "crop"),
    ("--task", "segmentation", "--class-weights", "auto"), ("--task", "segmentation", "--set", "supernet.mixup=0.2"),
    ("--task", "segmentation", "--estimator", "probe"), ("--task", "segmentation", "--supernet", "elsewhere"),
    ("--task", "segmentation", "--storage", "sqlite:///a.db"),
    ("--task", "segmentation", "--runtime", "onnxruntime", "--precision", "int8"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_any_folder(args: tuple[str, ...], mnas: Mnas, tmp_path: Path) -> None:
    done = mnas("search", "--latency-ms", "40", "--run", "run", *args)
    assert done.code == 2
    assert [line.startswith("error:") for line in done.err.strip().splitlines()].count(True) == 1
    assert not (tmp_path / "run").exists()


def test_data_are_named() -> None:
    for data in (mnas.load_data("digits"), load_segmentation("shapes")):
        with pytest.raises(BadInput):
            mnas.search(task="segmentation", data=data, latency_ms=40)  # type: ignore[arg-type]


def test_the_whole_network_is_timed() -> None:
    """What latencies are measured of is the trained network, with its head."""
    arch = zoo.get("mobilenet_v3_small", WIDTH, 32)
    whole = network_for(arch, DenseHead("lraspp", 5))
    assert whole(torch.zeros(1, 3, 32, 32)).shape == (1, 5, 32, 32)
