"""The block diagram of a network: a row a layer, as wide as its channels, with its share of the latency."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from mnas.io.size import shown
from mnas.report.svg import label, picture, tag
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs
from mnas.space.layer import HEADS, Layer

WIDTH, ROW, TOP = 430, 25, 24
BOX, LEAST, MOST = 46, 96, 176
"""Where the boxes begin, and their least and largest width."""
LETTER = 6.8
"""Width of a letter in a box, rather too much."""
TEXT, SHARES, BAR = 228, 352, 42
"""Where the channels and the shares stand, and the length of the longest bar."""
SHORT = {"conv": "conv", "sepconv": "sep", "mbconv": "MB", "pool": "pool", "linear": "linear",
         "lraspp": "LR-ASPP", "deeplabv3": "DeepLabv3", "ssdlite": "SSDLite"}  # fmt: skip
ACTIVATIONS = {"none": "", "relu": "re", "relu6": "r6", "hard_swish": "hs"}


def widest(archs: Sequence[Architecture], outputs: Outputs) -> int:
    """The most channels of all these networks: the scale of their diagrams."""
    return max(_channels(layer) for arch in archs for layer in arch.layers(outputs))


def block_diagram(
    name: str, arch: Architecture, outputs: Outputs, scale: int, shares: Sequence[float] | None = None
) -> Markup:
    """The layers from image to classes, or to a head's outputs; `scale` is the number of channels of the widest box."""
    layers, stages = arch.layers(outputs), _stage_ends(arch)
    parts = [label(2, 14, "size", class_="tick"), label(BOX, 14, "layer", class_="tick"),
             label(TEXT, 14, "channels", class_="tick")]  # fmt: skip
    if shares is not None:
        parts.append(label(SHARES, 14, "latency", class_="tick"))
    most = max(shares) if shares else 1.0
    for i, layer in enumerate(layers):
        y = TOP + i * ROW
        if i in stages:
            parts.append(tag("path", d=f"M0 {y - 1.5}H{WIDTH}", class_="grid"))
        parts += _row(layer, y, scale)
        if shares is not None:
            part = shares[i]
            digits = 1 if part < 0.0995 else 0
            bar = tag("rect", x=SHARES, y=y + 5, width=max(1.0, BAR * part / most), height=ROW - 11, class_="share")
            parts += [bar, label(WIDTH - 1, y + 16, f"{part:.{digits}%}", "end", "tick")]
    last = "classifier" if isinstance(outputs, int) else "head"
    said = f"{name}: {len(layers)} layers at {shown(arch.resolution)} px, from stem to {last}; listed below"
    return picture(WIDTH, TOP + len(layers) * ROW + 4, said, parts, "blocks")


def layer_words(layer: Layer) -> str:
    """A layer in words, such as 'mbconv 5x5, stride 2, 24 to 96 to 40 channels, squeeze-and-excitation'."""
    if layer.operator in HEADS:
        maps = [*([layer.low_channels] if layer.low_channels else []), layer.in_channels]
        return f"{SHORT[layer.operator]}, {' and '.join(map(str, maps))} channels to {layer.out_channels} classes"
    through = [layer.in_channels, *([layer.hidden] if layer.hidden else []), layer.out_channels]
    parts = [f"{layer.operator} {layer.kernel}x{layer.kernel}" if layer.operator != "pool" else "global average pool"]
    if layer.stride > 1:
        parts.append(f"stride {layer.stride}")
    if layer.dilation > 1:
        parts.append(f"dilation {layer.dilation}")
    if layer.operator != "pool":
        parts.append(" to ".join(map(str, through)) + (" channels" if layer.operator != "linear" else ""))
    if layer.se:
        parts.append("squeeze-and-excitation")
    if layer.activation != "none":
        parts.append(layer.activation.replace("_", "-"))
    if layer.skip != "none":
        parts.append("shortcut")
    return ", ".join(parts)


def _row(layer: Layer, y: float, scale: int) -> list[Markup]:
    least = max(LEAST, 14 + LETTER * len(_name(layer)))
    width = least + (MOST - least) * min(1.0, (_channels(layer) / scale) ** 0.5)
    kind = layer.operator if layer.operator in ("pool", "linear") else f"kernel{min(layer.kernel, 7)}"
    kind = "linear" if layer.operator in HEADS else kind
    words = layer_words(layer)
    box = tag("rect", tag("title", words), x=BOX, y=y, width=width, height=ROW - 3, rx=4, class_=f"block {kind}")
    through = [layer.in_channels, *([layer.hidden] if layer.hidden else []), layer.out_channels]
    return [
        label(2, y + 16, shown(layer.size), class_="tick"), box,
        label(BOX + 7, y + 15.5, _name(layer), class_="inside"),
        label(TEXT, y + 16, "" if layer.operator == "pool" else "→".join(map(str, through)), class_="tick"),
    ]  # fmt: skip


def _name(layer: Layer) -> str:
    if layer.operator in HEADS:
        return SHORT[layer.operator]
    kernel = f"{layer.kernel}x{layer.kernel}" if layer.operator not in ("pool", "linear") else ""
    parts = [SHORT[layer.operator], kernel, "↓2" if layer.stride > 1 else "", "SE" if layer.se else "",
             ACTIVATIONS[layer.activation], "+" if layer.skip != "none" else ""]  # fmt: skip
    return " ".join(filter(None, parts))


def _channels(layer: Layer) -> int:
    return max(layer.hidden, layer.out_channels)


def _stage_ends(arch: Architecture) -> set[int]:
    """The rows before which a stage, or the head, begins."""
    ends, at = {1}, 1
    for stage in arch.stages:
        at += len(stage)
        ends.add(at)
    return ends
