"""Functions and classes of mnas as source text that stands alone, with the constants and imports that they need."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable
from typing import Any

ELSEWHERE = ("mnas.nn.blocks",)
"""Modules whose definitions a generated file has already."""
IMPORTS = {
    "hashlib": "import hashlib", "json": "import json", "math": "import math",
    "Sequence": "from collections.abc import Sequence", "pairwise": "from itertools import pairwise",
    "Path": "from pathlib import Path", "Any": "from typing import Any", "NamedTuple": "from typing import NamedTuple",
    "torch": "import torch", "F": "import torch.nn.functional as F",
}  # fmt: skip
"""Name -> the line that imports it, as a linter orders them; `from torch import Tensor, nn` comes last."""


def definitions(roots: Iterable[Any]) -> tuple[str, str]:
    """The constants, and the source of functions and classes with all of mnas that they use."""
    queue, found, constants = list(roots), dict[str, Any](), dict[str, Any]()
    while queue:
        one = queue.pop()
        if one.__name__ in found:
            continue
        found[one.__name__] = one
        known = vars(sys.modules[one.__module__])
        for name in _loaded(ast.parse(inspect.getsource(one))):
            value = known.get(name)
            if isinstance(value, int | float | tuple):
                constants[name] = value
            elif getattr(value, "__module__", "").startswith("mnas.") and value.__module__ not in ELSEWHERE:
                queue.append(value)
    ordered = sorted(found.values(), key=lambda one: (one.__module__, inspect.getsourcelines(one)[1]))
    texts = [inspect.getsource(one).replace("  # fmt: skip", "").rstrip() for one in ordered]
    return "\n".join(f"{name} = {value!r}" for name, value in sorted(constants.items())), "\n\n\n".join(texts)


def imports_of(source: str) -> str:
    """The lines that import what a source text uses, the standard library first."""
    used = _loaded(ast.parse(source))
    lines = [line for name, line in IMPORTS.items() if name in used]
    plain, theirs = ([line for line in lines if ("torch" in line) is torch] for torch in (False, True))
    both = "from typing import Any\nfrom typing import NamedTuple", "from typing import Any, NamedTuple"
    return "\n".join([*plain, "", *theirs, "from torch import Tensor, nn"]).replace(*both)


def _loaded(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


