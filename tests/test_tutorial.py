"""docs/tutorial.md is true: its commands run in their order on small photographs, with this machine as the board."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import Mnas
from PIL import Image
from small_search import QUICK

from mnas.latency.kit import kit as kits

TUTORIAL = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text()
BOARD = "pi@raspberrypi"
NOT_RUN = ("python3 -m venv .venv", ".venv/bin/pip install onnxruntime numpy pillow")
"""They need the internet; the board's Python is this one, without mnas's folder."""
SMALL = {"--space": ["tiny.yaml"], "--resolution": ["32,48"]}
QUICKLY = ["--trials", "2", *(word for key, value in QUICK.items() for word in ("--set", f"{key}={value}"))]
CLASSES = {"apple": (200, 60, 40), "pear": (150, 190, 60), "quince": (230, 210, 70)}


def lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", TUTORIAL, re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_what_is_not_run_is_there() -> None:
    assert set(NOT_RUN) <= set(lines())


def take_photographs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for root, numbers in (("photos", range(1, 41)), ("new_photos", range(300, 306))):
        for name, colour in CLASSES.items():
            (folder / root / name).mkdir(parents=True)
            for number in numbers:
                pixels = np.clip(rng.normal(colour, 40, (60, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / root / name / f"IMG_{number:04}.jpg")


@pytest.fixture
def quick_kit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kits, "ROUNDS", 6)
    monkeypatch.setitem(kits.make_kit.__kwdefaults__, "networks", 4)


@pytest.mark.usefixtures("tiny", "quick_kit")
def test_every_command_runs(mnas: Mnas, tmp_path: Path) -> None:
    take_photographs(tmp_path)
    (tmp_path / "classify.py").write_text(re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)[0])
    board = tmp_path / "board"
    board.mkdir()
    on_board, said = False, ""
    for line in lines():
        words = shlex.split(line)
        if line in NOT_RUN:
            continue
        if words == ["ssh", BOARD] or words == ["exit"]:
            on_board = words != ["exit"]
        elif on_board:
            assert words[0] == ".venv/bin/python", line
            done = subprocess.run([sys.executable, "-I", *words[1:]], cwd=board, capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stderr)
            said = done.stdout
        elif words[0] == "scp":
            copy(words[1:], tmp_path, board)
        else:
            assert words[0] == "mnas", line
            ended = mnas(*smaller(words[1:]))
            assert ended.code == 0, (line, ended.err)
    rows = re.findall(r"^IMG_0301.jpg (\w+) [\d.]+ ms$", said, re.MULTILINE)
    best = mnas("predict", "runs/pi", "new_photos/pear/IMG_0301.jpg", "--json").json["images"][0]["predictions"][0]
    assert rows == [best["class"]] * 3
    winner = json.loads((tmp_path / "runs" / "pi" / "winner" / "metrics.json").read_text())["networks"][0]
    assert winner["latencies"][0]["device"] == "Raspberry Pi 4" and winner["keeps_budget"]
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 18 * 3


def smaller(words: list[str]) -> list[str]:
    """The command in a small space at small sizes; a search with few trials in place of its time."""
    done: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        done.append(word)
        if word in SMALL:
            done += SMALL[word]
            words.pop(0)
        elif word == "--budget":
            done[-1:] = QUICKLY
            words.pop(0)
    return done


def copy(words: list[str], here: Path, board: Path) -> None:
    """What scp does, between two folders."""
    *sources, target = words
    there = board if target.startswith(f"{BOARD}:") else here / target
    for source in sources:
        shutil.copy(board / source.removeprefix(f"{BOARD}:") if source.startswith(BOARD) else here / source, there)
