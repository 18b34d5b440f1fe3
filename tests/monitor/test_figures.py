"""The figure as measured is shown where it says more than that at the table's speed."""

from __future__ import annotations

import pytest

from mnas.monitor.figures import as_measured


@pytest.mark.parametrize(("ms", "factor", "shown"), [
    (16.2, 1.15, "16.20"), (16.2, 0.98, "16.20"), (16.2, 1.0099, ""), (16.2, 0.991, ""), (16.2, 1.0, ""),
    (16.2, None, ""), (None, 1.15, ""), (None, None, ""),
])  # fmt: skip
def test_shown_where_they_differ_by_more_than_a_hundredth(ms: float | None, factor: float | None, shown: str) -> None:
    text = as_measured(ms, factor)
    assert bool(text) == bool(shown)
    assert shown in text
