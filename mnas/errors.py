"""Every error that mnas raises on purpose. Each message says what, where, what was expected and the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class MnasError(Exception):
    """Base of all deliberate errors; `exit_code` is what the command line ends with."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class BadInput(MnasError):
    """Something that the user gave is not usable as it is."""


class RunLocked(BadInput):
    """Another living process owns the run's folder."""


class MissingDependency(BadInput):
    """An optional package is needed; the message has its pip command."""


class Infeasible(MnasError):
    """No network of the space keeps the budget."""

    exit_code = 3


def one_line(message: str) -> str:
    """The message as it may be shown: line breaks and other control characters escaped, no password of a URL."""
    hidden = re.sub(r"(://[^:/@\s]*:)[^@]*@(?:\S*@)?", r"\1***@", message)
    hidden = re.sub(r"([?&]password=)[^&\s]*", r"\1***", hidden)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in hidden)


def nearest(word: str, known: Iterable[str]) -> str:
    """The tail of an 'unknown name' message: `; did you mean 'x'? Known: x, y`."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    guess = f"; did you mean '{close[0]}'?" if close else "."
    return f"{guess} Known: {', '.join(names)}"
