"""Files that another version of a runtime made: one line that says so, which file, and the way out."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from command import Mnas
from PIL import Image
from small_models import installed

from mnas.export.folder import load_model
from mnas.export.formats import FILES, Model

Edit = Callable[[Path], str]
"""Changes a file's versions, and gives what is to be said of them."""


def onnx_ir(path: Path) -> str:
    model = onnx.load(path)
    model.ir_version = 99
    onnx.save(model, path)
    return "IR version: 99"


def onnx_opset(path: Path) -> str:
    model = onnx.load(path)
    model.opset_import[0].version = 99
    onnx.save(model, path)
    return "Opset 99"


def litert_operator(path: Path) -> str:
    _edit_tflite(path, lambda model: setattr(model.operatorCodes[0], "version", 99))
    return "version '99'"


def litert_unknown_operator(path: Path) -> str:
    def edit(model: Any) -> None:
        model.operatorCodes[0].builtinCode, model.operatorCodes[0].deprecatedBuiltinCode = 400, 127

    _edit_tflite(path, edit)
    return "out of range: 400"


def litert_schema(path: Path) -> str:
    _edit_tflite(path, lambda model: setattr(model, "version", 4))
    return "schema version 4"


def _edit_tflite(path: Path, edit: Callable[[Any], None]) -> None:
    import flatbuffers

    from mnas.export.tflite_graph import schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    edit(model)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def executorch_schema(path: Path) -> str:
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"ET99" + content[8:])
    return "ET99"


def openvino_opset(path: Path) -> str:
    path.write_text(path.read_text().replace('version="opset1"', 'version="opset99"'))
    return "opset99"


def torch_schema(path: Path) -> str:
    _edit_pt2(path, "model.json", rb'("schema_version": *\{"major": *)\d+', rb"\g<1>99")
    return "major=99"


def torch_archive(path: Path) -> str:
    _edit_pt2(path, "archive_version", rb"\d+", b"99")
    return "archive version 99"


def _edit_pt2(path: Path, name: str, old: bytes, new: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, re.sub(old, new, content) if Path(entry).name == name else content)


@pytest.mark.parametrize(
    ("form", "runtime", "edit"),
    [
        ("onnx", "onnxruntime", onnx_ir), ("onnx", "onnxruntime", onnx_opset), ("litert", "litert", litert_operator),
        ("litert", "litert", litert_unknown_operator), ("litert", "litert", litert_schema),
        ("executorch", "executorch", executorch_schema), ("openvino", "openvino", openvino_opset),
        ("torch_export", "torch", torch_schema), ("torch_export", "torch", torch_archive),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_a_file_of_another_version(
    form: str, runtime: str, edit: Edit, mnas: Mnas, files: Callable[[str], Path], written: Any, tmp_path: Path
) -> None:
    path = tmp_path / FILES[form]
    for one in files(form).glob(f"{path.stem}.*"):
        (tmp_path / one.name).write_bytes(one.read_bytes())
    version = edit(path)
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    for command in (
        ("benchmark", path, "--resolution", "32"),
        ("predict", written.folder, "photo.png", "--runtime", runtime, "--file", path),
    ):
        done = mnas(*command)
        assert done.code == 2
        (line,) = done.err.splitlines()
        for said in (str(path), runtime, "another version", version, "mnas export"):
            assert said in line


@pytest.fixture(scope="module")
def files(written: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a format's files, written when it is first asked for."""
    made: dict[str, Path] = {}

    def folder(form: str) -> Path:
        writer = installed(form)
        if form not in made:
            made[form] = tmp_path_factory.mktemp(form)
            network, arch = load_model(written.folder)
            classes = tuple(map(str, range(network.get_parameter("classifier.bias").shape[0])))
            writer.write(Model(network, arch, classes, ""), made[form] / FILES[form])
        return made[form]

    return folder
