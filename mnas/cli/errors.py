"""How the command ends: every deliberate error is one line on stderr and an exit code."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from mnas.errors import MnasError, one_line
from mnas.io.files import DISK_FULL
from mnas.io.interrupt import INTERRUPTED, listen

CLOSED_PIPE = 141
"""As the shell shows a tool that SIGPIPE ended."""


def end(app: typer.Typer) -> NoReturn:
    """Run the command and end the process with its exit code."""
    from mnas.monitor.console import log_to_console

    log_to_console()
    listen(leave)
    try:
        code = _run(app, "--json" in sys.argv)
    except (SystemExit, BrokenPipeError) as error:  # the first is what Typer and rich make of the second
        if not any(isinstance(cause, BrokenPipeError) for cause in (error, error.__context__)):
            raise
        devnull = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(devnull, stream.fileno())  # otherwise Python reports an error when it flushes the rest
        code = CLOSED_PIPE
    sys.exit(code)


def leave() -> None:
    """What a second Ctrl-C leaves behind: a cursor, and a line."""
    from mnas.monitor.console import stderr_console

    stderr_console().show_cursor()
    typer.echo("error: interrupted twice: left at once", err=True)


def _run(app: typer.Typer, as_json: bool) -> int:
    try:
        code = app(standalone_mode=False, prog_name="mnas")
    except MnasError as error:
        return _fail(str(error), error.exit_code, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED, as_json)
    except typer.Exit as error:
        return error.exit_code
    except OSError as error:
        if error.filename is None and error.errno not in DISK_FULL:
            raise
        return _fail(f"{error.filename or 'disk'}: {error.strerror}; {disk_advice(error, sys.argv[1:])}", 2, as_json)
    except Exception as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
            return _fail(f"not enough memory: {memory_advice(sys.argv[1:])}", 2, as_json)
        return _usage(error, as_json)
    if code == INTERRUPTED:  # Typer's own answer to Ctrl-C
        return _fail("interrupted", code, as_json)
    return code if isinstance(code, int) else 0


def disk_advice(error: OSError, words: Sequence[str]) -> str:
    """The way out where a file could not be read or written by the command in `words`."""
    if error.errno in DISK_FULL:
        return "finished work is kept: free some space, then continue a run with mnas resume RUN"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and words[:1] == ["resume"]:
        return "finished work is kept: make it writable, then run the command again"
    return "name another file or folder; a run that has begun is kept, and mnas resume RUN continues it"


def memory_advice(words: Sequence[str]) -> str:
    """What needs less memory, for the command in `words`."""
    command = next((word for word in words if not word.startswith("-")), "")
    batches = "--set recipe.batch_size=32 --set supernet.batch_size=32"
    return {
        "search": f"try smaller batches ({batches}), or a smaller --resolution",
        "supernet": "try smaller batches (--set supernet.batch_size=32), or a smaller --resolution",
        "resume": f"try a new run with smaller batches ({batches}), or a smaller --resolution",
        "train": "try smaller batches (--set batch_size=32), or a smaller --resolution",
        "latency": "try a smaller --batch or --resolution",
    }.get(command, "free some memory on this machine and run the command again")


def _usage(error: Exception, as_json: bool) -> int:
    """A wrong use of the command line, in Click's words; any other exception is a bug and is raised again."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help; Typer exports no name for it
        typer.echo(format_message(), err=True)
        return 2
    context = getattr(error, "ctx", None)
    hint = f" (see: {context.command_path} --help)" if context else ""
    return _fail(f"{format_message().rstrip('.')}{hint}", 2, as_json)


def _fail(message: str, code: int, as_json: bool) -> int:
    message = one_line(message)
    logging.getLogger("mnas").debug("failed: %s", message)
    typer.echo(f"error: {message}", err=True)
    if as_json:
        typer.echo(json.dumps({"error": message, "exit_code": code}))
    return code
