"""What a run's networks start from: a file, published weights, nothing; kept in its folder, so that a resume has it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hub_server import HubServer, serving
from random_networks import randomise
from references import reference
from small_search import QUICK

import mnas
from mnas.errors import BadInput
from mnas.nn.network import build
from mnas.pipeline.races_file import races_of
from mnas.published.catalogue import find
from mnas.run import Run
from mnas.space import zoo
from mnas.space.architecture import Architecture

SMALL = zoo.get("mobilenet_v3_small", resolution=32)
OPTIONS: dict[str, Any] = {
    "space": "v3_small", "resolution": [32], "latency_ms": 50, "trials": 2, "baseline": [],
    "set": {**QUICK, "recipe.images": 64, "recipe.epochs": 1, "references": 1},
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(randomise(build(SMALL, 5)).state_dict(), tmp_path / "small.pth")
    return tmp_path / "small.pth"


def test_all_of_a_race_start_from_the_file(search: Callable[..., mnas.Result], file: Path) -> None:
    result = search(**OPTIONS, estimator="probe", init=file)
    entered, _ = races_of(Run(result.folder))[50.0]
    assert {one.weights for one in entered} == {"pretrained"}
    assert {one.kind for one in entered} == {"found", "reference"}
    assert {trial.fidelity for trial in result.trials} == {"probe"}
    row = result.metrics["networks"][0]
    assert row["weights"] == "pretrained"
    assert result.metrics["pretrained"]["origins"][0]["name"] == str(file)
    assert "small.pth" in (result.winner.folder / "README.md").read_text()


def test_a_run_keeps_the_file_that_it_began_with(
    search: Callable[..., mnas.Result], file: Path, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(trial: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        search(**OPTIONS, estimator="probe", init=file, callbacks=[stop])
    began = file.read_bytes()
    torch.save(randomise(build(SMALL, 5), seed=7).state_dict(), file)
    result = search(**OPTIONS, estimator="probe", init=file)
    assert (tmp_path / "run" / "origins" / "0" / "small.pth").read_bytes() == began
    assert result.metrics["networks"][0]["weights"] == "pretrained"


def test_without_enough_steps_for_a_supernet_the_probe_estimates(
    search: Callable[..., mnas.Result], file: Path
) -> None:
    result = search(**OPTIONS, estimator=None, init=file)
    assert Run(result.folder).state().estimator == "probe"


def test_from_scratch_starts_from_nothing(search: Callable[..., mnas.Result], file: Path) -> None:
    result = search(**OPTIONS, estimator="probe", init=file, from_scratch=True)
    assert result.metrics["networks"][0]["weights"] == "scratch"


def test_the_eps_of_the_file_is_that_of_the_run(search: Callable[..., mnas.Result], tmp_path: Path) -> None:
    arch = Architecture.from_yaml(SMALL.to_yaml().replace("bn_eps: 0.001", "bn_eps: 1.0e-05"))
    assert arch.bn_eps == 1e-5
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "architecture.yaml").write_text(arch.to_yaml())
    safetensors.torch.save_file(randomise(build(arch, 5)).state_dict(), tmp_path / "trained" / "weights.safetensors")
    result = search(**OPTIONS, estimator="probe", init=tmp_path / "trained")
    entered, _ = races_of(Run(result.folder))[50.0]
    assert {one.architecture.bn_eps for one in entered} == {1e-5}
    assert result.trials[0].name == "mobilenet_v3_small"


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", json.dumps({"a": 1}).encode()])
def test_what_is_no_file_of_weights_is_refused_before_anything(
    search: Callable[..., mnas.Result], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(BadInput, match=r"weights\.pth"):
        search(**OPTIONS, estimator="probe", init=tmp_path / "weights.pth")
    assert not (tmp_path / "run").exists()


def test_a_network_of_another_design_is_refused_before_anything(
    search: Callable[..., mnas.Result], file: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"small\.pth"):
        search(**{**OPTIONS, "space": "v3_large"}, estimator="probe", init=file)
    assert not (tmp_path / "run").exists()


# --- published weights


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Colour images of 64 px in two classes."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for kind, count in (("train", 64), ("val", 20), ("test", 20)):
        labels = np.arange(count) % 2
        noise = rng.integers(0, 120, (count, 64, 64, 3))
        arrays[f"{kind}_images"] = (noise + 100 * labels[:, None, None, None]).astype(np.uint8)
        arrays[f"{kind}_labels"] = labels
    np.savez(tmp_path / "photos.npz", **arrays)
    return tmp_path / "photos.npz"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server that has timm's file of MobileNetV3-Small, with random weights, for every name."""
    network = randomise(reference("timm").create_model("mobilenetv3_small_100", num_classes=1000))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving(safetensors.torch.save(network.state_dict())) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


NAME = "timm/mobilenetv3_small_100.lamb_in1k"
ON_PHOTOS = {**OPTIONS, "estimator": "probe", "pretrained": NAME}


def test_published_weights_are_fetched_and_told(
    search: Callable[..., mnas.Result], photos: Path, hub: HubServer, tmp_path: Path
) -> None:
    result = search(**ON_PHOTOS, data=photos)
    origins = result.metrics["pretrained"]["origins"]
    assert [(one["name"], one["licence"]) for one in origins] == [(NAME, "Apache-2.0")]
    assert any(line.startswith("GET") for line in hub.asked)
    assert {one.architecture.bn_eps for one in races_of(Run(result.folder))[50.0][0]} == {1e-5}
    card, log = (result.winner.folder / "README.md").read_text(), (result.folder / "run.log").read_text()
    for text in (card, log):
        assert NAME in text and "Apache-2.0" in text
    network = result.winner.load()
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-5}


def test_by_default_an_unreachable_hub_is_only_said(
    search: Callable[..., mnas.Result], photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("mnas.pipeline.origins.weights_of", lambda name: (find(NAME),))
    result = search(**{**OPTIONS, "estimator": None}, data=photos)
    assert "127.0.0.1:9" in result.metrics["pretrained"]["missing"]
    assert result.metrics["networks"][0]["weights"] == "scratch"
    assert "127.0.0.1:9" in (result.winner.folder / "README.md").read_text()


@pytest.mark.parametrize("asked", [True, NAME])
def test_asked_for_and_unreachable_is_an_error(
    asked: bool | str, search: Callable[..., mnas.Result], photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("mnas.pipeline.origins.weights_of", lambda name: (find(NAME),))
    with pytest.raises(BadInput, match="--init") as caught:
        search(**{**ON_PHOTOS, "pretrained": asked}, data=photos)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("options", "word"), [
    ({"pretrained": "timm/mobilenetv3_large_100.ra_in2k"}, "ra_in1k"),
    ({"pretrained": "timm/mobilenetv2_100.ra_in1k"}, "mobilenet_v2"),
    ({"pretrained": "timm/mobilenetv3_large_100.ra_in1k"}, "mobilenet_v3_large"),
    ({"pretrained": True, "init": "small.pth"}, "--init"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(
    options: dict[str, Any], word: str, search: Callable[..., mnas.Result], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=word):
        search(**OPTIONS, estimator="probe", **options)
    assert not (tmp_path / "run").exists()


def test_small_images_start_from_nothing_unless_asked(search: Callable[..., mnas.Result]) -> None:
    result = search(**OPTIONS)
    assert result.metrics["pretrained"] == {"origins": [], "missing": None}
