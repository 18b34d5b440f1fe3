"""Every way through a walk that asks for choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mnas.space.choices import (
    Choose,
    Option,
)


def paths(walk: Callable[[Choose], Any]) -> Iterator[Any]:
    """The results of `walk` over every combination of answers to the choices it asks for."""
    prefix: list[int] = []
    while True:
        taken: list[tuple[int, int]] = []

        def choose(name: str, options: list[Option], prefix: list[int] = prefix, taken: Any = taken) -> Option:
            index = prefix[len(taken)] if len(taken) < len(prefix) else 0
            taken.append((index, len(options)))
            return options[index]

        yield walk(choose)
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        prefix = [index for index, _ in taken]
        prefix[-1] += 1


def pick(choose: Choose, name: str, suffix: str, options: list[Option]) -> Option:
    """Ask only where there is a choice."""
    return options[0] if len(options) == 1 else choose(name + suffix, options)


def plain_name(name: str) -> str:
    """A choice's name without the options that are left of it."""
    return name.partition("[")[0]
