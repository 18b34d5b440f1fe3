"""Published weights fetched into the usual caches, checked; an unreachable server is known within seconds."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mnas.io.files import write_atomic
from mnas.published import hub
from mnas.published.catalogue import Hub, PublishedWeights, Url
from mnas.published.hub import Unreachable, cache_home, from_hub, hub_address

__all__ = ["Unreachable", "fetch", "hub_address", "torch_checkpoints"]

T = TypeVar("T")


def fetch(weights: PublishedWeights) -> Path:
    """The file of published weights, from the cache where it is there and whole; else downloaded.

    Files of the Hugging Face hub are in its own cache (HF_HOME), others in torch.hub's (TORCH_HOME). HF_ENDPOINT,
    HF_TOKEN and HF_HUB_OFFLINE are respected. Raises Unreachable where it cannot be had, within five seconds where no
    server answers.
    """
    place = weights.place
    try:
        return from_hub(place) if isinstance(place, Hub) else _from_url(place)
    except Unreachable as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or 'the cache'}: {error.strerror or error}"
    address = hub_address(place) if isinstance(place, Hub) else place.address
    raise Unreachable(
        f"{weights.name}: cannot be fetched ({reason}); bring the file: --init FILE ({address}), or state "
        "--no-pretrained"
    )


def torch_checkpoints() -> Path:
    """torch.hub's folder of downloaded checkpoints."""
    return Path(os.environ.get("TORCH_HOME") or cache_home() / "torch").expanduser() / "hub" / "checkpoints"


def _from_url(place: Url) -> Path:
    path = torch_checkpoints() / place.file
    if path.exists():
        if _is_right(path.read_bytes(), place):
            return path
        path.unlink()
    with _answered(place.address) as answer:
        content = _all_of(answer)
    if not _is_right(content, place):
        page = content.lstrip()[:1] == b"<"
        raise Unreachable("a web page in place of weights" if page else "what came has another checksum")
    write_atomic(path, content)
    return path


def _is_right(content: bytes, place: Url) -> bool:
    """Whether the content has the file's checksum."""
    if place.git_blob:
        blob = b"blob %d\0" % len(content) + content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == place.git_blob
    return hashlib.sha256(content).hexdigest().startswith(place.sha256)


def _answered(address: str) -> Any:
    """The answer of a server, its body unread. Raises Unreachable."""
    request = urllib.request.Request(address, headers={"User-Agent": "mnas"})
    try:
        answer = _within(hub.ANSWER_S, lambda: urllib.request.urlopen(request, timeout=hub.ANSWER_S))
    except urllib.error.HTTPError as error:
        error.close()
        raise Unreachable(f"HTTP {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(_reason(error)) from None
    if "html" in answer.headers.get("Content-Type", ""):
        answer.close()
        raise Unreachable("a web page in place of weights")
    return answer


def _all_of(answer: Any) -> bytes:
    """The body. Raises Unreachable where it breaks off, stalls or takes too long."""
    expected, began = answer.headers.get("Content-Length"), time.monotonic()
    content = bytearray()
    try:
        while part := answer.read1(1 << 20):
            content += part
            if time.monotonic() - began > hub.LONGEST_S:
                raise Unreachable(f"not whole after {hub.LONGEST_S:g} s")
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the connection broke: {_reason(error)}") from None
    if expected is not None and len(content) != int(expected):
        raise Unreachable(f"the connection broke after {len(content):,} of {int(expected):,} bytes")
    return bytes(content)


def _within(seconds: float, function: Callable[[], T]) -> T:
    """What `function` returns or raises. Raises TimeoutError after `seconds`: name servers know no time limit."""
    results: list[T] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            results.append(function())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, socket.gaierror):
        return "no connection: the server's name is unknown here"
    if isinstance(reason, TimeoutError):
        return f"no answer within {hub.ANSWER_S:g} s"
    return f"no connection: {getattr(reason, 'strerror', None) or type(reason).__name__}"
