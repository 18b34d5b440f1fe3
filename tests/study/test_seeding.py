"""Networks beside the sampler's proposals: the zoo's, and neighbours of the best."""

from __future__ import annotations

import random

import optuna
import pytest
from optuna.trial import TrialState
from small_study import milliseconds, tiny_space

from mnas.space.space import load_space
from mnas.study.seeding import enqueue, new_network, reference_networks
from mnas.study.storage import choices_of


def test_reference_networks_lie_in_the_space_largest_first() -> None:
    space = load_space("v3_small").with_resolutions((32, 64))
    references = reference_networks(space)
    assert list(references.values()) == ["mobilenet_v3_small", "mobilenet_v3_small/32"]
    assert [arch.resolution for arch in references] == [64, 32]
    assert all(arch in space for arch in references)


def test_a_network_is_enqueued_once() -> None:
    space, study = tiny_space(), optuna.create_study()
    archs = [space.sample(random.Random(seed)) for seed in (0, 1)]
    enqueue(study, space, archs[:1])
    enqueue(study, space, [*archs, archs[1]])
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert [space.decode(choices_of(frozen)) for frozen in waiting] == archs


def test_a_new_network_is_near_its_parents_and_allowed() -> None:
    space, rng = tiny_space(), random.Random(0)
    parent = space.argmin(milliseconds)
    fast = [arch for arch in space.enumerate() if milliseconds(arch) <= 0.25]
    evaluated: set[object] = set()
    for _ in fast:
        arch = new_network(space, [parent], evaluated, fast.__contains__, rng)  # type: ignore[arg-type]
        assert arch is not None
        assert arch not in evaluated
        evaluated.add(arch)
    assert evaluated == set(fast)
    assert new_network(space, [parent], evaluated, fast.__contains__, rng) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("networks", ["all evaluated", "out of time"])
def test_no_new_network(networks: str) -> None:
    space, late = tiny_space(), networks == "out of time"
    evaluated = set() if late else set(space.enumerate())
    parents = [next(space.enumerate())]
    assert new_network(space, parents, evaluated, lambda arch: True, random.Random(0), lambda: late) is None
