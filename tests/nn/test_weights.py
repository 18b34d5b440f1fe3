"""Weights from files: whole, undamaged, and without running what a file contains."""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from mnas.errors import BadInput
from mnas.nn.network import build
from mnas.nn.weights import load_weights, read_safetensors, read_weights
from mnas.space import zoo

TENSORS = {"stem.conv.weight": torch.arange(432.0).view(16, 3, 3, 3)}


class Command:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def write_with_sum(path: Path) -> Path:
    data = safetensors.torch.save(TENSORS)
    path.write_bytes(data)
    path.with_name(f"{path.name}.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}") and "\n" not in message
    return message


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_of_either_kind_or_a_folder(kind: Callable[[Path], str | Path], tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "weights.pth")
    write_with_sum(tmp_path / "weights.safetensors")
    for path in (tmp_path / "weights.pth", tmp_path / "weights.safetensors", tmp_path):
        assert read_weights(kind(path))["stem.conv.weight"].equal(TENSORS["stem.conv.weight"])
    assert read_safetensors(kind(tmp_path / "weights.safetensors")).keys() == TENSORS.keys()


def test_settings_of_trainers_are_read(tmp_path: Path) -> None:
    """As timm's train.py and torchvision's references write them."""
    path, options = tmp_path / "checkpoint.pth.tar", argparse.Namespace(lr=0.1, model="mobilenetv3")
    torch.save({"state_dict": TENSORS, "args": options, "best": np.float64(0.9), "step": np.int64(3)}, path)
    read = read_weights(path)
    assert (read["args"], read["best"], read["step"]) == (options, 0.9, 3)


def test_an_object_that_hinders_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": TENSORS, "run": Command(f"touch {tmp_path / 'ran'}")}, path)
    message = refusal(path)
    assert "system" in message and "torch.save(network.state_dict()" in message
    assert not (tmp_path / "ran").exists()


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(TENSORS, path)
    whole = path.read_bytes()
    for data in [b"", b"PK", b"no weights", b"\x80\x02", *(whole[:size] for size in range(1, len(whole), 397))]:
        path.write_bytes(data)
        assert "cannot be read" in refusal(path)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    path, ran = tmp_path / "weights.pth", tmp_path / "ran"
    for content in (nn.Linear(1, 1), Command(f"touch {ran}")):
        torch.save(content, path)
        assert "weights alone" in refusal(path)
    assert not ran.exists()


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, "")
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "data", "said"), [
    ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "Keras"),
    ("model.keras", archive("metadata.json", "config.json", "model.weights.h5"), "Keras"),
    ("model.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(99), "TFLite"),
    ("model.onnx", b"\x08\x0a\x12\x07pytorch" + bytes(99), "ONNX"),
    ("weights.pth", b"", "it is empty"),
    ("weights.safetensors", b"", "it is empty"),
    ("weights.pth", b"\n<!DOCTYPE html><html><body>404</body></html>", "HTML"),
    ("weights.safetensors", b"<html><body>Sign in</body></html>", "HTML"),
    ("weights.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
    ("weights.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
    ("weights.npz", archive("conv.npy"), "NumPy"),
])  # fmt: skip
def test_files_of_other_kinds(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    message = refusal(tmp_path / name)
    assert "cannot be read" in message and said in message


def test_programs_of_torch(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is about to go
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "scripted.pt")
    torch.export.save(torch.export.export(nn.ReLU(), (torch.zeros(2),)), tmp_path / "exported.pt2")
    assert "TorchScript" in refusal(tmp_path / "scripted.pt") and "state_dict" in refusal(tmp_path / "scripted.pt")
    assert "torch.export" in refusal(tmp_path / "exported.pt2")


def test_pickles_that_torch_did_not_write(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for content in ({"w": np.zeros(3)}, Command(f"touch {tmp_path / 'ran'}")):
            path.write_bytes(pickle.dumps(content, protocol))
            assert "torch.save(" in refusal(path)
    assert not (tmp_path / "ran").exists()


def test_missing_files(tmp_path: Path) -> None:
    assert ".safetensors, .pth, .pt" in refusal(tmp_path / "none.pth")
    assert "weights.safetensors" in refusal(tmp_path)


def test_a_sum_that_differs(tmp_path: Path) -> None:
    path = write_with_sum(tmp_path / "weights.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"0")
    assert "sha256" in refusal(path) and "weights.safetensors.sha256" in refusal(path)
    with pytest.raises(BadInput, match="sha256"):
        read_safetensors(path)
    path.with_name("weights.safetensors.sha256").write_text("")
    assert "sha256" in refusal(path)


def test_load_weights(tmp_path: Path) -> None:
    arch = zoo.get("mobilenet_v1", 0.25, 32)
    network, other = build(arch, 3), build(arch, 3)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors.torch.save(network.state_dict()))
    load_weights(other, str(path))
    assert all(tensor.equal(other.state_dict()[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(BadInput, match=r"weights\.safetensors: .*classifier"):
        load_weights(build(arch, 4), path)
    path.write_bytes(b"no weights")
    with pytest.raises(BadInput, match="safetensors"):
        load_weights(other, path)
