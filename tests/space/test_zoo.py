"""The reference networks, and how they scale."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnas.errors import BadInput
from mnas.space import zoo
from mnas.space.architecture import Block, Head
from mnas.space.cost import cost


def test_names() -> None:
    assert zoo.names() == [
        "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small",
        "mnasnet_a1", "mnasnet_b1", "mnasnet_small",
    ]  # fmt: skip


def test_v3_large_is_the_papers() -> None:
    arch = zoo.get("mobilenet_v3_large")
    assert arch.stem == Block("conv", 3, 2, 16, "hard_swish")
    assert arch.head == Head(960, 1280, "hard_swish")
    assert (arch.resolution, arch.gate, arch.bn_eps) == (224, "hard_sigmoid", 1e-3)
    assert [len(stage) for stage in arch.stages] == [1, 2, 3, 4, 2, 3]
    hidden = [0, 64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960]
    assert [block.hidden for block in arch.blocks] == hidden
    assert [block.channels for block in arch.blocks] == [16, 24, 24] + [40] * 3 + [80] * 4 + [112] * 2 + [160] * 3
    assert [block.se for block in arch.blocks] == [0, 0, 0, 24, 32, 32, 0, 0, 0, 0, 120, 168, 168, 240, 240]
    assert [block.kernel for block in arch.blocks] == [3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5]
    assert [block.stride for block in arch.blocks] == [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1]
    assert [block.activation for block in arch.blocks] == ["relu"] * 6 + ["hard_swish"] * 9
    assert [int(block.skip == "identity") for block in arch.blocks] == [1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1, 1]


def test_squeezed_channels_are_of_the_input_in_mnasnet() -> None:
    arch = zoo.get("mnasnet_a1")
    assert [block.se for block in arch.stages[2]] == [6, 10, 10]
    assert arch.gate == "sigmoid"
    assert arch.bn_eps == 1e-5


def test_v1_is_linear_nowhere() -> None:
    arch = zoo.get("mobilenet_v1")
    assert all(block.operator == "sepconv" and block.output_activation == "relu6" for block in arch.blocks)
    assert all(block.skip == "none" for block in arch.blocks)
    assert [layer.operator for layer in arch.layers()][-2:] == ["pool", "linear"]


@pytest.mark.parametrize(("name", "width", "stem", "last", "head"), [
    ("mobilenet_v1", 0.25, 8, 256, Head(0, 0, "none")),
    ("mobilenet_v2", 0.5, 16, 160, Head(1280, 0, "relu6")),  # the head does not shrink
    ("mobilenet_v2", 1.4, 48, 448, Head(1792, 0, "relu6")),
    ("mobilenet_v3_small", 0.75, 16, 72, Head(432, 1024, "hard_swish")),
    ("mobilenet_v3_large", 0.75, 16, 120, Head(720, 1280, "hard_swish")),
    ("mnasnet_b1", 0.5, 16, 160, Head(1280, 0, "relu")),
])  # fmt: skip
def test_width(name: str, width: float, stem: int, last: int, head: Head) -> None:
    arch = zoo.get(name, width)
    assert (arch.stem.channels, arch.blocks[-1].channels, arch.head) == (stem, last, head)
    assert all(block.channels % 8 == 0 and block.hidden % 8 == 0 for block in arch.blocks)


@pytest.mark.parametrize("name", zoo.names())
def test_resolution_changes_nothing_else(name: str) -> None:
    small, large = zoo.get(name, resolution=96), zoo.get(name, resolution=192)
    assert small.stages == large.stages
    assert small.head == large.head
    assert small != large
    assert cost(small).params == cost(large).params
    assert small.layers()[0].size == 96
    assert large.layers()[0].size == 192


@pytest.mark.parametrize("width", [0.05, 0.1, 0.35, 3.0, 10])
@pytest.mark.parametrize("name", zoo.names())
def test_every_width_gives_a_network(name: str, width: float) -> None:
    assert cost(zoo.get(name, width, 32), 10).madds > 0


def test_an_unknown_name_shows_the_nearest() -> None:
    with pytest.raises(BadInput) as caught:
        zoo.get("mobilenet_v3_larg")
    assert "'mobilenet_v3_larg'" in str(caught.value) and "'mobilenet_v3_large'" in str(caught.value)
    assert all(name in str(caught.value) for name in zoo.names())


@pytest.mark.parametrize("width", [0, -1, 10.5, float("nan"), float("inf")])
def test_a_bad_width(width: float) -> None:
    with pytest.raises(BadInput, match=f"width {width}"):
        zoo.get("mobilenet_v2", width)


@pytest.mark.parametrize("resolution", [0, -224, 7])
def test_a_bad_resolution(resolution: int) -> None:
    with pytest.raises(BadInput, match=f"resolution {resolution}.* 8 "):
        zoo.get("mobilenet_v2", 1.0, resolution)


def test_load_architecture(tmp_path: Path) -> None:
    assert zoo.load_architecture("mobilenet_v2") == zoo.get("mobilenet_v2")
    assert zoo.load_architecture("mobilenet_v3_large@0.75", 160) == zoo.get("mobilenet_v3_large", 0.75, 160)
    arch = zoo.get("mobilenet_v2", 0.5, 96)
    path = tmp_path / "mine.yaml"
    path.write_text(arch.to_yaml())
    assert zoo.load_architecture(path) == zoo.load_architecture(str(path), 224) == arch


@pytest.mark.parametrize(("text", "message"), [
    ("mobilenet_v2@", "NAME@WIDTH"),
    ("mobilenet_v2@wide", "NAME@WIDTH"),
    ("mobilenet_v2@0.5@1", "NAME@WIDTH"),
    ("mobilenet_v2@0", "width 0.0"),
    ("mobilenet@0.5", "'mobilenet'"),
    ("", "''"),
    ("none.yaml", "none.yaml"),
    ("./mobilenet_v2", "mobilenet_v2: "),
])  # fmt: skip
def test_load_architecture_refuses(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        zoo.load_architecture(text)
    assert message in str(caught.value)


def test_rectangles_by_name() -> None:
    name = zoo.scaled_name("mobilenet_v3_large", 0.75, (96, 160))
    assert name == "mobilenet_v3_large@0.75:96x160"
    assert zoo.load_architecture(name) == zoo.get("mobilenet_v3_large", 0.75, (96, 160))
    assert zoo.load_architecture("mobilenet_v2", (96, 160)).resolution == (96, 160)
    assert zoo.load_architecture("mobilenet_v2:96x96").resolution == 96
    for wrong in ("mobilenet_v2:96x", "mobilenet_v2:96x4", "mobilenet_v2@x:96x160", "mobilenet_v2:96x160x3"):
        with pytest.raises(BadInput, match="NAME@WIDTH:PIXELS"):
            zoo.load_architecture(wrong)
