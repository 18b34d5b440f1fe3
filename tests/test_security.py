"""Nothing that a file contains is run, and nothing that it names lies outside where it belongs."""

from __future__ import annotations

import ast
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Mnas
from made_up_data import medmnist, write_images, write_npz
from small_search import TINY_SPACE
from trainers import trainer

import mnas as package
from mnas import BadInput, load_data
from mnas.config import Recipe, SupernetRecipe
from mnas.data.splits import limited
from mnas.io.checksum import sealed
from mnas.io.names import file_stem
from mnas.io.strict_yaml import parse_yaml
from mnas.latency.conditions import Conditions
from mnas.latency.kit import runner
from mnas.latency.runtimes.torch import artifact, loaded
from mnas.latency.table.cache import cache_path
from mnas.nn.weights import read_weights
from mnas.space import zoo
from mnas.space.space import load_space
from mnas.training.full import FullTraining
from mnas.training.supernet import SupernetTraining

SOURCE = Path(package.__file__).parent
RUN_CODE = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"),
    *("os.system", "os.popen", "subprocess.getoutput", "yaml.unsafe_load", "yaml.full_load", "yaml.UnsafeLoader"),
}
RUNS_ITS_OWN_TEXT = {"export/pytorch.py exec", "export/timm.py exec"}
"""What mnas has just generated is run, to see that it computes the same."""


# --- what the sources do not do


def calls() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Every call in the package: the file, what is called, its keywords."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {str(one.arg): ast.unparse(one.value) for one in node.keywords}
                yield path.relative_to(SOURCE).as_posix(), ast.unparse(node.func), keywords


def test_nothing_that_runs_what_a_file_contains() -> None:
    found = list(calls())
    assert len(found) > 5000, "the sources are read"
    for file, called, keywords in found:
        said = f"{file} {called}"
        assert keywords.get("shell", "False") == "False", said
        assert keywords.get("allow_pickle", "False") == "False", said
        assert called.partition(".")[0] not in RUN_CODE and called not in RUN_CODE, said
        assert called not in ("eval", "exec") or said in RUNS_ITS_OWN_TEXT, said
        if called == "torch.load":
            assert keywords.get("weights_only") == "True", said
        if called in ("np.load", "numpy.load") and "allow_pickle" not in keywords:
            assert file == "export/quantize/nncf_process.py", f"{said}: of another process; numpy's default is False"
        if called in ("yaml.load", "yaml.load_all", "yaml.parse"):
            assert keywords.get("Loader") in ("_StrictLoader", "_Loader"), said


@pytest.mark.parametrize("text", [
    "!!python/object/apply:os.system ['touch canary']", "a: !!python/name:os.system", "!!python/module:os",
    "a: !!binary aGk=", "a: &x [1]\nb: *x", "a: &x {b: 1}\nc:\n  <<: *x",
])  # fmt: skip
def test_yaml_is_plain_data(text: str) -> None:
    with pytest.raises(BadInput, match=r"^it, line \d+: "):
        parse_yaml(text, "it")


# --- pickles


class Canary:
    """Unpickling it would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "sung")


def archive(canary: Canary) -> bytes:
    """The pickle inside an archive as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save({"weights": canary, "steps": 12}, buffer)
    return buffer.getvalue()


PICKLES: dict[str, Callable[[Canary], bytes]] = {
    "pickle": pickle.dumps, "torch.save": archive,
    "with a checksum": lambda canary: sealed(archive(canary)),
}  # fmt: skip


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    bird = Canary(tmp_path / "canary")
    pickle.loads(pickle.dumps(bird))
    assert bird.path.read_text() == "sung", "it does write"
    bird.path.unlink()
    yield bird
    assert not bird.path.exists(), "nothing was run"


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.bin", "weights.safetensors"])
def test_weights_that_are_a_pickle(kind: str, name: str, canary: Canary, tmp_path: Path, mnas: Mnas) -> None:
    path = tmp_path / name
    path.write_bytes(PICKLES[kind](canary))
    with pytest.raises(BadInput, match=f"^{path}"):
        read_weights(path)
    refused = mnas("train", "mobilenet_v3_small@0.35", "--data", "digits", "--init", path, "-o", tmp_path / "out")
    assert (refused.code, refused.err.count("\n")) == (2, 1) and str(path) in refused.err


