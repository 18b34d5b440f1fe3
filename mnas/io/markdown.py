"""Texts that others supply, such as the names of classes and files, inside Markdown."""

from __future__ import annotations

import html
import re

_MARKS = re.compile(r"[\\`*\[\]|]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that begin or end something in Markdown; an underscore does so only at the edge of a word."""


def escaped(text: str) -> str:
    """`text` on one line, shown as it is: neither HTML nor Markdown in it has an effect, nor does it end a cell."""
    return html.escape(_MARKS.sub(r"\\\g<0>", " ".join(text.split())), quote=False)
