"""Names beside files and folders of the same name; paths found again from another folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from command import Mnas
from PIL import Image

TRAIN = ("train", "mobilenet_v3_small@0.35", "--resolution", "32", "--set", "epochs=1")


def pictures(folder: Path, count: int = 8) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.usefixtures("without_pictures")
def test_a_folder_named_like_the_built_in_data(mnas: Mnas, tmp_path: Path) -> None:
    pictures(tmp_path / "digits")
    (tmp_path / "mobilenet_v3_small@0.35").write_text("no architecture")
    named = mnas(*TRAIN, "--data", "digits", "--set", "images=64", "-o", "named", "--json")
    assert named.code == 0, named.err
    assert named.json["accuracy"]["train_images"] in range(50, 80)
    assert "./digits" in named.err
    stated = mnas(*TRAIN, "--data", "./digits", "-o", "stated", "--json")
    assert stated.code == 0, stated.err
    assert stated.json["accuracy"]["source"] == str(tmp_path / "digits")
    assert mnas("zoo", "mobilenet_v3_small").code == 0


def test_a_folder_named_like_a_network(mnas: Mnas, tmp_path: Path) -> None:
    (tmp_path / "mobilenet_v3_small@0.35").mkdir()
    quick = ("--resolution", "32", "--rounds", "10")
    done = mnas("latency", "measure", "mobilenet_v3_small@0.35", *quick)
    assert done.code == 0, done.err
    assert "./mobilenet_v3_small@0.35" in done.err
    assert mnas("latency", "measure", "./mobilenet_v3_small@0.35", *quick).code == 2


def test_a_file_named_like_a_space(mnas: Mnas, tmp_path: Path) -> None:
    (tmp_path / "v3_small").write_text("name: mine")
    found = mnas("spaces", "v3_small", "--json")
    assert (found.code, found.json["name"]) == (0, "v3_small")


@pytest.mark.usefixtures("without_pictures")
def test_evaluated_from_another_folder(mnas: Mnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "photos")
    for i in range(3):
        (tmp_path / "photos" / "cats" / f"broken{i}.png").write_bytes(b"no image")
    refused = mnas(*TRAIN, "--data", "photos", "-o", "out", "--max-broken", "1")
    assert refused.code == 2
    assert "--max-broken" in refused.err
    trained = mnas(*TRAIN, "--data", "photos", "-o", "out", "--max-broken", "3", "--json")
    assert trained.code == 0, trained.err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    evaluated = mnas("evaluate", tmp_path / "out", "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.json["accuracy"] == trained.json["networks"][0]["test_accuracy"]


def test_config_lists_every_key(mnas: Mnas) -> None:
    from mnas.config import RunConfig
    from mnas.io.strict_yaml import validate

    printed = mnas("config")
    values = yaml.safe_load(printed.out)
    assert list(values) == list(RunConfig.model_fields)
    assert validate(RunConfig, values, "config").recipe.epochs == 30
    assert printed.out.count("#") > len(RunConfig.model_fields)
    assert mnas("config", "--json").json["references"] == 2
