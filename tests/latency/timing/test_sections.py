from __future__ import annotations

import gc
import itertools
import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from mnas.latency.timing import sections as timing
from mnas.latency.timing.rounds import Inference
from mnas.latency.timing.sections import Section, reason, sections

KEYS = [f"layer{i}" for i in range(50)]
TRUE_MS = {key: 0.1 + 0.07 * i for i, key in enumerate(KEYS)}


class World:
    """Runs on a clock of its own, on a machine whose slowness changes with that clock."""

    def __init__(self, slowness: Callable[[float], float] = lambda now: 1.0) -> None:
        self.now, self.slowness = 0.0, slowness
        self.ran: list[str] = []
        self.asked: list[list[str]] = []

    def run(self, key: str, placed: float = 1.0) -> Inference:
        def run() -> None:
            self.ran.append(key)
            self.now += TRUE_MS[key] * placed * self.slowness(self.now)

        return run

    def prepare(self, keys: Sequence[str]) -> Mapping[str, Inference | str]:
        self.asked.append(list(keys))
        return {key: self.run(key) for key in keys}

    def alike(self, keys: Sequence[str]) -> Mapping[str, Inference | str]:
        """Layers that take as long as each other."""
        return dict.fromkeys(keys, self.run("layer0"))

    def timer(self, run: Inference, repeats: int) -> float:
        assert repeats == 1, "a second run in a row would find its weights in the cache"
        start = self.now
        run()
        self.ran[-1] += " timed"
        return self.now - start

    def timed(
        self, todo: Sequence[str] = KEYS, timed_ms: Mapping[str, float] | None = None, rounds: int = 9, seed: int = 0,
        prepare: Callable[[Sequence[str]], Mapping[str, Inference | str]] | None = None,
        frame_of: Callable[[str], str | None] = lambda key: None,
    ) -> list[Section[str]]:  # fmt: skip
        clock = SimpleNamespace(perf_counter=lambda: self.now / 1000)
        with patch.object(timing, "time", clock):
            return list(sections(
                todo, prepare or self.prepare, rounds=rounds, rng=random.Random(seed), timer=self.timer,
                timed_ms=timed_ms or {}, frame_of=frame_of,
            ))  # fmt: skip


def together(found: Sequence[Section[str]]) -> dict[str, float]:
    return {key: ms for part in found for key, ms in part.ms.items()}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections of 20, then of 10 layers."""
    for name, value in {"GROUP": 4, "MAX_SECTION": 10, "LINKS": 6}.items():
        monkeypatch.setattr(timing, name, value)


# --- every layer once -------------------------------------------------------------------------------------------


def test_every_layer_is_timed_once_in_random_order(small: None) -> None:
    world = World()
    found = world.timed()
    assert [len(part.ms) for part in found] == [20, 10, 10, 10]
    assert sorted(key for part in found for key in part.ms) == sorted(KEYS)
    assert together(found) == pytest.approx(TRUE_MS)
    assert not any(part.failed for part in found)
    assert [len(keys) for keys in world.asked] == [20] * 4 + [10 + 6] * 12, "each section is prepared four times"
    assert list(together(found)) not in (KEYS, list(together(world.timed(seed=1))))
    assert list(together(World().timed())) == list(together(found))


def test_nothing_to_time() -> None:
    assert World().timed([]) == []


def test_small_groups_are_drawn_over_and_over(small: None) -> None:
    world = World()
    world.timed(KEYS[:20], rounds=36)
    part = len(world.ran) // timing.COPIES
    ran = [run for copy in range(timing.COPIES) for run in world.ran[part * copy + 20 : part * (copy + 1)]]
    assert len(ran) == 36 / timing.PER_DRAW * 20 * (1 + timing.PER_DRAW)
    draws = [ran[i : i + 16] for i in range(0, len(ran), 16)]  # 4 untimed, then 3 times 4
    for draw in draws:
        group = draw[:4]
        assert not any(key.endswith("timed") for key in group)
        for turn in (draw[4:8], draw[8:12], draw[12:]):
            assert sorted(turn) == sorted(f"{key} timed" for key in group)
    groups = {frozenset(draw[:4]) for draw in draws}
    assert len(groups) > 0.9 * len(draws)
    assert all(sum(f"{key} timed" == one for one in ran) == 36 for key in KEYS[:20])


@pytest.mark.parametrize(("rounds", "samples"), [(1, 12), (12, 12), (16, 12), (30, 24), (36, 36), (60, 60)])
def test_rounds(rounds: int, samples: int) -> None:
    world = World()
    world.timed(KEYS[:3], rounds=rounds)
    assert world.ran.count("layer0 timed") == samples


def test_each_copy_of_a_layer_counts() -> None:
    """One of layer 7's lies in a worse place; that the machine is slower with each copy changes nothing."""
    world, copies = World(), itertools.count()

    def prepare(keys: Sequence[str]) -> Mapping[str, Inference | str]:
        copy = next(copies)
        world.slowness = lambda now: 1.5**copy
        return {key: world.run(key, 1.3 if key == "layer7" and copy == 1 else 1.0) for key in keys}

    found = together(world.timed(prepare=prepare, rounds=60))
    assert next(copies) == timing.COPIES
    slower = {key: ms / TRUE_MS[key] for key, ms in found.items()}
    assert slower["layer7"] / slower["layer6"] == pytest.approx(1 + 0.3 / timing.COPIES, rel=1e-3)
    assert len({round(ratio, 3) for key, ratio in slower.items() if key != "layer7"}) == 1


