"""Presets are found from an installed wheel, an editable install and a bare clone, from any folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = """
import mnas, mnas.io.presets
from pathlib import Path
assert Path(mnas.__file__).is_relative_to(Path({where!r})), mnas.__file__
spaces = ["mnasnet", "ofa_mbv3", "ofa_mbv3_w1.0", "v1", "v2", "v3_large", "v3_small"]
assert mnas.io.presets.preset_names("search_spaces") == spaces
assert mnas.io.presets.preset_names("objectives") == ["mnasnet", "mnasnet_hard", "pareto", "tunas"]
assert mnas.load_space("v3_large").size > 1
"""


def run(code: str, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
         "-w", folder, ROOT],
        check=True,
    )  # fmt: skip
    return next(folder.glob("mnas-*.whl"))


def test_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "mnas/search_spaces/v3_large.yaml" in names
    assert "mnas/objectives/mnasnet.yaml" in names
    templates = {
        "export/card.md.j2", "export/card_boxes.md.j2", "export/card_masks.md.j2", "export/card_parts.md.j2",
        "export/card_search.md.j2", "export/dense_card.md.j2", "export/predict.py.j2", "report/report.html.j2",
        "report/report.css",
    }  # fmt: skip
    assert {f"mnas/{name}" for name in templates} <= set(names)
    assert "mnas/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "runs"))]
    # ahead of the editable install that runs these tests
    run(CODE.format(where=str(tmp_path / "site")), tmp_path, PYTHONPATH=str(tmp_path / "site"))


def test_editable_install_and_bare_clone(tmp_path: Path) -> None:
    run(CODE.format(where=str(ROOT)), tmp_path)
    run(CODE.format(where=str(ROOT)), ROOT, PYTHONPATH=str(ROOT))


def test_constraints_pin_what_is_needed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in needed:
        assert re.split("[>=[]", requirement)[0].lower() in pinned, requirement
    assert "torch==2.13.0" in lines
