"""Passwords on the command line: every user of a machine sees the arguments of all processes."""

from __future__ import annotations

import os
import sys

from mnas.errors import hide_passwords

VARIABLE = "MNAS_STORAGE"


def hide_from_process_list() -> None:
    """Start this process again if an argument is a URL with a password, which moves into the environment variable.

    The process keeps its number. For the fraction of a second until then the password can be seen:
    `--storage env:NAME` never shows it.
    """
    option, url = next(
        ((option, url) for option, url in map(_parts, sys.argv[1:]) if hide_passwords(url) != url), ("", "")
    )
    shown = f"{option}{url}"
    if url and shown in sys.orig_argv:
        hidden = [f"{option}env:{VARIABLE}" if arg == shown else arg for arg in sys.orig_argv]
        os.execve(sys.executable, [sys.executable, *hidden[1:]], os.environ | {VARIABLE: url})


def _parts(arg: str) -> tuple[str, str]:
    """`--storage=URL` in two parts; a URL alone has an empty first one."""
    option, equals, value = arg.partition("=")
    return (option + equals, value) if option == "--storage" and equals else ("", arg)
