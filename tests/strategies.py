"""Any architecture, for hypothesis: small networks that no search space describes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from mnas.space.architecture import Architecture, Block, Head
from mnas.space.layer import Activation, Gate, Operator, Skip

ACTIVATIONS: list[Activation] = ["none", "relu", "relu6", "hard_swish"]
OPERATORS: list[Operator] = ["conv", "sepconv", "mbconv"]
GATES: list[Gate] = ["sigmoid", "hard_sigmoid"]
SKIPS: list[Skip] = ["none", "identity", "pool"]


@st.composite
def blocks(draw: st.DrawFn, in_channels: int) -> Block:
    """Any block, canonical or not; equal channels are likely, so that identities and expansions by 1 appear."""
    channels = st.just(in_channels) | st.integers(1, 20)
    operator = draw(st.sampled_from(OPERATORS))
    return Block(
        operator, draw(st.sampled_from([1, 3, 5, 7])), draw(st.sampled_from([1, 2])), draw(channels),
        draw(st.sampled_from(ACTIVATIONS)), hidden=draw(channels), se=draw(st.integers(0, 6)),
        skip=draw(st.sampled_from(SKIPS)), output_activation=draw(st.sampled_from(ACTIVATIONS)),
    )  # fmt: skip


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Small hand-made networks that no search space describes."""
    activation = st.sampled_from(ACTIVATIONS)
    stem = replace(draw(blocks(3)), operator="conv")
    channels, stages = stem.channels, []
    for _ in range(draw(st.integers(1, 3))):
        stage = []
        for _ in range(draw(st.integers(1, 3))):
            stage.append(draw(blocks(channels)))
            channels = stage[-1].channels
        stages.append(tuple(stage))
    head = Head(draw(st.integers(0, 12)), draw(st.integers(0, 12)), draw(activation))
    gate = draw(st.sampled_from(GATES))
    sides = st.integers(8, 35)
    size = draw(sides | st.tuples(sides, sides))
    return Architecture(size, stem, tuple(stages), head, gate, draw(st.floats(1e-6, 1e-2)))