@pytest.mark.parametrize(("slowness", "times"), [(0.8, 4), (1.2, 2), (1.8, 2), (2.3, 1), (1000.0, 1)])
def test_the_longer_it_takes_to_prepare_the_less_often(slowness: float, times: int) -> None:
    world = World()

    def prepare(keys: Sequence[str]) -> Mapping[str, Inference | str]:
        world.now += sum(slowness * 12 * TRUE_MS[key] for key in keys)  # each is timed 9 times, and runs 3 times more
        return world.prepare(keys)

    found = world.timed(KEYS[:20], rounds=36, prepare=prepare)
    assert together(found) == pytest.approx({key: TRUE_MS[key] for key in KEYS[:20]})
    assert list(map(sorted, world.asked)) == [sorted(KEYS[:20])] * times
    assert len(set(map(tuple, world.asked))) == times, "in another order each time"
    assert all(world.ran.count(f"{key} timed") == 36 for key in KEYS[:20])


@pytest.mark.parametrize("slowness", [2.5, 1000.0])
def test_what_takes_long_to_prepare_is_prepared_once(small: None, slowness: float) -> None:
    """As a link of later sections too."""
    world = World()

    def prepare(keys: Sequence[str]) -> Mapping[str, Inference | str]:
        world.now += sum(slowness * 12 * TRUE_MS[key] for key in keys)  # each is timed 9 times, and runs 3 times more
        return world.prepare(keys)

    found = world.timed(rounds=36, prepare=prepare)
    assert together(found) == pytest.approx(TRUE_MS)
    assert len(found) > 2
    assert sorted(itertools.chain(*world.asked)) == sorted(KEYS)
    timed = [world.ran.count(f"{key} timed") for key in KEYS]
    assert min(timed) == 36, "as often as four copies"
    assert sum(timed) == 36 * (len(KEYS) + (len(found) - 1) * timing.LINKS), "and the links"


def test_a_kept_link_that_fails_later_ends_nothing(small: None) -> None:
    world = World()

    first = list[str]()

    def failing(keys: Sequence[str]) -> Mapping[str, Inference | str]:
        world.now += 10_000 * len(keys)
        first.extend([] if first else keys)

        def out_of_memory(key: str, run: Inference) -> Inference:
            def limited() -> None:
                if key in first and len(world.asked) > 1:
                    raise MemoryError
                run()

            return limited

        return {key: out_of_memory(key, run) for key, run in world.prepare(keys).items()}  # type: ignore[arg-type]

    found = world.timed(rounds=30, prepare=failing)
    assert together(found) == pytest.approx(TRUE_MS)
    assert not any(part.failed for part in found)


