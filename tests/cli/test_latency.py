"""`mnas latency measure`, `build` and `check` as a user types them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Mnas
from made_up_tables import FIT, changed, made_up, refitted

from mnas.commands import latency as latency_commands
from mnas.latency.runtimes import get_runtime
from mnas.latency.table import build as building
from mnas.latency.table import calibrate as calibrating
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing.quiet import usable_cores
from mnas.latency.timing.rounds import Inference
from mnas.nn.network import build
from mnas.space import zoo
from mnas.space.layer import Layer


@pytest.fixture
def latency(mnas: Mnas, tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mnas:
    """Run `mnas latency ...` beside tiny.yaml, with a cache of its own, and few networks to calibrate with."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in {"FITTED": 3, "HELD_OUT": 3, "ROUNDS": 4}.items():
        monkeypatch.setattr(calibrating, name, value)
    return functools.partial(mnas, "latency")


BUILD = ("build", "--space", "tiny.yaml", "--classes", "10", "--resolution", "32", "-o", "table.yaml")
VERDICTS = ("good", "worse than stated", "inexact")
CHECK = ("check", "table.yaml", "--space", "tiny.yaml", "--networks", "3")


# --- measure ----------------------------------------------------------------------------------------------------


def test_measure_several_networks(latency: Mnas) -> None:
    (Path("own.yaml")).write_text(zoo.get("mobilenet_v3_small", 0.35, 48).to_yaml())
    names = ["mobilenet_v3_small", "mobilenet_v3_small@0.5", "own.yaml"]
    found = latency("measure", *names, "--resolution", "64", "--rounds", "10", "--json").json
    assert [network["name"] for network in found["networks"]] == names
    for network in found["networks"]:
        assert set(network) == {"name", "latency_ms", "spread_ms", "rounds", "unstable"}
        assert 0 < network["latency_ms"] < 1000
        assert network["spread_ms"] >= 0
        assert network["rounds"] == 10
        assert network["unstable"] is None or network["unstable"].strip()
    assert (found["runtime"], found["threads"], found["batch"]) == ("torch", 1, 1)
    assert found["runtime_version"] == get_runtime("torch").version()
    assert found["device"] == get_runtime("torch").device_name()


def test_measure_shows_a_table(latency: Mnas) -> None:
    done = latency("measure", "mobilenet_v3_small@0.35", "--resolution", "32", "--rounds", "10")
    assert done.code == 0
    assert "batch 1" in done.out
    assert "mobilenet_v3_small@0.35" in done.out
    assert " +- " in done.out
    assert "unstable" in done.out


def test_measure_ends_when_it_is_precise_enough(latency: Mnas) -> None:
    how = ("mobilenet_v3_small@0.35", "--resolution", "32", "--rounds", "20", "--json")
    assert latency("measure", *how, "--precision", "1000").json["networks"][0]["rounds"] == 10
    assert latency("measure", *how, "--precision", "0").json["networks"][0]["rounds"] == 20


