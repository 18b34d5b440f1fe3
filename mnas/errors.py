"""The errors that mnas raises on purpose. Each message is one line: what, where, what was expected, the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class MnasError(Exception):
    """Base of all deliberate errors; the command line ends with its `exit_code`."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class BadInput(MnasError):
    """An argument, an option or a file cannot be used."""


class RunLocked(BadInput):
    """Another living process owns the run's folder."""


class Postponed(BadInput):
    """The machine does not allow it now, such as while it is busy: the run's folder stays for `mnas resume`."""


class MissingDependency(BadInput):
    """An optional package is not installed; the message has its pip command."""


class Infeasible(MnasError):
    """No network of the space keeps the budget, or none was found."""

    exit_code = 3


def one_line(message: str) -> str:
    """The message with control characters escaped, line breaks among them, and the passwords of URLs hidden."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in hide_passwords(message))


def hide_passwords(text: str) -> str:
    """The text with `***` for the passwords in its URLs; everything that is shown or written goes through this."""
    hidden = re.sub(r"(://[^:/@\s]*:)[^@\n]*@(?:\S*@)?", r"\1***@", text)
    return re.sub(r"([?&]\w*password=)[^&\s'\"]*", r"\1***", hidden)


def nearest(word: str, known: Iterable[str]) -> str:
    """The tail of an 'unknown name' message: `; did you mean 'x'? Known: x, y`."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    guess = f"; did you mean '{close[0]}'?" if close else "."
    return f"{guess} Known: {', '.join(names)}"
