"""Python literals for generated source: a wrapped docstring, a tuple of texts."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120
"""Columns of generated source."""


def docstring(paragraphs: Iterable[str]) -> str:
    """A module's docstring of wrapped paragraphs; any text gives valid Python."""
    wrapped = []
    for paragraph in paragraphs:
        text = "".join(char if char.isprintable() else " " for char in paragraph).replace('"""', "'''")
        wrapped.append("\n".join(textwrap.wrap(text, WIDTH - 5)).replace("\\", "\\\\"))
    return '"""' + "\n\n".join(text for text in wrapped if text) + '\n"""'


def tuple_source(name: str, values: Sequence[str]) -> str:
    """`name = ("a", "b")`, on several lines if one would be too long."""
    literals = [_literal(value) for value in values]
    line = f"{name} = ({', '.join(literals)}{',' if len(literals) == 1 else ''})"
    if len(line) <= WIDTH:
        return line
    lines = [""]
    for literal in literals:
        pieces = [f"{literal},"] if len(literal) < WIDTH - 5 else _split(literal)
        for piece in pieces:
            if lines[-1] and len(lines[-1]) + 1 + len(piece) > WIDTH - 4:
                lines.append("")
            lines[-1] += f"{' ' if lines[-1] else ''}{piece}"
    return "\n".join([f"{name} = (", *(f"    {line}" for line in lines), ")"])


def _literal(text: str) -> str:
    literal = repr(text)
    return f'"{literal[1:-1]}"' if literal.startswith("'") and '"' not in literal else literal


def _split(literal: str) -> list[str]:
    """A long text as adjacent literals, one per line, which Python joins."""
    value: str = ast.literal_eval(literal)
    parts = [_literal(value[i : i + 50]) for i in range(0, len(value), 50)]
    return [f"({parts[0]}", *parts[1:-1], f"{parts[-1]}),"]
