"""Files of the Hugging Face hub, fetched by its own library into its own cache, and checked."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
from pathlib import Path

from mnas.errors import BadInput
from mnas.published.catalogue import Hub

ANSWER_S = 4.0
"""In which a server has to answer."""
STALLED_S = 5.0
"""Without a byte, after which a download is taken up again or given up."""
LONGEST_S = 900.0
"""Of one download."""
BEGIN_S = 30.0
"""In which a Python process begins, on a busy machine too."""
PROGRAM = Path(__file__).with_name("download.py")


class Unreachable(BadInput):
    """Published weights that cannot be had now."""


def hub_address(place: Hub) -> str:
    """The address of a file in the hub."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    return f"{endpoint}/{place.repo}/resolve/main/{place.file}"


def hub_cache() -> Path:
    """The cache that Hugging Face's libraries share."""
    home = os.environ.get("HF_HOME") or cache_home() / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def cache_home() -> Path:
    """The folder of the user's caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def from_hub(place: Hub) -> Path:
    """A file from the cache where it is there and whole, else downloaded. Raises Unreachable or OSError."""
    cached = _in_cache(place)
    if cached is not None:
        if _is_whole(cached):
            return cached
        _remove(cached)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise Unreachable("HF_HUB_OFFLINE is set, and the cache has no whole copy")
    path = _download(place)
    if not _is_whole(path):
        _remove(path)
        raise Unreachable("what came is no whole file of weights, or has another checksum")
    return path


def _in_cache(place: Hub) -> Path | None:
    """The file as it was last downloaded; huggingface_hub's own look-up denies those that were missing once."""
    folder = hub_cache() / f"models--{place.repo.replace('/', '--')}"
    try:
        path = folder / "snapshots" / (folder / "refs" / "main").read_text().strip() / place.file
    except (OSError, ValueError):
        return None
    return path if path.is_file() else None


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is complete, and what its name in the hub's cache says: its SHA-256 checksum."""
    blob = path.resolve()
    try:
        with blob.open("rb") as file:
            if re.fullmatch("[0-9a-f]{64}", blob.name) and hashlib.file_digest(file, "sha256").hexdigest() != blob.name:
                return False
            file.seek(0)
            header_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_bytes)) if header_bytes < 100_000_000 else {}
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return blob.stat().st_size == 8 + header_bytes + int(end)


def _remove(path: Path) -> None:
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def _download(place: Hub) -> Path:
    """Run huggingface_hub in a process of its own, which can be ended: name servers know no time limit."""
    # its transfers with Xet, which are native code, have other time limits
    environment = {
        **os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_VERBOSITY": "error",
    }  # fmt: skip
    bar = None if sys.stderr.isatty() else subprocess.DEVNULL
    command = [sys.executable, "-P", str(PROGRAM), place.repo, place.file, str(ANSWER_S), str(STALLED_S)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=bar, text=True) as process:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        try:
            _next(lines, BEGIN_S, f"Python did not begin within {BEGIN_S:g} s")
            _next(lines, ANSWER_S + 0.5, f"no answer within {ANSWER_S:g} s")
            return Path(_next(lines, LONGEST_S, f"not whole after {LONGEST_S:g} s"))
        finally:
            _stop(process)


def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout
    for line in process.stdout:
        lines.put(line.strip())
    lines.put("failed the hub's library ended without a word")


def _next(lines: queue.Queue[str], seconds: float, late: str) -> str:
    """What the program's next line tells. Raises Unreachable where it has failed, or is late."""
    try:
        word, _, rest = lines.get(timeout=seconds).partition(" ")
    except queue.Empty:
        raise Unreachable(late) from None
    if word == "failed":
        raise Unreachable(rest)
    return rest


def _stop(process: subprocess.Popen[str]) -> None:
    """End the program; it removes its temporary file, unless it hangs."""
    process.terminate()
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        process.kill()
