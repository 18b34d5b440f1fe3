"""Tasks are found by their names, and heads of another task refused."""

from __future__ import annotations

import pytest

from mnas.errors import BadInput
from mnas.space.layer import HEADS
from mnas.tasks.kinds import KINDS, chosen_task


def test_every_head_is_of_one_task() -> None:
    assert sorted(head for kind in KINDS.values() for head in kind.heads) == sorted(HEADS)


def test_the_usual_heads() -> None:
    segmentation, detection = chosen_task("segmentation", None), chosen_task("detection", None)
    assert segmentation is not None and segmentation.head == "lraspp"
    assert detection is not None and detection.head == "ssdlite"
    assert chosen_task("classification", None) is None


@pytest.mark.parametrize("task, head", [
    ("segmentation", "ssdlite"), ("detection", "lraspp"), ("classification", "lraspp"), ("segmentation", "fcn"),
    ("segment", None), ("", None),
])  # fmt: skip
def test_other_combinations_are_refused(task: str, head: str | None) -> None:
    with pytest.raises(BadInput):
        chosen_task(task, head)
