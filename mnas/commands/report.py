"""`mnas report`: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnas.errors import BadInput
from mnas.report.page import write_report
from mnas.run import Run


def report(target: str | Path, output: str | Path | None = None) -> dict[str, Any]:
    """Write the page of a run, to its report.html or to another file, which must not exist. Raises BadInput."""
    run, path = Run.open(Path(target)), None if output is None else Path(output)
    if path is not None and path.is_dir():
        path = path / run.report_path.name
    if path is not None and path.exists():
        raise BadInput(f"{path}: exists; name another file with -o")
    written = write_report(run, path)
    return {"folder": str(run.folder), "report": str(written), "bytes": written.stat().st_size}
