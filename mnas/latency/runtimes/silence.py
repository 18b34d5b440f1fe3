"""Silence of libraries that speak to stderr where no setting of theirs reaches."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def silence() -> Iterator[None]:
    """While inside, what native code, Python and loggers write to stderr is dropped, for the whole process.

    Handlers that a library gives the root logger meanwhile are dropped too: they would write to what is closed then.
    """
    logged_from, handlers = logging.root.manager.disable, list(logging.root.handlers)
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        logging.disable()
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            logging.disable(logged_from)
            logging.root.handlers[:] = handlers
