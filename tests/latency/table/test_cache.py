from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_tables import changed, refitted

from mnas.errors import BadInput
from mnas.latency import measure as measuring
from mnas.latency.conditions import Conditions
from mnas.latency.runtimes import Runtime
from mnas.latency.table import build as building
from mnas.latency.table import cache
from mnas.latency.table import calibrate as calibrating
from mnas.latency.table.cache import cache_path, table_for
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing import sections as timing
from mnas.space.layer import Layer
from mnas.space.space import SearchSpace, load_space

SPACE = """
name: least
reference: mobilenet_v3_small
resolution: 32
stem: {channels: 8, kernel: 3, stride: 2, activation: hard_swish}
stages:
  - {channels: 8, stride: 2, depth: [1, 2], kernel: [3, 5], expansion: [2, 3], activation: relu}
head: {channels: 16, hidden: 16, activation: hard_swish}
"""

Fill = Callable[..., LatencyTable]


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    (tmp_path / "least.yaml").write_text(SPACE)
    return load_space(str(tmp_path / "least.yaml"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, space: SearchSpace) -> None:
    """Few and small networks to calibrate, and a cache of its own."""
    for name, value in {"FITTED": 3, "HELD_OUT": 3, "ROUNDS": 4}.items():
        monkeypatch.setattr(calibrating, name, value)
    monkeypatch.setattr(measuring, "ANCHORS", tuple(calibrating.calibration_networks(space)[:3]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def fill(space: SearchSpace) -> Fill:
    def fill(
        num_classes: int = 10, path: Path | None = None, accepted: float = 0.0, sizes: tuple[int, ...] = (32,)
    ) -> LatencyTable:
        return table_for(
            space.with_resolutions(sizes), num_classes, Conditions("torch"), path=path, accepted=accepted
        )

    return fill


@pytest.fixture
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, nothing may be measured."""

    def forbid() -> None:
        monkeypatch.setattr(building, "sections", lambda todo, *_, **__: pytest.fail("layers!") if todo else iter(()))
        monkeypatch.setattr(cache, "calibrate", lambda *_, **__: pytest.fail("networks!"))

    return forbid


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_first_time_it_is_built_and_calibrated_and_then_read(
    fill: Fill, space: SearchSpace, no_measuring: Callable[[], None]
) -> None:
    table = fill()
    assert set(table.entries) == set(space.layers(10))
    assert table.calibration is not None
    assert table.calibration.networks.space == "least"
    path = cache_path(space, Conditions("torch"))
    assert LatencyTable.load(path) == table
    no_measuring()
    content = path.read_bytes()
    assert fill() == table
    assert path.read_bytes() == content


def test_a_table_of_an_earlier_version_gets_the_networks_that_show_the_machines_speed(
    fill: Fill, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, table = cache_path(space, Conditions("torch")), fill()
    assert table.calibration is not None and table.calibration.anchors
    changed(table, calibration=replace(table.calibration, anchors=())).save(path)
    monkeypatch.setattr(building, "sections", lambda todo, *_, **__: pytest.fail("layers!") if todo else iter(()))
    again = fill()
    assert again.calibration is not None and len(again.calibration.anchors) == len(table.calibration.anchors)
    assert again.entries == table.entries
    assert LatencyTable.load(path) == again


def test_another_number_of_classes_adds_a_layer_and_calibrates_anew(fill: Fill, space: SearchSpace) -> None:
    ten = fill(10)
    both = fill(7)
    assert set(both.entries) == set(space.layers(10)) | set(space.layers(7))
    assert {layer: both.entries[layer] for layer in ten.entries} == ten.entries
    assert both.calibration != ten.calibration


def test_interrupted_while_it_builds(fill: Fill, space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first = cache_path(space, Conditions("torch")), set[Layer]()
    prepared = building._prepared

    def second_section_fails(adapter: Runtime, layers: Sequence[Layer], *more: Any) -> object:
        first.update(layers if not first else ())
        return prepared(adapter, layers, *more) if first == set(layers) else interrupted()

    with monkeypatch.context() as patch:
        patch.setattr(timing, "GROUP", 1)  # sections of five layers
        patch.setattr(building, "_prepared", second_section_fails)
        with pytest.raises(KeyboardInterrupt):
            fill()
    part = LatencyTable.load(path)
    assert len(part.entries) == 5 < len(set(space.layers(10)))
    whole = fill()
    assert set(whole.entries) == set(space.layers(10))
    assert {layer: whole.entries[layer] for layer in part.entries} == part.entries
    assert whole.calibration is not None


def test_one_process_measures_at_a_time(fill: Fill, caplog: pytest.LogCaptureFixture) -> None:
    """The second waits, and finds what the first has measured."""
    with ThreadPoolExecutor(2) as pool, caplog.at_level(logging.INFO, "mnas"):
        one, other = pool.map(lambda _: fill(), range(2))
    assert one == other
    assert caplog.text.count("waiting for another process") == 1
    assert caplog.text.count("latency table: measuring") == 1


def test_a_cache_that_cannot_be_written_makes_nobody_wait(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fill(path=tmp_path / "own.yaml").entries


def test_interrupted_while_it_calibrates(fill: Fill, monkeypatch: pytest.MonkeyPatch, space: SearchSpace) -> None:
    first = fill(10)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "calibrate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fill(7)
    part = LatencyTable.load(cache_path(space, Conditions("torch")))
    assert part.calibration is None, "what was fitted before does not speak of a table with more layers"
    done = fill(7)
    assert done.entries == part.entries
    assert done.calibration not in (None, first.calibration)


@pytest.mark.parametrize("content", ["", "device: [", "device: x\n", "layers: []\n"])
def test_a_damaged_cache_is_measured_anew_with_a_warning(
    fill: Fill, space: SearchSpace, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache_path(space, Conditions("torch"))
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with caplog.at_level(logging.WARNING, "mnas"):
        table = fill()
    assert "measured again" in caplog.text
    assert str(path) in caplog.text
    assert LatencyTable.load(path) == table


def test_a_damaged_file_of_the_users_own_is_left_alone(fill: Fill, tmp_path: Path) -> None:
    path = tmp_path / "notes.yaml"
    path.write_text("my: notes\n")
    with pytest.raises(BadInput, match=r"notes\.yaml"):
        fill(path=path)
    assert path.read_text() == "my: notes\n"


@pytest.mark.parametrize(("change", "told"), [
    ({"device": "A phone"}, "device A phone, not "),
    ({"runtime_version": "1.0"}, "runtime version 1.0, not "),
    ({"threads": 3}, "threads 3, not 1"),
    ({"batch": 8, "threads": 3}, "threads 3, not 1; batch 8, not 1"),
])  # fmt: skip
def test_a_table_of_other_conditions_is_refused(
    fill: Fill, tmp_path: Path, change: dict[str, object], told: str, no_measuring: Callable[[], None]
) -> None:
    path = tmp_path / "table.yaml"
    here = building.build_table([], Conditions("torch"), rng=random.Random(0))
    changed(here, **change).save(path)
    no_measuring()
    before = path.read_bytes()
    with pytest.raises(BadInput) as refused:
        fill(path=path)
    assert str(refused.value).startswith(f"{path}: measured on ")
    assert told in str(refused.value)
    assert path.read_bytes() == before


def test_what_failed_is_kept_and_not_tried_again(
    fill: Fill, space: SearchSpace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    no_measuring: Callable[[], None],
) -> None:  # fmt: skip
    prepared, lost = building._prepared, sorted(space.layers(10), key=str)[0]

    def prepare(*how: object) -> dict[object, object]:
        runs = prepared(*how)  # type: ignore[arg-type]
        return {layer: "no kernel" if layer == lost else run for layer, run in runs.items()}

    monkeypatch.setattr(building, "_prepared", prepare)
    table = fill()
    assert table.failed == {lost: "no kernel"}
    assert table.calibration is None
    no_measuring()
    with caplog.at_level(logging.WARNING, "mnas"):
        assert fill() == fill() == table
    assert "failed on 1 layers" in caplog.text


def test_cache_path(space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cache_path(space, Conditions("torch", 2, 8))
    assert path.parent == tmp_path / "cache" / "mnas" / "latency"
    assert path.suffix == ".yaml"
    assert "/" not in path.name
    assert "threads-2-batch-8" in path.name
    larger = space.with_resolutions((48,))
    others = [
        cache_path(space, Conditions("torch", 1, 8)), cache_path(space, Conditions("onnxruntime", 2, 8)),
        cache_path(space, Conditions("torch", 2, 1)), cache_path(larger, Conditions("torch", 2, 8)),
    ]  # fmt: skip
    assert len({path, *others}) == 5
    both, turned = (
        cache_path(space.with_resolutions(sizes), Conditions("torch", 2, 8)) for sizes in ((32, 48), (48, 32))
    )
    assert both == turned != path
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path(space, Conditions("torch")).parent == tmp_path / ".cache" / "mnas" / "latency"


def inexact(monkeypatch: pytest.MonkeyPatch, errors: list[float]) -> None:
    """Calibrations, of which the first ones find these errors."""
    real = cache.calibrate

    def calibrate(*given: Any, **more: Any) -> LatencyTable:
        table = real(*given, **more)
        assert table.calibration is not None
        error = errors.pop(0) if errors else 0.0
        return replace(table, calibration=refitted(table.calibration, mean_error=error))

    monkeypatch.setattr(cache, "calibrate", calibrate)
    monkeypatch.setattr(cache, "INEXACT", 0.05)


def test_what_is_inexact_is_measured_once_more(
    fill: Fill, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inexact(monkeypatch, [0.4])
    table = fill()
    assert table.calibration is not None and table.calibration.error.mean_error == 0.0
    assert "40.0%" in caplog.text


def test_interrupted_while_it_measures_once_more(
    fill: Fill, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured first stays as it is."""
    inexact(monkeypatch, [0.4])
    prepared, attempts = building._prepared, 0

    def second_attempt_fails(*given: Any) -> object:
        return interrupted() if attempts else prepared(*given)

    def counted(*given: Any, **more: Any) -> LatencyTable:
        nonlocal attempts
        attempts += 1
        return calibrated_once(*given, **more)

    calibrated_once = cache.calibrate
    monkeypatch.setattr(cache, "calibrate", counted)
    monkeypatch.setattr(building, "_prepared", second_attempt_fails)
    with pytest.raises(KeyboardInterrupt):
        fill()
    assert attempts == 1
    kept = LatencyTable.load(cache_path(space, Conditions("torch")))
    assert set(kept.entries) == set(space.layers(10)) == set(kept.corrected)
    assert kept.calibration is not None and kept.calibration.error.mean_error == 0.4


def test_a_file_that_cannot_be_written_is_said_before_anything_is_measured(
    fill: Fill, tmp_path: Path, no_measuring: Callable[[], None]
) -> None:
    (tmp_path / "file").touch()
    no_measuring()
    with pytest.raises(OSError, match="file"):
        fill(path=tmp_path / "file" / "table.yaml")


@pytest.mark.parametrize("errors", [[0.4, 0.3], [0.3, 0.4]])
def test_the_better_of_two_attempts_is_kept(
    fill: Fill, space: SearchSpace, monkeypatch: pytest.MonkeyPatch, errors: list[float]
) -> None:
    inexact(monkeypatch, list(errors))
    table = fill()
    assert table.calibration is not None and table.calibration.error.mean_error == 0.3
    assert LatencyTable.load(cache_path(space, Conditions("torch"))) == table


def test_a_second_attempt_keeps_the_layers_of_others(
    fill: Fill, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten = fill(10)
    inexact(monkeypatch, [0.4])
    both = fill(7)
    assert both.calibration is not None and both.calibration.error.mean_error == 0.0
    assert set(both.entries) == set(space.layers(10)) | set(space.layers(7))
    same = {layer for layer in ten.entries if both.entries[layer] == ten.entries[layer]}
    others = set(space.layers(10)) - set(space.layers(7))
    assert others <= same and len(same) < len(ten.entries), "what this space has was measured again"


def test_an_error_that_is_accepted_is_exact_enough(
    fill: Fill, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, no_measuring: Callable[[], None]
) -> None:
    inexact(monkeypatch, [0.2])
    table = fill(accepted=0.2)
    assert table.calibration is not None and table.calibration.error.mean_error == 0.2
    assert "again" not in caplog.text
    no_measuring()
    assert fill(accepted=0.2) == table


def test_a_calibration_on_other_sizes_is_made_anew(
    fill: Fill, tmp_path: Path, no_measuring: Callable[[], None]
) -> None:
    path = tmp_path / "table.yaml"
    both = fill(path=path, sizes=(48, 32))
    assert both.calibration is not None and both.calibration.networks.resolutions == (32, 48)
    small = fill(path=path, sizes=(32,))
    assert small.entries == both.entries
    assert small.calibration is not None and small.calibration.networks.resolutions == (32,)
    again = fill(path=path, sizes=(32, 48))
    no_measuring()
    assert fill(path=path, sizes=(48, 32)) == again


def test_an_inexact_table_of_before_is_first_calibrated_anew(
    fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    inexact(monkeypatch, [0.4, 0.4])
    before = fill()
    assert before.calibration is not None and before.calibration.error.mean_error == 0.4
    monkeypatch.setattr(building, "sections", None)
    table = fill()
    assert table.calibration is not None and table.calibration.error.mean_error == 0.0
    assert table.entries == before.entries


def test_a_space_without_some_choices_begins_with_the_layers_of_the_whole_one(
    fill: Fill, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, left = fill(), space.without("kernel5,expand2")
    monkeypatch.setattr(building, "sections", lambda todo, *_, **__: pytest.fail("layers!") if todo else iter(()))
    table = table_for(left, 10, Conditions("torch"))
    assert set(table.entries) == left.layers(10) < set(whole.entries)
    assert {layer: whole.entries[layer] for layer in table.entries} == table.entries
    assert table.calibration is not None
    assert table.calibration.networks.space == "least without kernel5, expand2"
    assert LatencyTable.load(cache_path(left, Conditions("torch"))) == table
    assert LatencyTable.load(cache_path(space, Conditions("torch"))) == whole
