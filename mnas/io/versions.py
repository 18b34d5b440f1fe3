"""The versions that decide a result."""

from __future__ import annotations

import platform
from importlib import metadata

from mnas.version import __version__


def versions() -> dict[str, str]:
    """The versions that decide a result."""
    names = ("torch", "optuna", "numpy", "onnx", "onnxruntime", "scikit-learn")
    installed = {name: metadata.version(name) for name in names if _installed(name)}
    return {"mnas": __version__, "python": platform.python_version(), **installed}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
