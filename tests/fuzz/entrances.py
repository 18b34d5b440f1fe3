"""Where files of others enter: what is tried at each, and the function that reads it."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml
from hypothesis import strategies as st
from made_up_data import medmnist, write_classes, write_images
from made_up_dense import write_mask, write_yolo
from made_up_tables import FIT, made_up
from PIL import Image
from small_search import TINY_SPACE

import mnas
from mnas.config import RunConfig, Target, load_objective
from mnas.data.dense import coco
from mnas.data.dense.checking import checked
from mnas.data.dense.detection import DetectionSplit
from mnas.data.dense.loader import batches
from mnas.data.dense.sources import load_detection, load_segmentation
from mnas.data.division import read_division
from mnas.data.images import BrokenImages
from mnas.data.reading import Reading
from mnas.data.sources import load_data
from mnas.data.splits import FolderSplit
from mnas.errors import BadInput
from mnas.export.preprocessing import read_preprocessing, write_preprocessing
from mnas.io.files import read_json
from mnas.io.jsonl import read_records
from mnas.io.strict_yaml import validate
from mnas.latency.importers.csv_table import COLUMNS, read_csv
from mnas.latency.importers.dialects import DIALECTS, read_tables
from mnas.latency.kit.kit import import_results
from mnas.latency.table.table import LatencyTable
from mnas.nn.network import Network
from mnas.nn.pretrained import load_reference
from mnas.nn.weights import read_weights
from mnas.run import Run
from mnas.space import zoo
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace, load_space
from mnas.study.trial import Trial

from .mutations import changed_bytes, changed_data, changed_text

ROOT = Path(mnas.__file__).parent.parent


@dataclass(frozen=True)
class Entrance:
    """A kind of file."""

    file: str
    """Its name, whose suffix may matter."""
    contents: st.SearchStrategy[bytes]
    read: Callable[[Path], object]
    """Reads it as a command does; raises what the command would."""


def _yaml(*seeds: Any) -> st.SearchStrategy[bytes]:
    texts = tuple(yaml.safe_dump(seed, sort_keys=False) for seed in seeds)
    as_data = changed_data(seeds).map(lambda data: yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return st.one_of(as_data, as_data, changed_text(texts)).map(_encoded)


def _json(*seeds: Any) -> st.SearchStrategy[bytes]:
    as_data = changed_data(seeds).map(json.dumps)
    return st.one_of(as_data, as_data, changed_text(tuple(map(json.dumps, seeds)))).map(_encoded)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# --- what is valid at each


@cache
def tiny() -> mnas.SearchSpace:
    return SearchSpace(validate(SpaceFile, yaml.safe_load(TINY_SPACE), "tiny"))


def _config() -> dict[str, Any]:
    config = RunConfig(space="v3_large", targets=(Target(latency_ms=15.0),), objective=load_objective("mnasnet"))
    return {"config": config.model_dump(mode="json"), "versions": {"mnas": "0.1"}}


@cache
def _table() -> str:
    layers = sorted(tiny().layers(10), key=str)[:12]
    table = made_up({layer: 0.1 + 0.01 * i for i, layer in enumerate(layers)}, calibration=FIT)
    with tempfile.TemporaryDirectory() as folder:
        table.save(Path(folder) / "table.yaml")
        return (Path(folder) / "table.yaml").read_text().rsplit("# sha256", 1)[0]


def _results() -> dict[str, Any]:
    layers, rng = sorted(tiny().layers(10), key=str), random.Random(0)
    archs = [tiny().sample(rng) for _ in range(4)]
    timed = {"ms": 1.5, "anchor_ms": 2.0, "unstable": ""}
    return {
        "complete": True, "device": "a phone", "cores": 8, "runtime": "onnxruntime", "runtime_version": "1",
        "threads": 1, "dtype": "float32", "clock_mhz": None, "date": "2026-01-31",
        "layer_ms": {f"layers/{i}.onnx": 0.01 + 0.001 * i for i in range(len(layers))},
        "networks": {f"networks/{i}.onnx": [timed, timed] for i in range(4)}, "failed": {},
        "manifest": {
            "kit": "0" * 16, "mnas_version": "0.1", "space": "tiny", "num_classes": 10, "runtime": "onnxruntime",
            "needs": "onnxruntime", "module": "mnas.latency.runtimes.onnx_session", "threads": 1, "batch": 1,
            "rounds": 36, "scratch": 1000, "anchors": [],
            "layers": [{"file": f"layers/{i}.onnx", "layer": layer.to_dict()} for i, layer in enumerate(layers)],
            "networks": [
                {"file": f"networks/{i}.onnx", "architecture": arch.to_dict()} for i, arch in enumerate(archs)
            ],
        },
    }  # fmt: skip


def _foreign_tables() -> tuple[dict[str, Any], ...]:
    layers = sorted(tiny().layers(1000), key=str)
    return tuple(
        {key: {"mean": 0.5, "count": 3} for layer in layers if (key := dialect.key(layer))} for dialect in DIALECTS
    )


def _csv() -> str:
    layers = sorted(tiny().layers(10), key=str)[:6]
    lines = [",".join(COLUMNS)]
    lines += [",".join(str(layer.to_dict().get(name, "")) if name != "ms" else "0.5" for name in COLUMNS) for layer in layers]  # noqa: E501
    return "\n".join(lines) + "\n"


def _trials() -> bytes:
    arch = tiny().sample(random.Random(0))
    return json.dumps(Trial(0, "complete", arch, 1.0, 0.5).to_json()).encode() + b"\n"


def _npz() -> tuple[bytes, ...]:
    named = medmnist(class_names=np.array(["a", "b", "c", "d"]), val_images=None, val_labels=None)
    deep = medmnist(train_images=np.zeros((40, 6, 6), np.uint16))
    files = []
    for arrays, write in ((named, np.savez), (named, np.savez_compressed), (deep, np.savez)):
        buffer = io.BytesIO()
        write(buffer, **arrays)
        files.append(buffer.getvalue())
    return tuple(files)


DTYPES = ("|u1", "<u2", "<f4", "<i8", "|O", "|S3", "<U2", "|b1", "<c16", "<M8[s]", "nonsense")
def _network() -> Network:
    return mnas.build(zoo.get("mobilenet_v3_small", 0.35, 32), 10)


def _weights() -> tuple[bytes, ...]:
    buffer, state = io.BytesIO(), _network().state_dict()
    torch.save({"model": {name: state[name] for name in list(state)[:6]}, "epoch": 3}, buffer)
    return (buffer.getvalue(),)


def _safetensors() -> bytes:
    state = _network().state_dict()
    return safetensors.torch.save({name: state[name] for name in list(state)[:6]})


def _preprocessing() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        write_preprocessing(Path(folder) / "preprocessing.json", 32, ["a", "b"], Reading())
        return dict(read_json(Path(folder) / "preprocessing.json"))


def _division() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        division = load_data(write_classes(Path(folder) / "photos", 5, "a", "b")).division
    assert division is not None
    return division.model_dump(mode="json")


def _labels() -> tuple[str, ...]:
    rows = [f"{i}.png,{'cat' if i % 2 else 'dog'}" for i in range(20)]
    one_hot = [f"{i}.png,{i % 2},{1 - i % 2}" for i in range(20)]
    return (
        "\n".join(rows), "\n".join(["path;class", *rows]).replace(",", ";"), "\n".join(["path,cat,dog", *one_hot]),
    )  # fmt: skip


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 6, 40, 2**20, 2**40, -1]), max_size=4)


@st.composite
def _headers(draw: st.DrawFn) -> bytes:
    """An .npz whose arrays state any shape and type, with other bytes behind."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for key in ("train_images", "train_labels", *draw(st.sets(st.sampled_from(["test_images", "class_names"])))):
            dtype = draw(st.sampled_from(DTYPES))
            shape = tuple(draw(SHAPES))
            text = f"{{'descr': '{dtype}', 'fortran_order': {draw(st.booleans())}, 'shape': {shape}, }}"
            header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
            file.writestr(f"{key}.npy", header + draw(st.binary(max_size=8)) * draw(st.sampled_from([0, 1, 40, 1000])))
    return buffer.getvalue()


