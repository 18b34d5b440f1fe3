"""Folders as people have them, from the command line: what was trained is evaluated on the right images."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import Mnas
from PIL import Image

from mnas.latency.table.calibration import Calibration

pytestmark = pytest.mark.usefixtures("without_pictures")


def fill(folder: Path, shade: int, count: int, start: int = 0, shape: tuple[int, int] = (20, 24)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        rng = np.random.default_rng((shade, i))
        pixels = np.clip(rng.normal(shade, 30, (*shape, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")


def classes(root: Path, count: int, start: int = 0) -> Path:
    fill(root / "dark", 60, count, start)
    fill(root / "light", 190, count, start)
    return root


TRAIN = ("train", "mobilenet_v3_small@0.35", "--data", "photos", "-o", "out", "--resolution", "32", "--set", "epochs=1")


@pytest.fixture
def trained(mnas: Mnas, tmp_path: Path) -> Path:
    classes(tmp_path / "photos", 20)
    done = mnas(*TRAIN, "--json")
    assert done.code == 0, done.err
    return tmp_path


def test_new_photos(mnas: Mnas, trained: Path) -> None:
    classes(trained / "new", 15, 500)
    classes(trained / "only" / "test", 4, 600)
    fill(trained / "part" / "dark", 60, 9, 700)
    classes(trained / "split" / "train", 5, 800)
    classes(trained / "split" / "val", 3, 900)
    for data, images in (("new", 30), ("only", 8), ("part", 9)):
        done = mnas("evaluate", "out", "--data", data, "--json")
        assert (done.code, done.json["images"]) == (0, images), done.err
    refused = mnas("evaluate", "out", "--data", "split")
    assert refused.code == 2 and "--split" in refused.err
    assert mnas("evaluate", "out", "--data", "split", "--split", "val", "--json").json["images"] == 6
    fill(trained / "part" / "grey", 128, 2)
    refused = mnas("evaluate", "out", "--data", "part")
    assert refused.code == 2 and "'grey'" in refused.err and "dark, light" in refused.err


def test_the_same_photos_elsewhere(mnas: Mnas, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mnas("evaluate", "out", "--json").json
    assert before["images"] == 8
    (trained / "below").mkdir()
    monkeypatch.chdir(trained / "below")
    assert mnas("evaluate", "../out", "--json").json["accuracy"] == before["accuracy"]
    shutil.move(trained / "photos", trained / "moved")
    refused = mnas("evaluate", "../out")
    assert refused.code == 2 and "--data" in refused.err
    again = mnas("evaluate", "../out", "--data", "../moved", "--json")
    assert (again.json["accuracy"], again.json["images"]) == (before["accuracy"], 8), again.err


def test_another_seed_is_refused_where_splits_are_written(mnas: Mnas, trained: Path) -> None:
    refused = mnas("evaluate", "out", "--seed", "3")
    assert refused.code == 2 and "splits.json" in refused.err
    assert mnas("evaluate", "out", "--seed", "0").code == 0


def test_photos_of_another_shape(mnas: Mnas, tmp_path: Path) -> None:
    for name, shade in (("dark", 60), ("light", 190)):
        fill(tmp_path / "photos" / name, shade, 12, shape=(16, 64))
    done = mnas(*TRAIN, "--fit", "pad", "--json")
    assert done.code == 0, done.err
    assert done.json["accuracy"]["fit"] == "pad" and "--fit" not in done.err
    card = (tmp_path / "out" / "README.md").read_text()
    assert "longer side" in card and "borders" in card
    shutil.rmtree(tmp_path / "out")
    done = mnas(*TRAIN)
    assert re.search("warning: .*4.0 times.*--fit", done.err)


def test_sides_that_tell_the_class_are_found_out(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    """By train, by search and by a resumed search, unless the fit is stated."""
    for name, shade in (("dark", 60), ("light", 190)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(60):
            strip = np.full((16, 64, 3), 128 + i % 7, np.uint8)
            strip[:, :16], strip[:, -16:] = shade, 250 - shade
            Image.fromarray(strip).save(folder / f"{i}.png")
    done = mnas(*TRAIN, "--json")
    assert done.code == 0, done.err
    fit = done.json["accuracy"]["fit"]
    assert fit in ("pad", "squeeze") and "4.0 times" not in done.err
    assert mnas("evaluate", "out", "--json").json["accuracy"] == done.json["networks"][0]["test_accuracy"]
    assert mnas(*TRAIN[:4], "-o", "other", *TRAIN[6:], "--fit", "crop", "--json").json["accuracy"]["fit"] == "crop"
    search = ("search", "--space", tiny, "--data", "photos", *QUICK, "--run", "run")
    done = mnas(*search, "--json")
    assert done.code == 0, done.err
    assert done.json["accuracy"]["fit"] == fit
    state = tmp_path / "run" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"done": False}))
    shutil.rmtree(tmp_path / "run" / "winner")
    again = mnas("resume", "run", "--json")
    assert again.code == 0 and again.json["accuracy"]["fit"] == fit, again.err


def test_labels_and_groups(mnas: Mnas, tmp_path: Path) -> None:
    fill(tmp_path / "photos", 100, 40)
    lines = "\n".join(f"{i:03}.png,{('dark', 'light')[i % 2]}" for i in range(40))
    (tmp_path / "labels.csv").write_text("path,class\n" + lines)
    done = mnas(*TRAIN, "--labels", "labels.csv", "--group-by", r"0(\d)\d.png", "--json")
    assert done.code == 0, done.err
    assert done.json["accuracy"]["test_images"] == 10, "whole groups of ten"
    assert mnas("evaluate", "out", "--json").json["images"] == 10
    refused = mnas(*TRAIN[:4], "-o", "other", "--labels", "labels.csv", "--group-by", "(")
    assert refused.code == 2 and "--group-by" in refused.err


QUICK = ("--latency-ms", "30", "--trials", "2", "--estimator", "zero_cost", "--set", "recipe.epochs=1",
         "--set", "recipe.images=100", "--set", "max_table_error=1.0", "--set", "references=0")  # fmt: skip


def test_a_run_folder_may_have_any_name(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    name = "50% what? #2 & a;b='c'"
    done = mnas("search", "--space", tiny, *QUICK, "--run", f"runs/{name}")
    assert done.code == 0, done.err
    assert {"study.db", "run.log", "winner"} <= {path.name for path in (tmp_path / "runs" / name).iterdir()}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [name]
    assert mnas("resume", f"runs/{name}").code == 0


def test_a_run_goes_on_with_its_photos_and_storage_elsewhere(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    classes(tmp_path / "photos", 20)
    fill(tmp_path / "photos" / "thumbs", 100, 2)
    search = ("search", "--space", tiny, "--data", "photos", "--latency-ms", "30", "--trials", "2", "--run", "run",
              "--estimator", "zero_cost", "--set", "recipe.epochs=1", "--set", "max_table_error=1.0",
              "--metric", "balanced", "--fit", "squeeze")  # fmt: skip
    done = mnas(*search, "--json")
    assert done.code == 0, done.err
    for said in (done.err, (tmp_path / "run" / "run.log").read_text()):
        assert said.count("thumbs") == 1, "once, although the photos are opened before the run's folder is made"
    first = (tmp_path / "run" / "splits.json").read_bytes()
    assert (tmp_path / "run" / "winner" / "splits.json").read_bytes() == first
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    classes(tmp_path / "moved", 3, 900)
    (tmp_path / "run" / "state.json").write_text(
        (tmp_path / "run" / "state.json").read_text().replace('"done": true', '"done": false')
    )
    (tmp_path / "run" / "winner" / "metrics.json").unlink()
    again = mnas("resume", "run", "--data", "moved", "--storage", "sqlite:///other.db", "--json")
    assert again.code == 0, again.err
    assert "left out: 6" in again.err
    assert (tmp_path / "run" / "splits.json").read_bytes() == first
    assert again.json["accuracy"]["test_images"] == 8
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "other.db" in config and str(tmp_path / "moved") in config


def test_a_table_that_is_too_inexact_postpones_the_run(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as busy:
        busy.setattr(Calibration, "is_exact", lambda self, limit: False)
        done = mnas("search", "--space", tiny, *QUICK, "--run", "run")
        assert (done.code, "mnas resume run" in done.err) == (2, True)
        assert (tmp_path / "run" / "config.yaml").exists()
        assert mnas("resume", "run").code == 2, "still busy"
    assert mnas("resume", "run").code == 0
