"""A trained network's folder: what is in it, found and read again by str and by Path."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from handmade import HAND_MADE
from PIL import Image

import mnas
from mnas.errors import BadInput
from mnas.export.folder import load_model, model_folder, trained_size, write_metrics

DOCS = Path(mnas.__file__).parent.parent / "docs" / "winner.md"
FILES = {
    "README.md", "architecture.yaml", "metrics.json", "model.onnx", "model.py", "preprocessing.json",
    "splits.json", "weights.safetensors", "weights.safetensors.sha256",
}  # fmt: skip


def test_files(written: Any) -> None:
    assert {path.name for path in written.folder.iterdir()} == FILES
    card = (written.folder / "README.md").read_text()
    assert set(re.findall(r"^- `(\S+)`", card, re.MULTILINE)) == FILES
    assert json.loads((written.folder / "metrics.json").read_text())["networks"][0]["params"] == 1_234_567


@pytest.mark.parametrize("kind", [str, Path])
def test_load_model(kind: type[str] | type[Path], written: Any) -> None:
    network, arch = mnas.load_model(kind(written.folder))
    assert arch == written.architecture
    assert not network.training
    images = torch.randn(2, 3, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), written.network(images))


@pytest.mark.parametrize("kind", [str, Path])
def test_model_folder_and_size(kind: type[str] | type[Path], written: Any) -> None:
    assert model_folder(kind(written.folder)) == model_folder(kind(written.folder.parent)) == written.folder
    assert trained_size(kind(written.folder), written.architecture) == 32
    assert trained_size(kind(written.folder.parent), written.architecture) == 32, "without the file"


def test_a_folder_may_state_another_size_than_its_architecture(written: Any, tmp_path: Path) -> None:
    """As earlier versions wrote it."""
    text = (written.folder / "preprocessing.json").read_text()
    (tmp_path / "preprocessing.json").write_text(text.replace("32", "24"))
    assert trained_size(tmp_path, written.architecture) == 24


def test_model_folder_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"architecture\.yaml"):
        model_folder(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(BadInput, match=f"mnas resume {tmp_path}"):
        model_folder(tmp_path)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    arch, other = HAND_MADE["convolutions"], HAND_MADE["linear_hidden"]
    with pytest.raises(BadInput, match=r"architecture\.yaml"):
        load_model(tmp_path)
    (tmp_path / "architecture.yaml").write_text(arch.to_yaml())
    weights, digest = tmp_path / "weights.safetensors", tmp_path / "weights.safetensors.sha256"
    with pytest.raises(BadInput, match=r"weights\.safetensors"):
        load_model(tmp_path)
    for content in (b"not weights", safetensors.torch.save(mnas.build(other, 10).state_dict())):
        weights.write_bytes(content)
        with pytest.raises(BadInput, match=r"weights\.safetensors"):
            load_model(tmp_path)
    safetensors.torch.save_file(mnas.build(arch, 10).state_dict(), weights)
    assert load_model(tmp_path, classes=10)[1] == arch, "without a checksum, too"
    digest.write_text("0" * 64 + "  weights.safetensors\n")
    with pytest.raises(BadInput, match=r"weights\.safetensors"):
        load_model(tmp_path)


def test_another_number_of_classes(written: Any) -> None:
    with pytest.raises(BadInput, match=r"10 classes .* 4"):
        load_model(written.folder, classes=4)


def python_in(markdown: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", markdown.read_text(), re.DOTALL)


def test_the_python_of_card_and_docs_runs_in_the_folder(written: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(written.folder, tmp_path / "winner")
    Image.linear_gradient("L").save(folder / "photo.jpg")
    card, docs = python_in(folder / "README.md"), python_in(DOCS)
    assert (len(card), len(docs)) == (1, 3)
    code = "\n".join([*card, "print(tuple(logits.shape))", *docs])
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    guess, shape, again, *_, size, predicted = done.stdout.splitlines()
    params = mnas.cost(written.architecture, 10).params
    assert (shape, size, again) == ("(1, 10)", f"32 {params}", guess)
    best, share = next(iter(ast.literal_eval(guess).items()))
    one = ast.literal_eval(predicted)[0]["predictions"][0]
    assert (one["class"], one["probability"]) == (best, pytest.approx(share, abs=1e-5))


def test_the_docs_list_every_file() -> None:
    rows = [line for line in DOCS.read_text().split("## ")[0].splitlines() if line.startswith("| `")]
    names = {name for row in rows for name in re.findall(r"`(.+?)`", row.split("|")[1])}
    assert names == FILES | {"model.tflite", "model.pte"}


def test_the_card_lists_a_runtimes_own_file(written: Any, metrics: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "winner"
    shutil.copytree(written.folder, folder)
    (folder / "model.tflite").touch()
    (folder / ".partial").touch()
    write_metrics(str(folder), metrics, ["a", "b"])
    card = (folder / "README.md").read_text()
    assert "`model.tflite`: " in card
    assert ".partial" not in card
