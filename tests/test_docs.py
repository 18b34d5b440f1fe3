"""The guides are true: their Python runs, their YAML is a space, their commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_search import QUICK

from mnas.io.strict_yaml import parse_yaml, validate
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_ELSEWHERE = {"winner.md", "tutorial.md"}  # tests/export/test_folder.py and test_tutorial.py run their Python


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (f"{path.name}-{number}", block)
        for path in DOCS
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL), start=1)
    ]


@pytest.mark.usefixtures("without_pictures", "tiny")
@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in blocks("python")
                                  if name.rpartition("-")[0] not in RUN_ELSEWHERE])
def test_python(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for searches: in a small space, within a budget that a busy machine keeps too."""
    small = code.replace(
        'space="v3_small", data="digits", latency_ms=5, trials=10)',
        f'space="tiny.yaml", data="digits", latency_ms=500, trials=2, set={QUICK})',
    )
    assert small != code or "mnas.search" not in code or "latency=milliseconds" in code
    monkeypatch.chdir(tmp_path)
    exec(compile(small, "docs", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks("yaml")])
def test_yaml(text: str) -> None:
    assert SearchSpace(validate(SpaceFile, parse_yaml(text, "docs"), "docs")).size > 1


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks("sh")])
def test_commands_exist(text: str) -> None:
    from typer.main import get_command

    from mnas.cli.app import app

    command = get_command(app)
    for line in text.replace("\\\n", " ").splitlines():
        if not line.startswith("mnas "):
            continue
        name, *rest = words = line.partition("  #")[0].split()[1:]
        found = command.commands[name]  # type: ignore[attr-defined]
        if hasattr(found, "commands"):
            found = found.commands[rest[0]]
        options = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, words