def test_on_a_slow_device_sections_are_small(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECTION_S", 0.0)
    world = World()
    assert [len(part.ms) for part in world.timed()] == [20] + [2] * 15
    assert [len(keys) for keys in world.asked] == [20] * 4 + [2 + 2] * 60, "no more links than layers"
    monkeypatch.setattr(timing, "MAX_SECTION", 1000)
    monkeypatch.setattr(timing, "SECTION_S", 3600.0)
    assert [len(part.ms) for part in World().timed()] == [20, 30]


@pytest.mark.parametrize("section_s", [20.0, 30.0, 60.0])
def test_a_section_takes_its_time_with_its_links(
    small: None, monkeypatch: pytest.MonkeyPatch, section_s: float
) -> None:
    world, ends = World(), []
    for name, value in {"SECTION_S": section_s, "MAX_SECTION": 600, "LINKS": 12}.items():
        monkeypatch.setattr(timing, name, value)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: world.now))
    todo, before = KEYS * 8, 0.0
    for _ in sections(
        [f"{key} {i}" for i, key in enumerate(todo)], world.alike, rounds=9, rng=random.Random(0), timer=world.timer,
        timed_ms={},
    ):  # fmt: skip
        ends.append(world.now - before)
        before = world.now
    assert len(ends) > 3
    assert ends[1:-1] == pytest.approx([section_s] * len(ends[1:-1]), rel=0.3)


# --- layers in frames -------------------------------------------------------------------------------------------

FRAMES = {key: KEYS[i % 2] for i, key in enumerate(KEYS) if i > 2}
BEYOND = {key: TRUE_MS[key] - TRUE_MS[frame] for key, frame in FRAMES.items()}


@pytest.mark.parametrize("known", [0, 12])
def test_what_a_frame_takes_is_taken_off(small: None, known: int) -> None:
    """Also where the machine is slower than when others were timed, and of a layer without a frame nothing."""
    world, layers = World(lambda now: 1.7), list(BEYOND)
    found = world.timed([*layers[known:], "layer2"], {key: BEYOND[key] for key in layers[:known]}, frame_of=FRAMES.get)
    slower = 1.0 if known else 1.7
    expected = {key: BEYOND[key] * slower for key in layers[known:]} | {"layer2": TRUE_MS["layer2"] * slower}
    assert together(found) == pytest.approx(expected)
    assert all(len(set(keys)) == len(keys) for keys in world.asked), "a frame is timed once for all that it is around"


def test_frames_of_what_takes_long_to_prepare(small: None) -> None:
    world = World()

    def prepare(keys: Sequence[str]) -> Mapping[str, Inference | str]:
        world.now += 1e5 * len(keys)
        return world.prepare(keys)

    assert together(world.timed(list(BEYOND), prepare=prepare, frame_of=FRAMES.get)) == pytest.approx(BEYOND)
    assert sorted(itertools.chain(*world.asked)) == sorted(KEYS[:2] + list(BEYOND)), "each is prepared once"


def test_slow_layers_whose_frames_fail_are_no_links(small: None) -> None:
    world = World()

    def prepare(keys: Sequence[str]) -> Mapping[str, Inference | str]:
        world.now += 1e5 * len(keys)
        return {key: "no kernel" if key == "layer0" else run for key, run in world.prepare(keys).items()}

    found = world.timed(list(BEYOND), prepare=prepare, frame_of=FRAMES.get)
    assert together(found) == pytest.approx({key: ms for key, ms in BEYOND.items() if FRAMES[key] != "layer0"})
    why = {key: text for part in found for key, text in part.failed.items()}
    assert why == {key: "its frame: no kernel" for key in BEYOND if FRAMES[key] == "layer0"}


def test_what_takes_hardly_more_than_its_frame_is_no_link() -> None:
    """Noise alone would tell the machine's speed."""
    known = {"layer2": TRUE_MS["layer2"]} | {f"layer{i}": timing.LEAST_MS for i in range(3, 9)}
    assert together(World().timed(["layer20"], known)) == pytest.approx({"layer20": TRUE_MS["layer20"]})


def test_a_layer_whose_frame_fails_has_failed(small: None) -> None:
    world = World()
    found = world.timed(KEYS[20:], prepare=Fails(world), frame_of={"layer25": "layer3", "layer26": "layer11"}.get)
    assert {key: why for part in found for key, why in part.failed.items()} == {
        "layer25": "its frame: no kernel for this", "layer26": "its frame: " + "x" * 200
    }  # fmt: skip
    assert together(found).keys() == set(KEYS[20:]) - {"layer25", "layer26"}


def test_a_layer_that_noise_makes_quicker_than_its_frame_takes_hardly_anything() -> None:
    assert together(World().timed(["layer1"], frame_of=lambda key: "layer2")) == {"layer1": timing.LEAST_MS}


# --- a machine whose speed changes ------------------------------------------------------------------------------