def test_measure_with_as_many_classes_as_asked(latency: Mnas, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.setattr(latency_commands, "build", lambda arch, classes: built.append(classes) or build(arch, classes))
    how = ("measure", "mobilenet_v3_small@0.35", "--resolution", "32", "--rounds", "10")
    assert (latency(*how, "--classes", "7").code, latency(*how).code) == (0, 0)
    assert built == [7, 1000]


def test_measure_a_model_file(latency: Mnas) -> None:
    arch = zoo.get("mobilenet_v3_small", 0.35, 32)
    example = torch.rand(1, 3, 32, 32)
    Path("m.onnx").write_bytes(get_runtime("onnxruntime").artifact(build(arch, 10).eval(), example))
    how = ("--rounds", "10", "--json")
    unknown = latency("measure", "m.onnx", "--runtime", "onnxruntime", *how)
    assert (unknown.code, unknown.err.count("\n")) == (2, 1), "it is not of 224 pixels"
    Path("architecture.yaml").write_text(arch.to_yaml())
    assert latency("measure", "m.onnx", "--runtime", "onnxruntime", *how).code == 0
    how = ("--resolution", "32", *how)
    found = latency("measure", "m.onnx", "mobilenet_v3_small@0.35", "--runtime", "onnxruntime", *how).json
    assert [network["name"] for network in found["networks"]] == ["m.onnx", "mobilenet_v3_small@0.35"]
    assert found["runtime"] == "onnxruntime"
    refused = latency("measure", "m.onnx", "--resolution", "32")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "m.onnx" in refused.err
    assert "onnxruntime" in refused.err


@pytest.mark.parametrize(("args", "message"), [
    (("mobilenet",), "unknown reference network 'mobilenet'"),
    (("mobilenet_v3_small", "mobilenet_v3_smal"), "did you mean 'mobilenet_v3_small'?"),
    (("absent.yaml",), "absent.yaml"),
    (("absent.onnx", "--runtime", "onnxruntime"), "absent.onnx"),
    (("mobilenet_v3_small", "--runtime", "onnx"), "did you mean 'onnxruntime'?"),
    (("mobilenet_v3_small", "--threads", "0"), "--threads"),
    (("mobilenet_v3_small", "--threads", "1000"), f"{usable_cores()} core"),
    (("mobilenet_v3_small", "--rounds", "0"), "--rounds"),
    (("mobilenet_v3_small", "--seconds", "inf"), "--seconds inf"),
    ((), "Missing argument"),
])  # fmt: skip
def test_mistakes_in_measure(latency: Mnas, args: tuple[str, ...], message: str) -> None:
    done = latency("measure", *args)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message.lower() in done.err.lower()


# --- build and check --------------------------------------------------------------------------------------------


def test_build_then_check(latency: Mnas) -> None:
    built = latency(*BUILD, "--json").json
    table = LatencyTable.load(Path("table.yaml"))
    assert (built["path"], built["space"], built["layers"], built["failed"]) == (
        "table.yaml", "tiny", len(table.entries), 0
    )  # fmt: skip
    assert 0 < built["fastest_ms"] < built["slowest_ms"] < 100
    assert table.calibration is not None
    assert built["calibration"] == json.loads(json.dumps(table.calibration.to_dict()))
    content = Path("table.yaml").read_bytes()
    shown = latency(*BUILD)
    assert f"table.yaml: {len(table.entries)} layers" in shown.out
    assert f"mean {table.calibration.error.mean_error:.1%}" in shown.out
    assert Path("table.yaml").read_bytes() == content, "what is measured is kept"

    found = latency(*CHECK, "--resolution", "32", "--seed", "3", "--json").json
    assert (found["space"], found["networks"], found["classes"]) == ("tiny", 3, 10)
    assert found["stated"] == built["calibration"]
    for name in ("today", "same_speed"):
        assert set(found[name]) == {"mean_error", "max_error", "bias", "spearman"}
        assert 0 <= found[name]["mean_error"] <= found[name]["max_error"]
    assert found["slower"] > 0
    # what the machine's speed explains is the ratio of both biases
    assert (1 + found["same_speed"]["bias"]) / (1 + found["today"]["bias"]) == pytest.approx(found["slower"], rel=1e-3)
    assert found["unstable"] is None or found["unstable"].strip()
    table_text = latency(*CHECK, "--resolution", "32")
    rows = ("when it was made", "today", "the machine's speed then", "Spearman", "3 networks of space tiny for")
    for row in rows:
        assert row in table_text.out
    assert found["verdict"] in VERDICTS
    assert table_text.out.strip().splitlines()[-1].startswith((*VERDICTS, "unstable"))


@pytest.mark.parametrize(("error", "stated", "repeatability", "verdict"), [
    (0.014, 0.01, 0.005, "good"), (0.016, 0.01, 0.005, "worse than stated"), (0.06, 0.10, 0.01, "inexact"),
    (0.06, 0.01, 0.01, "inexact"), (0.05, None, 0.0, "good"), (0.051, None, 0.01, "inexact"),
])  # fmt: skip
def test_the_verdict_of_a_check(error: float, stated: float | None, repeatability: float, verdict: str) -> None:
    fit = None if stated is None else refitted(FIT, mean_error=stated)
    assert latency_commands.verdict_of(error, fit, repeatability) == verdict


def test_check_by_the_tables_own_space_and_sizes(latency: Mnas) -> None:
    latency(*BUILD)
    refused = latency("check", "table.yaml")
    assert "'tiny'" in refused.err, "a space of the user's own needs its file's path"
    other_size = latency(*CHECK, "--resolution", "48")
    assert "--space SPACE --classes 10 --resolution 48 --runtime torch" in other_size.err
    other_classes = latency(*CHECK, "--classes", "7")
    assert "--classes 7" in other_classes.err
    assert (refused.code, other_size.code, other_classes.code) == (2, 2, 2)
    assert latency(*CHECK, "--json").json["slower"] > 0, "the space has size 48 too, which the table was not made for"


def test_a_damaged_cache_is_built_anew(latency: Mnas) -> None:
    how = BUILD[:-2]
    path = Path(latency(*how, "--json").json["path"])
    path.write_text("device: [")
    done = latency(*how, "--json")
    assert done.json["path"] == str(path)
    assert path.name in done.err


def test_tables_that_cannot_be_checked_here(latency: Mnas) -> None:
    table = made_up(device="Galaxy Note10", runtime="tflite", origin="imported")
    table.save(Path("table.yaml"))
    imported = latency(*CHECK)
    assert "(Galaxy Note10)" in imported.err
    adapter = get_runtime("torch")
    here = changed(table, device=adapter.device_name(), runtime="torch", runtime_version="1.0", origin="built")
    here.save(Path("table.yaml"))
    old = latency(*CHECK)
    assert f"1.0, not {adapter.version()}" in old.err
    changed(here, runtime_version=adapter.version()).save(Path("table.yaml"))
    nameless = latency("check", "table.yaml")
    assert "--space" in nameless.err
    empty = latency(*CHECK)
    assert "mnas latency build" in empty.err
    absent = latency("check", "absent.yaml")
    assert "absent.yaml" in absent.err
    for done in (imported, old, nameless, empty, absent):
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_a_foreign_table_is_not_extended(latency: Mnas) -> None:
    adapter = get_runtime("torch")
    table = made_up(device=adapter.device_name(), runtime_version=adapter.version(), threads=4)
    table.save(Path("table.yaml"))
    done = latency(*BUILD)
    assert done.code == 2
    assert "4, not 1" in done.err


def test_a_kit_and_a_table_for_grey_images(latency: Mnas, tiny: Path, tmp_path: Path) -> None:
    done = latency("build", "--space", tiny, "--classes", "10", "--channels", "1", "-o", "grey.yaml", "--json")
    assert done.code == 0, done.err
    table = LatencyTable.load(tmp_path / "grey.yaml")
    assert {layer.in_channels for layer in table.entries if layer.takes_images} == {1}
    kit = latency("kit", "--space", tiny, "--classes", "10", "--channels", "1", "-o", "kit.zip", "--json")
    assert kit.code == 0, kit.err
    refused = latency("build", "--space", tiny, "--channels", "2", "-o", "x.yaml")
    assert (refused.code, "--channels 2" in refused.err) == (2, True)


# --- choices that are left out, and suggested ---------------------------------------------------------------------


def test_build_and_check_without_some_choices(latency: Mnas) -> None:
    built = latency(*BUILD, "--without", "se,kernel5", "--json").json
    assert built["space"] == "tiny without se, kernel5"
    table = LatencyTable.load("table.yaml")
    assert not any(layer.se or layer.kernel == 5 for layer in table.entries)
    assert {one["without"] for one in built["suggestions"]} <= {"hard_swish", "expand3"}
    assert latency(*CHECK, "--json").json["space"] == "tiny without se, kernel5"
    refused = latency(*BUILD, "--without", "kernel9")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_build_says_what_failed_as_a_suggestion(
    latency: Mnas, mnas: Mnas, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = building._prepared

    def without_kernel5(*args: Any) -> dict[Layer, Inference | str]:
        return {layer: "no such kernel" if layer.kernel == 5 else found for layer, found in prepared(*args).items()}

    monkeypatch.setattr(building, "_prepared", without_kernel5)
    done = latency(*BUILD)
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("suggestion: --without kernel5")
    (suggestion, *_) = latency(*BUILD, "--json").json["suggestions"]
    assert (suggestion["without"], suggestion["slower"], suggestion["why"]) == ("kernel5", None, "no such kernel")
    refused = mnas("search", "--space", "tiny.yaml", "--resolution", "32", "--latency-ms", "5", "--latency-table",
                   "table.yaml", "--run", "run")
    assert refused.code == 2 and not Path("run").exists()
    assert "no such kernel" in (line := refused.err.splitlines()[-1]) and "--without kernel5" in line