@pytest.mark.parametrize("kind", PICKLES)
def test_checkpoints_that_are_a_pickle(
    kind: str, canary: Canary, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digits = load_data("digits")
    few = trainer(package.ImageData(
        "few", digits.classes, 8, False, limited(digits.train, 32, 0), limited(digits.val, 20, 0), digits.test
    ), 32)  # fmt: skip
    recipe = Recipe(epochs=1, batch_size=16)
    one = FullTraining("one", zoo.get("mobilenet_v3_small", 0.35, 32), recipe, few, tmp_path / "checkpoints")
    one.file.parent.mkdir()
    one.file.write_bytes(PICKLES[kind](canary))
    assert one.advance(1).finished, "trained from the beginning"
    assert f"{one.file}: damaged" in caplog.text
    (tmp_path / "tiny.yaml").write_text(TINY_SPACE)
    checkpoint = tmp_path / "supernet.pt"
    checkpoint.write_bytes(PICKLES[kind](canary))
    supernet = package.Supernet(load_space(tmp_path / "tiny.yaml"), 10)
    recipe_of_both = SupernetRecipe(epochs=1, batch_size=16, subnets=1)
    assert next(SupernetTraining(supernet, recipe_of_both, few, checkpoint=checkpoint).run()).step == 1
    assert f"{checkpoint}: damaged" in caplog.text


@pytest.mark.parametrize("part", [
    "data/sample_inputs/model.pt", "data/constants/opaque_obj_0", "data/weights/weight_0",
])  # fmt: skip
def test_exported_programs_with_a_pickle(part: str, canary: Canary, tmp_path: Path) -> None:
    path, other = tmp_path / "whole.pt2", tmp_path / "model.pt2"
    example = torch.zeros(1, 3, 32, 32)
    path.write_bytes(artifact(package.build(zoo.get("mobilenet_v3_small", 0.35, 32), 10).eval(), example))
    loaded(path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(other, "w") as changed:
        for name in {*whole.namelist(), f"archive/{part}"}:
            content = archive(canary) if name.endswith(part) else whole.read(name)
            if name.endswith("weights_config.json") and "weight_0" in part:
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
            changed.writestr(name, content)
    with pytest.raises(BadInput, match=f"^{other}: its part .* could run code"):
        loaded(other)


def test_arrays_that_are_a_pickle(canary: Canary, tmp_path: Path) -> None:
    for key in ("train_images", "train_labels", "class_names"):
        objects = np.empty(4, object)
        objects[:] = canary
        with pytest.raises(BadInput, match="object array"):
            load_data(write_npz(tmp_path / f"{key}.npz", medmnist(**{key: objects})))


# --- names


@pytest.mark.parametrize("name", ["../out.npy", "/tmp/out.npy", "a/../../out.npy", "..\\out.npy"])
def test_members_of_an_npz_are_never_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    path = write_npz(tmp_path / "inside" / "x.npz", medmnist())
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, file.read("train_labels.npy"))
    load_data(path).train.fetch([0], 6)
    assert [one.name for one in tmp_path.rglob("*")] == ["inside", "x.npz"]


@pytest.mark.parametrize("name", ["../secret.onnx", "/etc/hostname", "layers/../../secret.onnx"])
def test_models_of_a_kit_are_inside_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret.onnx").write_text("secret")
    folder = tmp_path / "kit"
    folder.mkdir()
    kit = runner.Kit.__new__(runner.Kit)  # its manifest comes from the device's own copy
    kit.where, kit._zip = folder, None
    with pytest.raises(runner.Refused, match="outside the kit"):
        kit.read(name)


@pytest.mark.parametrize("name", ["../secret.png", "{root}/secret.png"])
def test_images_that_a_csv_names_are_in_the_folder(name: str, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 20)
    (tmp_path / "secret.png").write_bytes((tmp_path / "photos" / "0.png").read_bytes())
    rows = [f"{i}.png,{'cat' if i % 2 else 'dog'}" for i in range(20)] + [f"{name.format(root=tmp_path)},cat"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    with pytest.raises(BadInput, match=r"labels\.csv: .*secret\.png is outside"):
        load_data(tmp_path / "photos", labels=tmp_path / "labels.csv")


@pytest.mark.parametrize(("name", "stem"), [
    ("trial 3 from scratch", "trial 3 from scratch"), ("mobilenet_v3_small@0.35", "mobilenet_v3_small@0.35"),
    ("../../etc/passwd", "_.._etc_passwd"), ("/etc/passwd", "_etc_passwd"), (".bashrc", "bashrc"), ("..", "_"),
    ("a\0b\nc", "a_b_c"), ("x" * 300, "x" * 100),
])  # fmt: skip
def test_a_name_becomes_a_file(name: str, stem: str) -> None:
    assert file_stem(name) == stem


@pytest.mark.parametrize("name", ["../../../out", "/tmp/out", "<script>alert(1)</script>", "a" * 300])
def test_a_space_with_such_a_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(TINY_SPACE.replace("name: tiny", f"name: '{name}'"))
    try:
        space = load_space(path)
    except BadInput:
        return
    kept = cache_path(space, Conditions("torch"))
    assert kept.parent.name == "latency" and "/" not in kept.name and len(kept.name) < 256


