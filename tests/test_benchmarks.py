"""Every benchmark can be imported and started; what is quick in them runs here on a small scale."""

from __future__ import annotations

import importlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from PIL import Image

from mnas.config import Recipe
from mnas.space import zoo

FOLDER = Path(__file__).parent.parent / "benchmarks"
SHARED = {"common", "sampler_tables", "training_worker"}
SCRIPTS = sorted({path.stem for path in FOLDER.glob("*.py")} - SHARED)


@pytest.fixture
def benchmark() -> Iterator[Callable[[str], Any]]:
    """Imports a script as `python benchmarks/NAME.py` does, with its folder on the path."""
    names = SHARED | set(SCRIPTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module
        for name in names & sys.modules.keys():
            del sys.modules[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name: str, benchmark: Callable[[str], Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark(name).main(["--help"])
    assert ended.value.code == 0
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out


def test_readme_names_every_script() -> None:
    named = re.findall(r"^\| `(\w+)\.py`", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == SCRIPTS


def test_readme_has_the_figures_of_the_result_files(benchmark: Callable[[str], Any], tmp_path: Path) -> None:
    script = benchmark("readme_figures")
    script.main(["--check"])
    changed = tmp_path / "README.md"
    text = script.README.read_text()
    changed.write_text(re.sub(r"min \| \d\d", "min | 00", text))
    assert changed.read_text() != text
    script.README = changed
    with pytest.raises(SystemExit) as ended:
        script.main(["--check"])
    assert ended.value.code != 0
    script.main([])
    script.main(["--check"])


def test_readme_shows_its_pictures() -> None:
    root = FOLDER.parent
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (root / "README.md").read_text())
    assert len(pictures) == 2
    for picture in pictures:
        assert (root / picture).stat().st_size < 100_000


@pytest.mark.parametrize(("name", "arguments"), [
    ("found_vs_reference", ["other"]), ("sampler_efficiency", ["other"]), ("published_tables", []),
    ("recipe_parts", ["--parts", "nothing"]), ("recipe_parts", ["--parts", "mixup=-1.0"]),
])  # fmt: skip
def test_wrong_arguments(name: str, arguments: list[str], benchmark: Callable[[str], Any]) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark(name).main(arguments)
    assert ended.value.code == 2


def test_results_are_kept_by_part(
    benchmark: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = benchmark("common")
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    common.save_part("speed", "first", {"ms": 1})
    common.save_part("speed", "second", {"ms": 2})
    common.save_part("speed", "first", {"ms": 3})
    assert common.saved_parts("speed") == {"first": {"ms": 3}, "second": {"ms": 2}}
    written = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert set(written["first"]) == {"figures", "machine", "versions", "date", "command"}


def test_predict_speed(benchmark: Callable[[str], Any]) -> None:
    figures = benchmark("predict_speed").figures(many=20, few=5, rounds=1)
    assert figures["largest_relative_difference_from_plain_loop"] < 1e-9


def test_image_cache(benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # put back after the benchmark has set it
    figures = benchmark("image_cache").figures(count=200, sizes=(32,))
    assert figures["32px"]["disk_mb"] == round(200 * 3 * 32**2 / 1e6)
    assert figures["32px"]["random_batches_per_s"].keys() == {"mapped", "memory"}


def test_the_networks_of_the_truth_are_those_of_its_file(benchmark: Callable[[str], Any]) -> None:
    archs = benchmark("rank_truth").architectures()
    accuracies = benchmark("rank_correlation").true_accuracies("fashion_mnist.npz", archs)
    assert len(archs) == len(accuracies["test"]) == 24
    assert {len(seeds) for seeds in accuracies["test"]} == {2}


def test_an_estimate_equal_to_the_truth_has_a_tau_of_one(benchmark: Callable[[str], Any]) -> None:
    row = benchmark("rank_correlation").with_interval([float(i) for i in range(24)], [i / 24 for i in range(24)])
    assert row == {"tau": 1.0, "interval": [1.0, 1.0]}


def test_published_tables(benchmark: Callable[[str], Any]) -> None:
    tables = benchmark("published_tables")
    row = {"k": 3, "s": 2, "in_ch": 24, "mid": 72, "out_ch": 40, "act": "relu", "se": 1, "skip": 0}
    net = {"image_size": 160, "first_conv": 24, "final_expand": 960, "feature_mix": 1280, "blocks": [row]}
    arch = tables.architecture(net)
    assert (arch.resolution, arch.blocks[0].hidden, arch.blocks[0].se) == (160, 72, 24)
    assert len(tables.proxyless_space().layers(1000)) == 73


def test_sampler_efficiency(benchmark: Callable[[str], Any]) -> None:
    tables, script = benchmark("sampler_tables"), benchmark("sampler_efficiency")
    table = tables.of_space(tables.EIGHT, lambda space: lambda arch: float(len(arch.blocks)))
    assert table.points == 864
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    regrets = script.regrets_of(table, script.SAMPLERS["predictor"](table, 0), 5)
    assert len(regrets) == 5
    assert regrets == sorted(regrets, reverse=True)
    assert script.proposal_ms(table, script.SAMPLERS["random"], finished=3) > 0


def test_a_searchs_log_has_seconds(benchmark: Callable[[str], Any]) -> None:
    lines = ["2026-11-20 10:00:00,000 INFO begins", "2026-11-20 10:01:05,400 INFO ends"]
    assert benchmark("found_vs_reference").with_seconds(lines) == ["0 s: begins", "65 s: ends"]


def test_latency_fidelity_differences(benchmark: Callable[[str], Any]) -> None:
    ms = np.array([[1.0, 2.0], [1.0, 1.0], [3.0, 1.0], [2.0, 1.0]])
    assert benchmark("latency_fidelity").differences(ms).tolist() == [[0.0, 1.0], [0.5, 0.0]]


def test_parity_names_networks_of_the_zoo(benchmark: Callable[[str], Any]) -> None:
    for name, _, _ in benchmark("parity").PAIRS:
        assert zoo.load_architecture(name).resolution == 224


def test_recipe_parts(benchmark: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common, script = benchmark("common"), benchmark("recipe_parts")
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    for name in script.PARTS:
        assert (script.recipe_of(name, Recipe()) == Recipe()) == (name == "default"), f"{name} changes the recipe"
    quick = ["--data", "digits", "--epochs", "1", "--parts", "default", "images=100,ratio=1.5"]
    script.main([*quick, "--seeds", "2"])
    parts = common.saved_parts("recipe_parts")
    assert list(parts) == ["digits-all-default", "digits-all-images=100,ratio=1.5"]
    first, second = parts.values()
    assert (first["settings"]["resolution"], second["settings"]["train_images"]) == (32, 100)
    assert len(first["val_accuracies"]) == 2
    assert first["sd"] == pytest.approx(abs(first["val_accuracies"][0] - first["val_accuracies"][1]) / 2**0.5, abs=1e-5)
    monkeypatch.setattr(script, "row", lambda *args: pytest.fail("the same settings are not trained again"))
    script.main([*quick, "--seeds", "2"])


def test_recipe_parts_reads_images_in_a_row(benchmark: Callable[[str], Any], tmp_path: Path) -> None:
    """Bytes of images one after the other; here PNG, which keeps every pixel."""
    images = np.random.default_rng(0).integers(0, 256, (20, 24, 24, 3), np.uint8)
    streams = []
    for image in images:
        Image.fromarray(image).save(stream := io.BytesIO(), "png")
        streams.append(stream.getvalue())
    part = {
        "jpeg": np.frombuffer(b"".join(streams), np.uint8), "y": np.arange(20) % 2,
        "offsets": np.cumsum([0, *map(len, streams)]),
    }  # fmt: skip
    np.savez(tmp_path / "photos.npz", class_names=np.array(["a", "b"]),
             **{f"{key}_{kind}": value for kind in ("train", "test") for key, value in part.items()})
    script = benchmark("recipe_parts")
    data = script.opened(str(tmp_path / "photos.npz"))
    assert (data.name, data.classes, data.image_size) == ("photos", ("a", "b"), 24)
    assert [len(data.train), len(data.val), len(data.test)] == [16, 4, 20]
    assert (data.test.fetch(range(20), 24).permute(0, 2, 3, 1).numpy() == images).all()
    assert [script.resolution(size) for size in (8, 28, 32, 64)] == [32, 48, 48, 96]
