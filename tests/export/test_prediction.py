"""model.py's predict(path) says what mnas predicts, with torch and pillow alone."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pictures import CLASSES, write_deep_pictures, write_network, write_pictures

import mnas
from mnas.data.reading import Reading
from mnas.export.prediction import predict_source

TOP = 4095
READINGS: dict[str, tuple[Any, Reading]] = {
    "crop": (32, Reading()),
    "pad": (32, Reading("pad")),
    "squeeze": (32, Reading("squeeze")),
    "crop_rectangle": ((24, 50), Reading()),
    "pad_rectangle": ((48, 31), Reading("pad")),
    "squeeze_rectangle": ((24, 50), Reading("squeeze")),
    "grey_crop": (32, Reading(channels=1)),
    "grey_pad_rectangle": ((24, 50), Reading("pad", channels=1)),
    "deep": (32, Reading(value_range=(0, TOP))),
    "deep_squeeze": (32, Reading("squeeze", value_range=(100.5, TOP - 1000))),
    "deep_grey_pad": ((24, 50), Reading("pad", value_range=(0, 510), channels=1)),  # every second value is a tie
}  # fmt: skip

# predicts every image by each folder's model.py in a process that can import neither mnas nor numpy's callers
BY_MODEL = """
import json, pathlib, runpy, sys, torch
torch.set_num_threads(1)
found = {}
for folder, paths in json.loads(sys.argv[1]).items():
    module = runpy.run_path(folder + "/model.py")
    model = module["build_model"]()
    assert module["predict"](paths[0]) == module["predict"](paths[0], model)
    found[folder] = [list(module["predict"](path, model).items()) for path in paths]
    with torch.inference_mode():
        at_once = model(torch.cat([module["preprocess"](path) for path in paths])).softmax(1).max(1).values
    one_by_one = torch.tensor([ranked[0][1] for ranked in found[folder]])
    torch.testing.assert_close(at_once, one_by_one, atol=1e-5, rtol=0)
assert not [name for name in sys.modules if name.split(".")[0] in ("mnas", "safetensors")]
print(json.dumps(found))
"""


def by_model(asked: dict[str, list[Path]]) -> dict[str, Any]:
    words = json.dumps({folder: list(map(str, paths)) for folder, paths in asked.items()})
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-W", "error", "-c", BY_MODEL, words], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_says_what_mnas_predicts(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    deep = write_deep_pictures(tmp_path / "deep", TOP)
    asked = {}
    for name, (size, reading) in READINGS.items():
        folder = write_network(tmp_path / name, size, reading)
        asked[str(folder)] = [*pictures, *deep] if reading.value_range else pictures
    found = by_model(asked)
    for folder, paths in asked.items():
        expected = mnas.predict(folder, paths, top=len(CLASSES))["images"]
        assert len(expected) == len(paths)
        for one, ranked in zip(expected, found[folder], strict=True):
            theirs = {guess["class"]: guess["probability"] for guess in one["predictions"]}
            assert dict(ranked) == pytest.approx(theirs, abs=1e-5), (folder, one["image"])
            assert [share for _, share in ranked] == sorted((share for _, share in ranked), reverse=True)
        assert len({tuple(map(tuple, ranked)) for ranked in found[folder]}) > len(paths) / 2, "the images differ"


def test_more_bits_than_in_training_are_refused(tmp_path: Path) -> None:
    folder, deep = write_network(tmp_path / "net"), write_deep_pictures(tmp_path / "deep", TOP)
    code = f"import runpy; runpy.run_path({str(folder / 'model.py')!r})['predict'](__import__('sys').argv[1])"
    for path in deep[:2]:
        done = subprocess.run([sys.executable, "-I", "-c", code, path], capture_output=True, text=True)
        assert "ValueError" in done.stderr and f"{path}: " in done.stderr


@pytest.mark.parametrize("name", READINGS)
def test_it_is_short_and_imports_pillow_alone(name: str) -> None:
    size, reading = READINGS[name]
    source = predict_source(size, reading)
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert imported == {"PIL"}
    predict = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    first, last = predict.body[1], predict.body[-1]  # after the docstring
    assert (predict.name, last.end_lineno - first.lineno + 1) == ("predict", 3)
    assert len(source.splitlines()) <= (68 if reading.value_range else 45)
    assert max(map(len, source.splitlines())) <= 120
