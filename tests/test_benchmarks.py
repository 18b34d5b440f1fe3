"""Every benchmark can be imported and started; what is quick in them runs here on a small scale."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from mnas.space import zoo

FOLDER = Path(__file__).parent.parent / "benchmarks"
SHARED = {"common", "sampler_tables"}
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


@pytest.mark.parametrize(("name", "arguments"), [
    ("searches", ["fashion"]), ("searches", ["other"]), ("sampler_efficiency", ["other"]), ("published_tables", []),
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


def test_searches_log_has_seconds(benchmark: Callable[[str], Any]) -> None:
    lines = ["2026-11-20 10:00:00,000 INFO begins", "2026-11-20 10:01:05,400 INFO ends"]
    assert benchmark("searches").with_seconds(lines) == ["0 s: begins", "65 s: ends"]


def test_search_cost_reads_the_log(benchmark: Callable[[str], Any]) -> None:
    log = ["2026-11-20 10:00:00,000 INFO begins", "2026-11-20 10:01:05,400 INFO ends"]
    time_of = benchmark("search_cost").time_of
    assert (time_of(log, "ends") - time_of(log, "begins")).total_seconds() == 65.4


def test_latency_fidelity_differences(benchmark: Callable[[str], Any]) -> None:
    import numpy as np

    ms = np.array([[1.0, 2.0], [1.0, 1.0], [3.0, 1.0], [2.0, 1.0]])
    assert benchmark("latency_fidelity").differences(ms).tolist() == [[0.0, 1.0], [0.5, 0.0]]


def test_parity_names_networks_of_the_zoo(benchmark: Callable[[str], Any]) -> None:
    for name, _, _ in benchmark("parity").PAIRS:
        assert zoo.load_architecture(name).resolution == 224
