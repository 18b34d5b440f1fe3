"""Fetching from a server on this machine: whole files alone get into the caches, and nothing hangs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hub_server import HubServer, serving

from mnas.published import hub as hub_files
from mnas.published.catalogue import Hub, PublishedWeights, Url, find
from mnas.published.fetch import Unreachable, fetch, torch_checkpoints
from mnas.published.hub import hub_cache

LARGE = find("timm/mobilenetv3_large_100.ra_in1k")
CONTENT = safetensors.torch.save({"weight": torch.arange(50_000.0)})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server with one file, and empty caches."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub_files, "ANSWER_S", 1.5)
    monkeypatch.setattr(hub_files, "STALLED_S", 1.5)
    with serving(CONTENT) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def at_url(server: HubServer, digest: str | None = None) -> PublishedWeights:
    """torchvision's kind of weights: the name has the first digits of the checksum."""
    digits = (digest or hashlib.sha256(CONTENT).hexdigest())[:8]
    return PublishedWeights("torchvision/x", "x", Url(f"{server.address}/x-{digits}.pth"), "-", "-", 0.0)


def broken_files(tmp_path: Path) -> list[Path]:
    """Files in the caches that are not the weights, temporary ones among them."""
    found = [*hub_cache().rglob("snapshots/*/*"), *hub_cache().rglob("blobs/*"), *torch_checkpoints().glob("*")]
    return [path for path in found if path.is_file() and path.read_bytes() != CONTENT]


def test_fetched_once_then_found_without_a_server(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(LARGE)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(hub_cache())
    asked = len(hub.asked)
    assert fetch(LARGE) == path
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(LARGE) == path
    assert len(hub.asked) == asked


def test_an_address_is_kept_where_torch_keeps_its_checkpoints(hub: HubServer) -> None:
    weights = at_url(hub)
    path = fetch(weights)
    assert path == torch_checkpoints() / weights.place.file and path.read_bytes() == CONTENT
    asked = len(hub.asked)
    assert fetch(weights) == path and len(hub.asked) == asked
    assert torch.hub.get_dir() == str(path.parent.parent)


def test_a_checksum_of_git(hub: HubServer) -> None:
    """What `git hash-object` says of the file."""
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    for digest, right in ((blob, True), ("0" * 40, False)):
        place = Url(f"{hub.address}/supernet_w1.0", digest)
        weights = PublishedWeights("ofa/supernet", "x", place, "-", "-", None)
        if right:
            assert fetch(weights).read_bytes() == CONTENT
            continue
        with pytest.raises(Unreachable, match="checksum"):
            fetch(weights)
        assert not list(torch_checkpoints().glob("*"))


@pytest.mark.parametrize("kind", [
    "401", "403", "404", "429", "500", "503", "html", "silent", "drips", "stalls", "truncated", "damaged", "later 429",
])  # fmt: skip
@pytest.mark.parametrize("source", ["hub", "url"])
def test_whatever_the_server_does_nothing_broken_is_kept(
    source: str, kind: str, hub: HubServer, tmp_path: Path
) -> None:
    weights = LARGE if source == "hub" else at_url(hub)
    hub.misbehaves = kind
    began = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        fetch(weights)
    assert time.monotonic() - began < 8
    message = str(caught.value)
    assert "\n" not in message and weights.name in message and "--init" in message
    assert not broken_files(tmp_path)
    hub.misbehaves = ""
    assert fetch(weights).read_bytes() == CONTENT


@pytest.mark.parametrize("source", ["hub", "url"])
def test_no_server_at_all(source: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = "http://127.0.0.1:9"
    monkeypatch.setenv("HF_ENDPOINT", closed)
    weights = LARGE
    if source == "url":
        weights = PublishedWeights("t/x", "x", Url(f"{closed}/x-00000000.pth"), "-", "-", 0.0)
    began = time.monotonic()
    with pytest.raises(Unreachable):
        fetch(weights)
    assert time.monotonic() - began < 2


def test_offline_and_not_in_the_cache(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Unreachable, match="HF_HUB_OFFLINE"):
        fetch(LARGE)
    assert not hub.asked


@pytest.mark.parametrize("content", [b"", CONTENT[: len(CONTENT) // 2], CONTENT[:-1] + b"?"], ids=len)
def test_a_broken_file_in_the_cache_is_fetched_anew(content: bytes, hub: HubServer) -> None:
    path = fetch(LARGE)
    path.resolve().write_bytes(content)
    assert fetch(LARGE).read_bytes() == CONTENT
    kept = fetch(at_url(hub))
    kept.write_bytes(content)
    assert fetch(at_url(hub)).read_bytes() == CONTENT


def test_a_file_that_was_missing_once_is_found(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library notes what was missing, and would go on saying so."""
    path = fetch(LARGE)
    note = path.parent.parent.parent / ".no_exist" / path.parent.name / path.name
    note.parent.mkdir(parents=True)
    note.touch()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(LARGE) == path


def test_a_token_is_sent_to_a_mirror_that_wants_one(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.misbehaves = "wants a token"
    with pytest.raises(Unreachable, match="HTTP 401"):
        fetch(LARGE)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert fetch(LARGE).read_bytes() == CONTENT


def test_a_slow_server_is_no_silent_one(hub: HubServer) -> None:
    """Longer than a stall may be, in all."""
    hub.misbehaves = "slow"
    assert fetch(LARGE).read_bytes() == CONTENT


@pytest.mark.parametrize("source", ["hub", "url"])
def test_a_cache_that_cannot_be_written(source: str, hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "hf").write_text("a file")
    (tmp_path / "torch").write_text("a file")
    with pytest.raises(Unreachable, match="Not a directory"):
        fetch(LARGE if source == "hub" else at_url(hub))


def test_what_is_no_address(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "example")
    with pytest.raises(Unreachable, match="https://"):
        fetch(LARGE)


def test_another_checksum_at_an_address(hub: HubServer) -> None:
    with pytest.raises(Unreachable, match="checksum"):
        fetch(at_url(hub, "00000000"))
    assert not list(torch_checkpoints().glob("*"))


def test_the_hub_is_asked_for_the_file_by_name(hub: HubServer) -> None:
    fetch(LARGE)
    assert isinstance(LARGE.place, Hub)
    assert hub.asked[0] == "HEAD /timm/mobilenetv3_large_100.ra_in1k/resolve/main/model.safetensors"
    assert hub.asked[-1] == f"GET /{LARGE.place.repo}/resolve/main/model.safetensors"
