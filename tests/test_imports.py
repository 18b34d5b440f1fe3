"""Imports run downward only, and the light entrance stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mnas

PACKAGE = Path(mnas.__file__).parent

# from the top down; a room imports from its own line and from the lines below it
ORDER = """
__main__
cli
commands api
pipeline report
study
latency estimators
export training tasks
nn
data space
config run
samplers metrics published io monitor
version errors
"""
FLOORS = [line.split() for line in ORDER.split("\n") if line]
RANK = {room: -floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    """The rooms of mnas that a file imports, in functions too, but not for types alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(node) for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and getattr(guard.test, "id", "") == "TYPE_CHECKING" for node in ast.walk(guard)
    }  # fmt: skip
    rooms = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "mnas" else [node.module]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name and name.startswith("mnas.")}
    return rooms


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    room = room_of(path)
    assert room in RANK, f"{room} has no place in ORDER"
    upward = {other for other in imported_rooms(path) if RANK[other] > RANK[room]}
    assert not upward, f"{path.name} ({room}) imports from above: {sorted(upward)}"


def test_every_room_exists() -> None:
    assert set(RANK) == {room_of(path) for path in FILES}


@pytest.mark.parametrize("module", ["mnas", "mnas.cli.app", "mnas.commands.catalogue"])
def test_light_modules_leave_torch_alone(module: str) -> None:
    heavy = "torch", "optuna", "sklearn", "matplotlib", "onnx"
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_scikit_learn_is_imported_for_a_sampler_only() -> None:
    code = "import sys, mnas.api; print([name for name in ('sklearn', 'pandas', 'scipy.stats') if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_exported_files_depend_on_torch_alone() -> None:
    for node in ast.walk(ast.parse((PACKAGE / "nn" / "blocks.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module in ("__future__", "torch")


def test_public_names() -> None:
    assert sorted(mnas.__all__) == sorted([
        "Architecture", "BadInput", "Cost", "ImageData", "Infeasible", "LatencyTable", "Layer", "MissingDependency",
        "MnasError", "Network", "Result", "RunLocked", "SearchSpace", "Supernet", "Trial", "Winner", "__version__",
        "build", "cost", "load_data", "load_model", "load_reference", "load_space", "predict", "resume", "samplers",
        "search", "train_supernet", "worker", "zoo",
    ])  # fmt: skip
    for name in mnas.__all__:
        assert getattr(mnas, name) is not None
