"""`mnas predict`: what evaluation would say of the same files, by the weights or any exported file."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Mnas
from pictures import CLASSES, write_deep_pictures, write_network, write_pictures
from PIL import Image

import mnas as package
from mnas.commands import predict as command
from mnas.data.augment import normalise
from mnas.data.evaluation import new_images
from mnas.data.images import readable_heif
from mnas.data.loader import batches, cached
from mnas.data.reading import Reading
from mnas.errors import MissingDependency
from mnas.export.folder import load_model
from mnas.latency.runtimes import get_runtime

SIZES: tuple[Any, ...] = (32, (24, 50))
READINGS = [
    Reading(), Reading("pad"), Reading("squeeze"), Reading(channels=1), Reading("pad", (0, 4095)),
    Reading(value_range=(10, 300), channels=1), Reading("squeeze", max_pixels=100_000_000),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a network, whose run has the name `run`."""
    return write_network(tmp_path / "run" / "winner")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "photos")[0].parent


def shares(one: dict[str, Any]) -> dict[str, float]:
    return {guess["class"]: guess["probability"] for guess in one["predictions"]}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reading", READINGS)
def test_the_network_gets_what_evaluation_gives_it(size: Any, reading: Reading, tmp_path: Path) -> None:
    """Bit for bit, for every kind of file: the steps are those of preprocessing.json alone."""
    folder = write_network(tmp_path / "net", size, reading)
    write_pictures(tmp_path / "new" / CLASSES[0])
    if reading.value_range is not None:
        write_deep_pictures(tmp_path / "new" / CLASSES[1], 4095)
    split = new_images(tmp_path / "new", None, CLASSES, reading=reading, max_broken=0).images
    cpu = torch.device("cpu")
    for one in (split, cached(split, size)):  # streamed, and as training reads them from its cache
        expected = torch.cat([
            normalise(raw, size) for raw, _ in batches(one, batch_size=7, size=size, device=cpu, workers=0)
        ])  # fmt: skip
        seen: list[torch.Tensor] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command, "_weights", recording(seen))
            done = package.predict(folder, tmp_path / "new")
        assert len(done["images"]) == len(split)
        assert torch.equal(torch.cat(seen), expected)