def _images() -> tuple[bytes, ...]:
    rng, files = np.random.default_rng(0), []
    picture = Image.fromarray(rng.integers(0, 256, (12, 17, 3), np.uint8))
    forms: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (picture, kind, {}) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
    ]
    forms += [(picture.convert(mode), "PNG", {}) for mode in ("L", "P", "RGBA", "LA", "1", "I;16")]
    forms += [(picture.convert("CMYK"), "JPEG", {}), (picture, "JPEG", {"progressive": True})]
    animated = {"save_all": True, "append_images": [picture] * 3}
    forms += [(picture, kind, animated) for kind in ("GIF", "WEBP", "TIFF", "PNG")]
    for image, kind, options in forms:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return tuple(files)


# --- how each is read


def _read_space(path: Path) -> None:
    space = load_space(path)
    arch = space.sample(random.Random(0))
    assert space.decode(space.encode(arch)) == arch and space.size > 0
    mnas.cost(arch, 10)


def _read_images(path: Path) -> None:
    FolderSplit([str(path)], np.zeros(1, np.int64), BrokenImages(0)).fetch([0], 16)


def _masks() -> tuple[bytes, ...]:
    files = []
    for mode in ("L", "P", "I;16", "1", "RGB"):
        buffer = io.BytesIO()
        Image.fromarray(np.eye(4, 8, dtype=np.uint8)).convert(mode).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return tuple(files)