def test_a_machine_that_slows_down_within_a_section_changes_no_ratio() -> None:
    world = World(lambda now: 1.0 + now / 1500)
    found = together(world.timed(rounds=30))
    assert world.slowness(world.now) > 2.5
    relative = [found[key] / ms for key, ms in TRUE_MS.items()]
    assert max(relative) / min(relative) < 1.06


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
def test_later_sections_are_at_the_speed_of_the_first(small: None, slower: float) -> None:
    world = World()
    found = []
    for part in sections(
        KEYS, world.prepare, rounds=9, rng=random.Random(0), timer=world.timer, timed_ms={}
    ):  # fmt: skip
        found.append(part)
        factor = slower ** len(found)
        world.slowness = lambda now, factor=factor: factor
    assert len(found) == 4
    assert together(found) == pytest.approx(TRUE_MS)


def test_a_build_that_goes_on_is_at_the_speed_of_what_is_known() -> None:
    known = {key: TRUE_MS[key] for key in KEYS[:20]}
    world = World(lambda now: 1.7)
    found = together(world.timed(KEYS[20:], known))
    assert found == pytest.approx({key: TRUE_MS[key] for key in KEYS[20:]})
    assert sorted(world.asked[0]) == sorted(KEYS), "those that are known link the two, and are not given back"
    alone = together(World(lambda now: 1.7).timed(KEYS[20:]))
    assert alone == pytest.approx({key: 1.7 * TRUE_MS[key] for key in KEYS[20:]})


def test_a_wrong_link_does_not_decide() -> None:
    known = {key: TRUE_MS[key] for key in KEYS[:9]}
    known["layer3"] *= 10
    assert together(World().timed(KEYS[9:], known)) == pytest.approx({key: TRUE_MS[key] for key in KEYS[9:]})


# --- failures ---------------------------------------------------------------------------------------------------


class Fails:
    """Prepares all, but for layers 3 and 7, which cannot be prepared, and 11 and 13, whose run raises."""

    REASONS = {
        "layer3": ValueError("no kernel\n  for this"), "layer7": NotImplementedError(),
        "layer11": RuntimeError("x" * 5000), "layer13": MemoryError("no room"),
    }  # fmt: skip

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, keys: Sequence[str]) -> Mapping[str, Inference | str]:
        runs: dict[str, Inference | str] = {**self.world.prepare(keys)}
        for key, error in self.REASONS.items():
            if key in runs:
                runs[key] = reason(error) if key in ("layer3", "layer7") else self.raising(error)
        return runs

    def raising(self, error: Exception) -> Inference:
        def run() -> None:
            raise type(error)(*error.args)

        return run


def test_failures_are_recorded_and_the_rest_goes_on(small: None) -> None:
    world = World()
    found = world.timed(prepare=Fails(world))
    why = {key: text for part in found for key, text in part.failed.items()}
    assert why == {
        "layer3": "no kernel for this", "layer7": "NotImplementedError", "layer11": "x" * 200, "layer13": "no room"
    }  # fmt: skip
    assert together(found) == pytest.approx({key: ms for key, ms in TRUE_MS.items() if key not in why})
    assert sum(len(part.ms) + len(part.failed) for part in found) == len(KEYS)


def test_a_link_that_fails_now_is_no_failed_layer() -> None:
    world, known = World(), {key: TRUE_MS[key] for key in KEYS[:20]}
    found = world.timed(KEYS[20:], known, prepare=Fails(world))
    assert {"layer3", "layer11"} <= set(world.asked[0])
    assert not any(part.failed for part in found)
    assert together(found) == pytest.approx({key: TRUE_MS[key] for key in KEYS[20:]})


def test_a_section_where_all_fail() -> None:
    world = World()
    found = world.timed(["layer3", "layer7"], prepare=Fails(world))
    assert [(part.ms, len(part.failed)) for part in found] == [({}, 2)]


def test_a_failure_keeps_no_layer_alive() -> None:
    """Not even until the next garbage collection: a section's models may take all the memory that there is."""
    world, alive = World(), weakref.WeakSet[Any]()

    def prepare(keys: Sequence[str]) -> Mapping[str, Inference | str]:
        runs = Fails(world)(keys)
        alive.update(run for run in runs.values() if not isinstance(run, str))
        return runs

    gc.disable()
    try:
        world.timed(prepare=prepare)
        assert not list(alive)
    finally:
        gc.enable()


def test_an_interrupt_is_no_failure(small: None) -> None:
    world, counted = World(), itertools.count()

    def interrupt() -> None:
        if next(counted) > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.timed(prepare=lambda keys: dict.fromkeys(keys, interrupt))
