"""What an idle machine measured is remembered by table, network and classes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import mnas
from mnas.latency.remembered import Remembered, remembered_beside
from mnas.latency.table.anchors import Anchor
from mnas.latency.timing.rounds import Measurement

ARCH, OTHER = (mnas.zoo.get("mobilenet_v3_small", width, 32) for width in (0.5, 0.75))
AT_REST, VAGUE = Measurement(2.0, 0.05, 30), Measurement(3.0, 0.4, 30)


@pytest.fixture
def remembered(tmp_path: Path) -> Remembered:
    return Remembered(tmp_path / "latency" / "networks.jsonl", "a table")


def test_the_last_measurement_at_rest_counts(remembered: Remembered) -> None:
    assert remembered.of([ARCH], 10) == [None]
    remembered.keep(ARCH, 10, VAGUE)
    assert remembered.of([ARCH], 10) == [None] and not remembered.path.exists()
    remembered.keep(ARCH, 10, Measurement(2.1, 0.1, 30))
    remembered.keep(ARCH, 10, AT_REST)
    remembered.keep(ARCH, 10, VAGUE)
    assert remembered.of([ARCH], 10) == [(2.0, 0.05)]


def test_another_network_table_or_number_of_classes_is_not_known(remembered: Remembered) -> None:
    remembered.keep(ARCH, 10, AT_REST)
    assert remembered.of([OTHER], 10) == [None]
    assert remembered.of([ARCH], 100) == [None]
    assert Remembered(remembered.path, "another table").of([ARCH], 10) == [None]
    assert Remembered(remembered.path, "a table").of([ARCH], 10) == [(2.0, 0.05)]


def test_a_table_is_known_by_its_anchors(own_cache: Path) -> None:
    anchors = [Anchor(ARCH, 10, 2.0), Anchor(OTHER, 10, 3.0)]
    same, measured_anew = remembered_beside(anchors), remembered_beside([anchors[0], Anchor(OTHER, 10, 3.1)])
    assert same is not None and measured_anew is not None
    assert same == remembered_beside(anchors) != measured_anew
    assert same.path == measured_anew.path
    assert same.path.is_relative_to(own_cache)
    assert remembered_beside([]) is None


def test_a_cache_without_room_is_no_fault(remembered: Remembered) -> None:
    remembered.path.parent.parent.joinpath("latency").write_text("a file where the folder should be")
    remembered.keep(ARCH, 10, AT_REST)
    assert remembered.of([ARCH], 10) == [None]


def test_a_damaged_line_is_left_out(remembered: Remembered, caplog: pytest.LogCaptureFixture) -> None:
    remembered.keep(ARCH, 10, AT_REST)
    remembered.path.write_text("no record\n" + remembered.path.read_text())
    with caplog.at_level(logging.WARNING):
        assert remembered.of([ARCH], 10) == [(AT_REST.median_ms, AT_REST.spread_ms)]
    assert str(remembered.path) in caplog.text
