"""The command line as a user types it: output, exit codes, one clear line for each mistake."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Mnas
from killed_training import check_continued
from PIL import Image

from mnas.run import Run

COMMANDS = [
    "search", "resume", "train", "evaluate", "export", "report", "spaces", "zoo", "doctor", "latency measure",
    "latency build", "latency import", "latency kit",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_json(mnas: Mnas, command: str) -> None:
    done = mnas(*command.split(), "--help")
    assert done.code == 0
    assert f"Example: mnas {command}" in done.out
    assert "--json" in done.out


def test_help_is_quick() -> None:
    """In seconds of the processor, which other work on the machine changes little."""
    command = [sys.executable, "-m", "mnas", "--help"]
    subprocess.run(command, capture_output=True, check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.6


def test_version(mnas: Mnas) -> None:
    assert mnas("--version").out.startswith("mnas 0.")


def test_spaces(mnas: Mnas) -> None:
    assert {"v3_large", "v3_small", "mnasnet", "v2", "v1"} <= set(mnas("spaces").out.split())
    every = mnas("spaces", "--json").json["spaces"]
    assert all(isinstance(one["size"], int) for one in every)
    one = mnas("spaces", "v3_large", "--json").json
    assert one["reference"] == "mobilenet_v3_large"
    assert one["choices"]["stage2.layer1.kernel"] == [3, 5, 7]
    shown = mnas("spaces", "v3_large")
    assert "networks; reference mobilenet_v3_large" in shown.out


def test_zoo(mnas: Mnas) -> None:
    rows = {row["name"]: row for row in mnas("zoo", "--json").json["networks"]}
    assert rows["mobilenet_v3_large"]["params"] == 5_483_032
    assert "5,483,032" in mnas("zoo").out
    from mnas.space.architecture import Architecture

    done = mnas("zoo", "mobilenet_v2", "--width", "0.5")
    assert Architecture.from_yaml(done.out).stem.channels == 16


def test_doctor(mnas: Mnas) -> None:
    found = mnas("doctor", "--json").json
    assert {runtime["name"] for runtime in found["runtimes"]} >= {"torch", "onnxruntime"}
    assert "cpu" in found["devices"]
    assert all(missing["install"].startswith("pip install ") for missing in found["missing"])
    assert "torch" in mnas("doctor").out


def test_latency_measure(mnas: Mnas) -> None:
    done = mnas("latency", "measure", "mobilenet_v3_small", "mobilenet_v3_small@0.5", "--resolution", "64", "--rounds",
                "10", "--json")
    assert [network["name"] for network in done.json["networks"]] == ["mobilenet_v3_small", "mobilenet_v3_small@0.5"]
    assert all(network["latency_ms"] > 0 for network in done.json["networks"])


def test_latency_build(mnas: Mnas, tiny: Path) -> None:
    done = mnas("latency", "build", "--space", tiny, "--classes", "10", "-o", "table.yaml", "--json").json
    assert 0 < done["fastest_ms"] < done["slowest_ms"]
    again = mnas("latency", "build", "--space", tiny, "--classes", "10", "-o", "table.yaml", "--json").json
    assert again == done, "what is measured is kept"


def test_search_resume_evaluate_export(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shade in (("dark", 40), ("light", 200)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(40):
            pixels = np.clip(rng.normal(shade, 30, (24, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    done = mnas("search", "--space", tiny, "--data", "photos", "--latency-ms", "30", "--trials", "2", "--run", "run",
                "--baseline", "mobilenet_v3_small@0.35", "--set", "recipe.epochs=2", "--set", "supernet.epochs=1",
                "--estimator", "supernet", "--set", "references=0",
                "--set", "max_table_error=1.0", "--json")
    assert done.code == 0, done.err
    found = done.json
    assert (found["search"]["estimator"], found["search"]["chosen_grade"]) == ("supernet", "fine-tuned")
    entered = {one["name"]: one["weights"] for one in found["search"]["race"]["contenders"]}
    assert [row["weights"] for row in found["networks"]] == [entered[found["search"]["winner"]], "scratch"]
    assert found["accuracy"]["test_images"] == 16
    winner = found["networks"][0]
    assert winner["measured_ms"] == pytest.approx(winner["latency_ms"] * winner["speed_factor"])
    assert "candidates" in done.err
    shown = mnas("resume", "run")
    assert shown.code == 0
    assert "test accuracy" in shown.out
    assert "winner" in shown.out
    again = mnas("evaluate", "run", "--data", "photos", "--json").json
    assert again["accuracy"] == found["networks"][0]["test_accuracy"]
    files = mnas("export", "run", "--format", "onnx", "-o", "m.onnx", "--json").json["files"]
    assert [Path(file).name for file in files] == ["m.onnx"]
    measured = mnas("latency", "measure", "m.onnx", "--runtime", "onnxruntime", "--resolution", "32", "--rounds", "10")
    assert measured.code == 0
    assert mnas("export", "run", "--format", "pytorch", "-o", "plain").code == 0
    assert (tmp_path / "plain" / "model.py").exists()
    refused = mnas("search", "--space", tiny, "--data", "photos", "--latency-ms", "31", "--run", "run")
    assert (refused.code, "another configuration" in refused.err) == (2, True)


@pytest.mark.usefixtures("without_pictures")
def test_search_from_scratch(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    quick = ("recipe.epochs=1", "recipe.images=100", "supernet.epochs=1", "supernet.images=128", "finetune_epochs=0",
             "max_table_error=1.0", "references=0")  # fmt: skip
    done = mnas("search", "--space", tiny, "--latency-ms", "30", "--trials", "2", "--run", "run", "--from-scratch",
                "--baseline", "mobilenet_v3_small@0.35", "--class-weights", "auto", "--estimator", "supernet",
                *(word for one in quick for word in ("--set", one)), "--json")
    assert done.code == 0, done.err
    assert {row["weights"] for row in done.json["networks"]} == {"scratch"}
    assert (done.json["search"]["estimator"], done.json["search"]["chosen_grade"]) == ("supernet", "inherited")
    assert "inherited weights" in done.err
    card = (tmp_path / "run" / "winner" / "README.md").read_text()
    assert "accuracy with the supernet's weights" in card
    assert "1 epoch from scratch" in card
    recipe = Run.open(tmp_path / "run").config().recipe
    assert (recipe.class_weights, recipe.epochs) == ("auto", 1)


@pytest.mark.usefixtures("without_pictures")
def test_train(mnas: Mnas, tmp_path: Path) -> None:
    done = mnas("train", "mobilenet_v3_small@0.5", "-o", "out", "--set", "epochs=1", "--set", "images=200",
                "--class-weights", "auto", "--precision", "float32", "--json")
    assert done.code == 0, done.err
    assert "training in float32" in done.err
    wrong = mnas("train", "mobilenet_v2", "-o", "other", "--precision", "bfloat")
    assert wrong.code == 2 and "did you mean 'bfloat16'?" in wrong.err
    assert done.json["networks"][0]["test_accuracy"] > 0
    assert mnas("evaluate", "out").code == 0
    refused = mnas("train", "mobilenet_v2", "-o", "out")
    assert refused.code == 2
    assert "not empty" in refused.err


def test_a_killed_training_is_continued(mnas: Mnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("train", "mobilenet_v3_small@0.35:32", "--precision", "float32", "--set", "epochs=3", "--set",
               "batch_size=16", "--set", "images=64")  # fmt: skip
    check_continued(mnas, tmp_path, monkeypatch, command, step=7, other="lr=0.01")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


SEARCH = ("search", "--latency-ms", "15")
SPACE = "name: x\nreference: mobilenet_v3_small\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("search",), "--latency-ms"),
        (("search", "--latency-ms", "0"), "0.0 ms"),
        (("search", "--latency-ms", "-3"), "-3.0 ms"),
        (("search", "--latency-ms", "nan"), "nan ms"),
        (("search", "--latency-ms", "fast"), "--latency-ms fast"),
        ((*SEARCH, "--space", "v3_larg"), "'v3_larg'; did you mean 'v3_large'?"),
        ((*SEARCH, "--space", "nowhere.yaml"), "nowhere.yaml"),
        ((*SEARCH, "--objective", "mnasnet_hrd"), "did you mean 'mnasnet_hard'?"),
        ((*SEARCH, "--runtime", "onnx"), "did you mean 'onnxruntime'?"),
        ((*SEARCH, "--sampler", "tpee"), "did you mean 'tpe'?"),
        ((*SEARCH, "--estimator", "tarin"), "accuracy"),
        ((*SEARCH, "--init", "nowhere.pth"), "nowhere.pth"),
        ((*SEARCH, "--set", "supernet.epoch=3"), "'supernet.epoch'; did you mean 'epochs'?"),
        ((*SEARCH, "--set", "finetune_epochs=-1"), "finetune_epochs"),
        ((*SEARCH, "--estimator", "zero_cost", "--set", "zero_cost=naswt"), "'naswot', 'synflow'"),
        ((*SEARCH, "--baseline", "mobilenet_v3_larg"), "did you mean 'mobilenet_v3_large'?"),
        ((*SEARCH, "--baseline", "mobilenet_v2@wide"), "NAME@WIDTH"),
        ((*SEARCH, "--data", "nowhere"), "nowhere"),
        ((*SEARCH, "--device", "gpu"), "device"),
        ((*SEARCH, "--class-weights", "balanced"), "--class-weights"),
        (("train", "mobilenet_v3_small", "-o", "o", "--class-weights", "1,2"), "--class-weights"),
        (("train", "mobilenet_v3_small", "-o", "o", "--set", "mixup=-0.2"), "mixup"),
        ((*SEARCH, "--budget", "30"), "30m"),
        ((*SEARCH, "--budget", "soon"), "'soon'"),
        ((*SEARCH, "--resolution", "big"), "--resolution big"),
        ((*SEARCH, "--resolution", "224,224"), "224"),
        ((*SEARCH, "--trials", "0"), "trials"),
        ((*SEARCH, "--seeds", "0"), "--seeds"),
        (("export", "nowhere", "--trial", "3"), "nowhere"),
        ((*SEARCH, "--set", "recipe.epoch=3"), "'recipe.epoch'; did you mean 'epochs'?"),
        ((*SEARCH, "--set", "recipe.epochs"), "KEY=VALUE"),
        ((*SEARCH, "--set", "recipe.epochs=1e-3"), "'1e-3'"),
        ((*SEARCH, "--latency-table", "nowhere.yaml"), "nowhere.yaml"),
        (("search", "--latency-ms", "15,6", "--objective", "tunas"), "'tunas'"),
        ((*SEARCH, "--latency-ms", "6", "--set", "objective.formula=tunas"), "--objective"),
        (("search", "--latency-ms", "15,-1"), "-1.0 ms"),
        (("search", "--latency-ms", "15,6", "--set", "budgets_ms=[5]"), "--latency-ms 5,10,15"),
        ((*SEARCH, "fast"), "(fast)"),
        ((*SEARCH, "--runtime", "torch", "--runtime", "onnxruntime"), "2 times --runtime"),
        (("search", "--latency-ms", "15,6", "--runtime", "torch", "--runtime", "onnxruntime"), "--latency-ms 15,6"),
        ((*SEARCH, "--max-params", "5 MB"), "--max-params 5 MB"),
        ((*SEARCH, "--max-madds", "0"), "--max-madds 0"),
        ((*SEARCH, "--max-memory-mb", "0"), "max_memory_mb"),
        ((*SEARCH, "--set", "latency_ms=20"), "--latency-ms"),
        ((*SEARCH, "--frobnicate"), "--frobnicate"),
        (("resume", "nowhere"), "nowhere"),
        (("evaluate", "nowhere"), "nowhere"),
        (("export", "nowhere"), "nowhere"),
        (("zoo", "mobilenet_v4"), "'mobilenet_v4'"),
        (("spaces", "v4"), "'v4'"),
        (("latency", "measure", "mobilenet"), "'mobilenet'"),
        (("latency", "measure", "x.onnx"), "x.onnx"),
        (("latency", "build", "--runtime", "tflite"), "'tflite'"),
        (("latency", "build", "--threads", "100000"), "1024"),
        (("latency", "measure", "mobilenet_v3_small", "--batch", "1000000000"), "--batch or --resolution"),
        (("train", "mobilenet_v3_small", "-o", "o", "--resolution", "1000000"), "--set batch_size="),
        (("frobnicate",), "'frobnicate'"),
        ((*SEARCH, "--data", "a\nb"), r"'a\nb'"),
        ((*SEARCH, "--space", "a\nb.yaml"), r"a\nb.yaml"),
        (("zoo", "mobilenet_v2", "a\nb"), "mnas zoo --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_are_one_clear_line(mnas: Mnas, args: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = mnas(*args)
    assert message in done.err
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    assert not done.out
    assert not list(tmp_path.glob("runs/*")), "a refused command leaves nothing behind"


@pytest.mark.parametrize("args", [(), ("latency",)])
def test_no_command_is_answered_with_the_help(mnas: Mnas, args: tuple[str, ...]) -> None:
    done = mnas(*args)
    assert (done.code, done.out) == (2, "")
    assert done.err == mnas(*args, "--help").out


@pytest.mark.parametrize(
    ("args", "closed", "code"),
    [
        (("spaces", "v3_large"), "stdout", 141),
        (("spaces", "--json"), "stdout", 141),
        (("zoo", "mobilenet_v2"), "stdout", 141),
        (("zoo", "mobilenet_v4", "--json"), "stdout", 141),
        (("zoo", "mobilenet_v4"), "stderr", 141),
        (("zoo", "mobilenet_v4"), "stdout", 2),
    ],
)
def test_nobody_reads(args: tuple[str, ...], closed: str, code: int) -> None:
    """As in `mnas spaces | true`: no complaint, and the exit code of a tool that SIGPIPE ended."""
    reader, writer = os.pipe()
    os.close(reader)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: writer}
    try:
        done = subprocess.run([sys.executable, "-m", "mnas", *args], **pipes)  # type: ignore[call-overload]
    finally:
        os.close(writer)
    errors = [line for line in (done.stderr or b"").splitlines() if not line.startswith(b"error: unknown reference")]
    assert (done.returncode, done.stdout or b"", errors) == (code, b"", [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SPACE + "resolution: 1e-3\n", "line 3: "),
        (SPACE + "shared: no\n", "line 3: 'no'"),
        (SPACE + "name: y\n", "line 3: key 'name'"),
        (SPACE + "resolutions: 224\n", "'resolutions'; did you mean 'resolution'?"),
        (SPACE + "resolution: large\n", "resolution"),
        (SPACE + "#" * 10_000_000, "1,000,000"),
        ("[" * 10_000, "32"),
    ],
)
def test_bad_space_files(mnas: Mnas, tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "space.yaml", text)
    done = mnas(*SEARCH, "--space", path)
    assert message in done.err
    assert str(path) in done.err
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_bad_data_folders(mnas: Mnas, tmp_path: Path) -> None:
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    one = mnas(*SEARCH, "--data", "photos")
    (tmp_path / "photos" / "dogs").mkdir()
    empty = mnas(*SEARCH, "--data", "photos")
    assert one.code == empty.code == 2
    assert "class" in one.err
    assert "cats" in empty.err


def test_infeasible_budget(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    done = mnas("search", "--space", tiny, "--latency-ms", "0.0001", "--run", "run", "--json", "--set",
                "max_table_error=1.0")
    assert done.code == 3
    assert "0.0001" in done.err
    assert done.json["exit_code"] == 3


@pytest.mark.usefixtures("without_pictures")
def test_devices_in_the_order_of_the_command_line(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    from made_up_tables import made_up

    from mnas.space.cost import layer_madds
    from mnas.space.space import load_space

    layers = load_space(tiny).layers(10)
    entries = {layer: 0.1 + layer_madds(layer) / 1e6 for layer in layers}
    made_up(entries, device="a phone", runtime="tflite", threads=4, origin="imported").save(tmp_path / "phone.yaml")
    done = mnas("search", "--space", tiny, "--latency-table", "phone.yaml", "--latency-ms", "2", "--runtime", "torch",
                "--latency-ms", "60", "--max-params", "1M", "--trials", "1", "--run", "run", "--estimator", "train",
                "--baseline", "mobilenet_v3_small@0.5", "--set", "recipe.epochs=1", "--set", "proxy.epochs=1", "--set",
                "recipe.images=100", "--set", "proxy.images=100", "--set", "max_table_error=1.0")  # fmt: skip
    assert done.code == 0, done.err
    assert "1: a phone, tflite, threads: 4, batch 1, budget 2 ms, predicted" in done.out
    assert ", torch, threads: 1, batch 1, budget 60 ms" in done.out
    assert "not in the table" in done.out
    assert "finalist" in done.err


def test_several_budgets(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    from made_up_tables import made_up

    from mnas.space.cost import layer_madds
    from mnas.space.space import load_space

    entries = {layer: 0.1 + layer_madds(layer) / 1e6 for layer in load_space(tiny).layers(10)}
    made_up(entries, device="a phone", runtime="tflite", threads=4, origin="imported").save(tmp_path / "phone.yaml")
    quick = ("recipe.epochs=1", "proxy.epochs=1", "recipe.images=100", "proxy.images=64")
    asked = ("search", "--space", tiny, "--latency-table", "phone.yaml", "--run", "run", "--estimator", "train",
             "--trials", "4", "--baseline", "mobilenet_v3_small@0.35",
             *(word for one in quick for word in ("--set", one)))
    refused = mnas(*asked, "--latency-ms", "2,0.001,3")
    assert refused.code == 3
    assert "--latency-ms 0.001: no network of space" in refused.err
    assert "training" not in refused.err
    done = mnas(*asked, "--latency-ms", "2,1.5", "--compare-random", "--json")
    assert done.code == 0, done.err
    assert [Path(one["folder"]).relative_to("run") for one in done.json["winners"]] == [
        Path("winners/1.5ms"), Path("winners/2ms"),
    ]  # fmt: skip
    for one in done.json["winners"]:
        assert (Path(one["folder"]) / "model.onnx").exists()
        assert one["network"]["latency_ms"] <= one["budget_ms"]
    assert done.json["search"]["objective"] == "pareto"
    assert "1.5/2 ms (tflite on a phone)" in done.err
    assert "4 candidates, then as many random" in done.err
    shown = mnas("resume", "run")
    assert "winner-1.5ms" in shown.out and "winner-2ms" in shown.out
    assert ", budget 1.5/2 ms, predicted" in shown.out
    assert shown.out.splitlines()[-2:] == ["run/winners/1.5ms", "run/winners/2ms"]
    assert mnas("evaluate", "run/winners/1.5ms", "--json").json["images"] == 359
    shutil.rmtree(tmp_path / "run" / "winners" / "1.5ms")  # as where no candidate kept that budget
    missed = mnas("resume", "run", "--json")
    assert (missed.code, missed.json["missed_ms"]) == (3, [1.5])
    assert [one["budget_ms"] for one in missed.json["winners"]] == [2.0]
    assert "1.5 ms" in missed.err


def test_full_disk(mnas: Mnas, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device", "run/trials.jsonl")

    monkeypatch.setattr("mnas.run.Run.append_trial", full)
    done = mnas("search", "--space", tiny, "--latency-ms", "30", "--run", "run", "--trials", "1", "--estimator",
                "train", "--set", "proxy.epochs=1", "--set", "max_table_error=1.0")
    assert done.code == 2
    assert "run/trials.jsonl: No space left on device" in done.err.splitlines()[-1]


@pytest.mark.usefixtures("without_pictures")
def test_interrupted(mnas: Mnas, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mnas.estimators.train.TrainEstimator.__call__", interrupt)
        done = mnas("search", "--space", tiny, "--latency-ms", "30", "--run", "run", "--trials", "1",
                    "--estimator", "train", "--set", "recipe.epochs=1", "--set", "recipe.images=100", "--set",
                    "proxy.epochs=1", "--set", "max_table_error=1.0", "--set", "references=0")
    assert done.code == 130
    assert "mnas resume" in done.err
    assert mnas("resume", "run").code == 0
    with monkeypatch.context() as patch:
        patch.setattr("mnas.cli.output.print_networks", interrupt)
        done = mnas("resume", "run")
    assert (done.code, "mnas report run" in done.err) == (130, True), "nothing is left to continue"
