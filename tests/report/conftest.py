"""A finished run of images with odd names, with everything that a search can leave behind."""

from __future__ import annotations

import pytest
from odd_names import odd_folder
from small_search import QUICK, TINY_SPACE, guess, milliseconds, no_pictures

from mnas import Result
from mnas import search as run_search


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """With a race, a random search and a baseline."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    with no_pictures():
        return run_search(
            space=folder / "tiny.yaml", latency_ms=0.6, trials=6, run=folder / "a run", estimator=guess,
            latency=milliseconds, data=odd_folder(folder / "<odd>"), baseline=["mobilenet_v3_small@0.5"],
            compare_random=True, set={**QUICK, "recipe.epochs": 2},
        )  # fmt: skip