def _coco() -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 4} for i in range(20)],
        "annotations": [{"image_id": i, "category_id": 1, "bbox": [1, 1, 4, 2.5], "iscrowd": 0} for i in range(20)],
        "categories": [{"id": 1, "name": "cat"}],
    }  # fmt: skip


def _read_mask(path: Path) -> None:
    """Beside others that are good."""
    root = path.parent / "masked"
    write_images(root / "images", 5, size=4)
    for number in range(1, 5):
        write_mask(root / "masks" / f"{number}.png", np.eye(4, 8))
    shutil.copy(path, root / "masks" / "0.png")
    _read_all(load_segmentation(root, max_broken=0))


def _read_coco(path: Path) -> None:
    file = coco.read_coco(path)
    found = coco.annotated(file, _photos(), list(file.categories.values()), BrokenImages(0))
    checked(DetectionSplit(found, BrokenImages(0), Reading()), str(path))


def _read_yolo(path: Path, folder: str) -> None:
    root = write_yolo(path.parent / "yolo")
    shutil.copy(path, root / folder / path.name)
    _read_all(load_detection(root, max_broken=0))


def _read_all(data: Any) -> None:
    for split in (data.train, data.val, data.test):
        list(batches(split, batch_size=8, size=16, workers=0))


def _read_weights(path: Path) -> None:
    state = read_weights(path)
    with contextlib.suppress(BadInput):  # they are a part of its weights
        load_reference(_network(), state)


@cache
def _photos() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    write_images(folder, 20, size=4)
    return folder


def _read_labels(path: Path) -> None:
    load_data(_photos(), labels=path)


def _read_npz(path: Path) -> None:
    data = load_data(path)
    for split in (data.train, data.val, data.test):
        split.fetch([0], 8)


def _read_table(path: Path) -> None:
    table = LatencyTable.load(path)
    table.save(path)
    assert LatencyTable.load(path) == table


def _read_trials(path: Path) -> None:
    for record in read_records(path):
        Trial.from_json(record)


@cache
def entrances() -> dict[str, Entrance]:
    """All kinds by name."""
    presets = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "search_spaces").glob("*.yaml"))[:3]]
    objectives = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "objectives").glob("*.yaml"))]
    layers = sorted(tiny().layers(1000), key=str)
    return {
        "space": Entrance("space.yaml", _yaml(yaml.safe_load(TINY_SPACE), *presets), _read_space),
        "objective": Entrance("objective.yaml", _yaml(*objectives), load_objective),
        "configuration": Entrance("config.yaml", _yaml(_config()), lambda path: Run(path.parent).config()),
        "architecture": Entrance(
            "architecture.yaml", _yaml(tiny().sample(random.Random(0)).to_dict()),
            lambda path: mnas.Architecture.from_yaml(path.read_text(errors="replace"), str(path)),
        ),
        "table": Entrance("table.yaml", _yaml(yaml.safe_load(_table())), _read_table),
        "table of others": Entrance("table.yaml", _yaml(*_foreign_tables()), lambda path: read_tables(path, layers)),
        "table in CSV": Entrance("table.csv", changed_text((_csv(),)).map(_encoded), read_csv),
        "results.json": Entrance("results.json", _json(_results()), import_results),
        "trials.jsonl": Entrance("trials.jsonl", changed_bytes((_trials() * 3,)), _read_trials),
        "npz": Entrance("data.npz", changed_bytes(_npz()) | _headers(), _read_npz),
        "weights": Entrance("weights.pt", changed_bytes(_weights()), _read_weights),
        "safetensors": Entrance("weights.safetensors", changed_bytes((_safetensors(),)), _read_weights),
        "preprocessing": Entrance("preprocessing.json", _json(_preprocessing()), read_preprocessing),
        "state": Entrance("state.json", _json({"elapsed_s": 1.5, "resolutions": [32, 48], "searched": True}),
                          lambda path: Run(path.parent).state()),
        "splits": Entrance("splits.json", _json(_division()), lambda path: read_division(path.parent)),
        "labels": Entrance("labels.csv", changed_text(_labels()).map(_encoded), _read_labels),
        "images": Entrance("image.png", changed_bytes(_images()), _read_images),
        "masks": Entrance("0.png", changed_bytes(_masks()), _read_mask),
        "coco": Entrance("boxes.json", _json(_coco()), _read_coco),
        "yolo labels": Entrance("0.txt", changed_text(("0 0.5 0.5 0.2 0.3\n1 0.4 0.3 0.8 0.1\n",)).map(_encoded),
                                lambda path: _read_yolo(path, "labels")),
        "data.yaml": Entrance("data.yaml", _yaml({"path": ".", "train": "images", "names": ["cat", "dog"]}),
                              lambda path: _read_yolo(path, ".")),
    }  # fmt: skip
