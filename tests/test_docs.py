"""The guides are true: their Python runs, their YAML is a space, their commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mnas.io.strict_yaml import parse_yaml, validate
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IN_A_WINNERS_FOLDER = {"winner.md"}  # tests/export/test_folder.py runs their Python there


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (f"{path.name}-{number}", block)
        for path in DOCS
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL), start=1)
    ]


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in blocks("python")
                                  if name.rpartition("-")[0] not in IN_A_WINNERS_FOLDER])
def test_python(code: str, tmp_path: Path) -> None:
    few = {"recipe.epochs": 1, "recipe.images": 200, "supernet.epochs": 1, "supernet.images": 200, "finetune_epochs": 0,
           "max_table_error": 1.0}  # fmt: skip
    # a table that is made in no time, and a budget that a busy machine keeps too
    quick = code.replace("latency_ms=5, trials=10)", f"latency_ms=500, trials=2, resolution=[32], set={few})")
    quick = f"from mnas.latency.table import calibrate\ncalibrate.ROUNDS = 10\n{quick}" if quick != code else code
    done = subprocess.run([sys.executable, "-W", "error", "-c", quick], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks("yaml")])
def test_yaml(text: str) -> None:
    assert SearchSpace(validate(SpaceFile, parse_yaml(text, "docs"), "docs")).size > 1


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks("sh")])
def test_commands_exist(text: str) -> None:
    from typer.main import get_command

    from mnas.cli.app import app

    command = get_command(app)
    for words in re.findall(r"^mnas (.*?)(?:  #.*)?$", text, re.MULTILINE):
        name, *rest = words.split()
        found = command.commands[name]  # type: ignore[attr-defined]
        if hasattr(found, "commands"):
            found = found.commands[rest[0]]
        options = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, words
