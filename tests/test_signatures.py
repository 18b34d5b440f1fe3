"""No function takes more arguments than a person keeps in mind, no class holds more fields."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mnas

PACKAGE = Path(mnas.__file__).parent
MOST_ARGUMENTS, MOST_FIELDS = 7, 8

# what states as many things as a user may: the command line and its twin in Python; a layer, and the modules it becomes
MANY_ARGUMENTS = ("cli/", "nn/blocks.py", "api.py search", "api.py train_supernet")
MANY_FIELDS = ("space/layer.py Layer", "space/architecture.py Block")


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Every definition of the package, with `file name`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield f"{path.relative_to(PACKAGE).as_posix()} {node.name}", node


def test_functions() -> None:
    for place, node in nodes():
        if isinstance(node, ast.FunctionDef) and not place.startswith(MANY_ARGUMENTS):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
            assert len(names) <= MOST_ARGUMENTS, f"{place}: {len(names)} arguments"


def test_classes() -> None:
    """The models of files, which derive from Strict or Documented, have the fields that their files have."""
    for place, node in nodes():
        if not isinstance(node, ast.ClassDef) or place in MANY_FIELDS:
            continue
        of_a_file = any(ast.unparse(base) in ("Strict", "Documented") for base in node.bases)
        fields = [
            part for part in node.body
            if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part.annotation)
        ]  # fmt: skip
        assert of_a_file or len(fields) <= MOST_FIELDS, f"{place}: {len(fields)} fields"