def recording(seen: list[torch.Tensor]) -> Callable[..., Any]:
    def weights(folder: Path, steps: Any, device: torch.device) -> Any:
        def logits(images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return torch.zeros(len(images), len(CLASSES))

        return command._Classifier(logits, "torch", folder, torch.device("cpu"), 6)

    return weights


@pytest.mark.usefixtures("without_pictures")
def test_its_accuracy_is_that_of_evaluate(mnas: Mnas, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 15)):
        for name, shade in (("dark", 110), ("light", 140)):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(shade, 60, (20, 24, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / split / name / f"{i}.png")
    done = mnas("train", "mobilenet_v3_small@0.35", "--data", "photos", "-o", "out", "--resolution", "32",
                "--set", "epochs=2")  # fmt: skip
    assert done.code == 0, done.err
    evaluated = mnas("evaluate", "out", "--json").json
    found = mnas("predict", "out", "photos/test", "--top", "1", "--json").json["images"]
    right = [Path(one["image"]).parent.name == one["predictions"][0]["class"] for one in found]
    assert evaluated["images"] == len(right) == 30
    assert evaluated["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-9)


def test_table_json_and_csv(mnas: Mnas, folder: Path, photos: Path) -> None:
    done = mnas("predict", "run", "photos/RGB.png", photos / "tall.webp", "--top", "2", "-o", "out.csv")
    assert done.code == 0, done.err
    found = mnas("predict", folder, "photos/RGB.png", photos / "tall.webp", "--json").json
    assert [one["image"] for one in found["images"]] == ["photos/RGB.png", str(photos / "tall.webp")]
    assert (found["folder"], found["runtime"], found["resolution"], found["skipped"]) == (str(folder), "torch", 32, [])
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert len(rows) == 4
    for row, one in zip(rows[::2], found["images"], strict=True):
        best = one["predictions"][0]
        assert len(one["predictions"]) == 5 and sum(shares(one).values()) <= 1 + 1e-6
        assert (row["image"], row["rank"], row["class"]) == (one["image"], "1", best["class"])
        assert float(row["probability"]) == pytest.approx(best["probability"], rel=1e-5)
        assert f"{best['class']} {best['probability']:.1%}" in done.out
    refused = mnas("predict", "run", "photos", "-o", "out.csv")
    assert refused.code == 2 and "out.csv" in refused.err
    assert len(mnas("predict", "run", "photos", "--top", "99", "--json").json["images"][0]["predictions"]) == 6


def test_a_folder_is_walked_as_data_are(mnas: Mnas, folder: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "deeper" / "__MACOSX").mkdir(parents=True)
    for name in ("deeper/a.png", "deeper/__MACOSX/b.png", ".hidden.png"):
        shutil.copy(photos / "RGB.png", photos / name)
    (photos / "notes.txt").write_text("no image")
    (photos / "raw.cr2").write_text("not read")
    before = len(list(photos.glob("*"))) - 4
    done = mnas("predict", "run", "photos", "--json")
    assert len(done.json["images"]) == before + 1 and done.json["skipped"] == []
    assert "1 of .cr2" in done.err


def test_damaged_images_are_named_and_skipped(mnas: Mnas, folder: Path, photos: Path) -> None:
    whole = (photos / "turned.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "none.jpg").write_bytes(b"")
    Image.fromarray(np.zeros((9, 9), np.float32)).save(photos / "float.tif")
    done = mnas("predict", "run", photos, "--json")
    assert done.code == 0
    assert {Path(one["image"]).name for one in done.json["skipped"]} == {"cut.png", "none.jpg", "float.tif"}
    assert all(f"{one['image']} ({one['reason']})" in done.err for one in done.json["skipped"])
    assert mnas("predict", "run", photos, "--max-broken", "3").code == 0
    refused = mnas("predict", "run", photos, "--max-broken", "2")
    assert refused.code == 2 and "--max-broken" in refused.err
    refused = mnas("predict", "run", photos / "cut.png", photos / "float.tif")
    assert refused.code == 2 and "cut.png" in refused.err.splitlines()[-1]


def test_more_or_fewer_bits_than_in_training(mnas: Mnas, folder: Path, photos: Path, tmp_path: Path) -> None:
    deep = write_deep_pictures(tmp_path / "deep", 4095)
    done = mnas("predict", "run", tmp_path / "deep", "--json")
    assert len(done.json["images"]) == len(deep) - 1 and f"more than 8 bits: {len(deep)}" in done.err
    write_network(folder, reading=Reading(value_range=(0, 4095)))
    done = mnas("predict", "run", tmp_path / "deep", photos / "RGB.png", "--json")
    assert len(done.json["images"]) == len(deep) + 1 and "images of 8 bits: 1" in done.err
    assert "8 bits" not in mnas("predict", "run", tmp_path / "deep").err


def test_bad_input(mnas: Mnas, folder: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "heic").mkdir()
    (tmp_path / "heic" / "a.cr2").touch()
    (tmp_path / "a.heic").touch()
    image = photos / "RGB.png"
    for words, named in (
        (("run", "gone.png"), "gone.png"),
        (("run", "empty"), "empty"),
        (("run", image, "heic"), "1 of .cr2"),
        (("run", "a.heic"), "a.heic" if readable_heif() else "pip install pillow-heif"),
        (("photos", image), "architecture.yaml"),
        (("nowhere", image), "nowhere"),
        (("run",), "IMAGES"),
        (("run", image, "--runtime", "onnx"), "onnxruntime"),
        (("run", image, "--file", "model.keras"), "--runtime"),
        (("run", image, "--file", "gone.onnx"), "gone.onnx"),
        (("run", image, "--top", "0"), "--top"),
    ):
        done = mnas("predict", *words)
        assert done.code == 2 and named in done.err.splitlines()[-1], (words, done.err)
        assert done.err.splitlines()[-1].startswith("error: ")
    steps = json.loads((folder / "preprocessing.json").read_text())
    for changed in ({"normalise": {**steps["normalise"], "scale": 1}}, {"fit": "zoom"}, {"input": {}}, {"classes": 3}):
        (folder / "preprocessing.json").write_text(json.dumps(steps | changed))
        done = mnas("predict", "run", image)
        assert done.code == 2 and "preprocessing.json" in done.err, changed


# --- exported files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runtime", "format"),
    [("onnxruntime", "onnx"), ("opencv", "onnx"), ("openvino", "openvino"), ("litert", "litert"),
     ("executorch", "executorch"), ("torch", "torch_export")],
)  # fmt: skip
def test_a_missing_file_says_its_export(runtime: str, format: str, mnas: Mnas, folder: Path, photos: Path) -> None:
    done = mnas("predict", "run", photos / "RGB.png", "--runtime", runtime)
    assert done.code == 2 and done.out == ""
    assert f"--format {format}" in done.err or "pip install" in done.err


@pytest.mark.parametrize(
    ("runtime", "reading"),
    [*((runtime, Reading()) for runtime in command.FILES), ("onnxruntime", Reading("pad", channels=1))],
)
def test_every_runtime_says_what_pytorch_says(
    runtime: str, reading: Reading, mnas: Mnas, photos: Path, tmp_path: Path
) -> None:
    """By a file of a static batch of one image, which a runtime's artifact is, and of any batch, which ours is."""
    try:
        adapter = get_runtime(runtime)
    except MissingDependency as error:
        pytest.skip(str(error))
    folder = write_network(tmp_path / "net", 32, reading)
    network, arch = load_model(folder)
    path = folder / (f"model{adapter.suffix}")
    path.write_bytes(adapter.artifact(network, torch.zeros(arch.input_shape(1))))
    images = [photos / name for name in ("RGB.png", "large.jpg", "half.png")]
    expected = mnas("predict", folder, *images, "--top", "6", "--json").json["images"]
    found = mnas("predict", folder, *images, "--top", "6", "--runtime", runtime, "--json")
    assert found.code == 0, found.err
    assert (found.json["runtime"], found.json["file"]) == (runtime, str(path))
    named = mnas("predict", folder, *images, "--top", "6", "--runtime", runtime, "--file", path, "--json").json
    for ours, theirs, again in zip(expected, found.json["images"], named["images"], strict=True):
        assert ours["image"] == theirs["image"] == again["image"]
        assert shares(theirs) == pytest.approx(shares(ours), abs=1e-4)
        assert shares(again) == pytest.approx(shares(theirs), abs=1e-6)


def test_the_exported_onnx_file(mnas: Mnas, folder: Path, photos: Path) -> None:
    assert mnas("export", folder, "--format", "onnx").code == 0
    expected = mnas("predict", "run", "photos", "--json").json["images"]
    found = mnas("predict", "run", "photos", "--file", folder / "model.onnx", "--json").json
    assert found["runtime"] == "onnxruntime"
    for ours, theirs in zip(expected, found["images"], strict=True):
        assert shares(theirs) == pytest.approx(shares(ours), abs=1e-5)


def test_a_file_of_other_classes_or_none(mnas: Mnas, folder: Path, photos: Path, tmp_path: Path) -> None:
    other = package.build(load_model(folder)[1], 4).eval()
    path = tmp_path / "other.onnx"
    path.write_bytes(get_runtime("onnxruntime").artifact(other, torch.zeros(1, 3, 32, 32)))
    done = mnas("predict", "run", photos / "RGB.png", "--file", path)
    assert done.code == 2 and "[1, 4]" in done.err and "[1, 6]" in done.err
    path.write_text("no model")
    assert mnas("predict", "run", photos, "--file", path).code == 2


def test_a_missing_package(mnas: Mnas, folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise MissingDependency(f"runtime {name} needs a package: pip install ai-edge-litert")

    monkeypatch.setattr(command, "get_runtime", missing)
    done = mnas("predict", "run", photos / "RGB.png", "--runtime", "litert")
    assert done.code == 2 and "pip install ai-edge-litert" in done.err


def test_from_python(folder: Path, photos: Path) -> None:
    done = package.predict(folder.parent, photos / "RGB.png", top=1)
    assert [len(one["predictions"]) for one in done["images"]] == [1]
    assert package.predict(str(folder), [str(photos / "RGB.png")], top=1) == done
