"""Silencing libraries that write to stderr, or warn of themselves, and have no setting against it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def silence() -> Iterator[None]:
    """Drop everything that native code, Python and loggers write to stderr inside the block, for the whole process.

    Handlers that a library adds to the root logger inside are removed: they would write to a closed file.
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


@contextmanager
def without_export_warnings() -> Iterator[list[BaseException]]:
    """Without torch.export's own warnings and its log, in which a failed loading has its cause: these are yielded."""
    log, causes = logging.getLogger("torch.export"), list[BaseException]()

    def held_back(record: logging.LogRecord) -> bool:
        causes.extend([record.exc_info[1]] if record.exc_info and record.exc_info[1] else [])
        return False

    log.addFilter(held_back)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            warnings.filterwarnings("ignore", message="The given buffer is not writable")  # torch 2.11, loading
            yield causes
    finally:
        log.removeFilter(held_back)
