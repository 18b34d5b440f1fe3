"""Networks that a study evaluates beside its sampler's proposals: reference networks, the fastest, new neighbours."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

import optuna
from optuna.trial import TrialState

from mnas.io.size import in_order, shown
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.narrowing import adapted, called
from mnas.space.space import SearchSpace
from mnas.study.storage import choices_of

MUTATIONS = 400
"""Random neighbours that are tried before a space is enumerated."""
ENUMERABLE = 10_000
"""Largest space that is enumerated."""

Allows = Callable[[Architecture], bool]
"""Whether a network may be evaluated."""


def reference_networks(space: SearchSpace) -> dict[Architecture, str]:
    """The zoo's networks of the space with their names: full width, each resolution, largest first."""
    networks: dict[Architecture, str] = {}
    ordered = in_order(space.resolutions)
    for resolution in reversed(ordered):
        for name in sorted(zoo.names(), key=lambda name: name != space.reference):
            arch, had = adapted(zoo.get(name, resolution=resolution, channels=space.channels), space.file)
            arch = replace(arch, bn_eps=space.file.bn_eps)  # that of the weights from which networks start
            if arch in space:
                sized = name if resolution == ordered[-1] else f"{name}/{shown(resolution)}"
                networks.setdefault(arch, called(sized, had))
    return networks


def enqueue(study: optuna.Study, space: SearchSpace, networks: Iterable[Architecture]) -> None:
    """Have the study propose these networks next, except those that it has enqueued or begun already."""
    begun = (TrialState.WAITING, TrialState.RUNNING)
    waiting = [choices_of(frozen) for frozen in study.get_trials(deepcopy=False, states=begun)]
    for arch in networks:
        choices = dict(space.encode(arch))
        if choices not in waiting:
            waiting.append(choices)
            study.enqueue_trial(choices)


def new_network(
    space: SearchSpace, parents: Sequence[Architecture], evaluated: Collection[Architecture], allows: Allows,
    rng: random.Random, is_late: Callable[[], bool] = lambda: False,
) -> Architecture | None:  # fmt: skip
    """A network near `parents` that is not `evaluated` and may be; None if none is found before it `is_late`."""
    if len(evaluated) >= space.size:
        return None
    for attempt in range(MUTATIONS):
        if is_late():
            return None
        arch = space.mutate(rng.choice(parents), rng, rate=min(0.5, 0.05 + attempt / MUTATIONS))
        if arch not in evaluated and allows(arch):
            return arch
    if space.size > ENUMERABLE:
        return None
    return next((arch for arch in space.enumerate() if arch not in evaluated and allows(arch)), None)
