"""Source text of a network: the building blocks that it uses and its class."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Sequence

from mnas.export.literals import WIDTH
from mnas.io.size import sides
from mnas.nn import blocks
from mnas.space.architecture import Architecture
from mnas.space.layer import Layer
from mnas.space.taps import body_of, usual_taps

CLASS_NAMES = {"conv": "ConvBNAct", "sepconv": "SepConv", "mbconv": "MBConv"}
DEFINITIONS = (
    "act", "conv", "SqueezeExcite", "PoolSkip", "ConvBNAct", "SepConv", "MBConv", "shortcut", "LinearAct",
)  # fmt: skip


# --- building blocks --------------------------------------------------------------------------------------------


def block_sources(arch: Architecture, layers: Sequence[Layer] | None = None) -> str:
    """The definitions from mnas/nn/blocks.py that `arch` needs, without the options that it does not use.

    `layers`: those of its layers that are used; by default all.
    """
    layers = arch.layers() if layers is None else layers
    sources = {name: _without_unused_options(_source(name), arch, layers) for name in DEFINITIONS}
    needed = {CLASS_NAMES[layer.operator] for layer in layers if layer.operator in CLASS_NAMES}
    if any(layer.operator == "linear" and layer.activation != "none" for layer in layers):
        needed.add("LinearAct")
    queue = list(needed)
    while queue:
        dependencies = _names(sources[queue.pop()]) & sources.keys() - needed
        needed |= dependencies
        queue += dependencies
    return "\n\n\n".join([_activations(layers), *(text for name, text in sources.items() if name in needed)])


def _source(name: str) -> str:
    return inspect.getsource(getattr(blocks, name)).replace("  # fmt: skip", "").rstrip()


def _without_unused_options(text: str, arch: Architecture, layers: Sequence[Layer]) -> str:
    """One definition with the defaults of `arch`, and without pooled shortcuts, SE or activations that it lacks."""
    text = re.sub(r"(eps: float = )[\d.e-]+", rf"\g<1>{_number(arch.bn_eps)}", text)
    text = re.sub(r'(gate: str = )"\w+"', rf'\1"{arch.gate}"', text)
    if not any(layer.skip == "pool" for layer in layers):
        text = text.replace(
            "shortcut(skip, in_channels, out_channels, stride)", 'nn.Identity() if skip == "identity" else None'
        )
    if not any(layer.se for layer in layers):
        text = re.sub(r" *self\.se = .*\n", "", text)
        text = re.sub(r"self\.se\((.*)\)", r"\1", text)
        text = re.sub(r'se: int = 0, gate: str = "\w+", ', "", text)
    if all(layer.output_activation == "none" for layer in layers):
        text = re.sub(r" *self\.act2 = act\(output_activation\)\n", "", text)
        text = text.replace("self.act2(self.bn2(self.conv_pw(out)))", "self.bn2(self.conv_pw(out))")
        text = text.replace('output_activation: str = "none", ', "")
        text = re.sub(r"[;,]? [^.;]*`output_activation`[^.;]*", "", text)  # the docstring's clause about it
    return text


def _number(value: float) -> str:
    scientific = f"{value:.0e}".replace("e-0", "e-")
    return scientific if float(scientific) == value else repr(value)


def _names(text: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _activations(layers: Sequence[Layer]) -> str:
    used: set[str] = {layer.activation for layer in layers} | {layer.output_activation for layer in layers}
    used |= {layer.gate for layer in layers if layer.se}
    rows = [f'"{name}": nn.{module.__name__},' for name, module in blocks.ACTIVATIONS.items() if name in used]
    head = "ACTIVATIONS: dict[str, type[nn.Module]] = {"
    line = f"{head}{' '.join(rows).removesuffix(',')}}}"
    return line if len(line) <= WIDTH else "\n".join([head, *(f"    {row}" for row in rows), "}"])


# --- network ----------------------------------------------------------------------------------------------------


def network_source(arch: Architecture, num_classes: int) -> str:
    """The network's class: one line per block, with the feature map's size in a comment where it changes."""
    layers = arch.layers(num_classes)
    pool = [layer.operator for layer in layers].index("pool")
    last = pool - bool(arch.head.channels)
    stem, rows = layers[0], layers[1:last]
    channels = "in, hidden and out" if any(layer.operator == "mbconv" for layer in rows) else "in and out"
    lines = [
        f"self.stem = {call_source(stem)}{size_comment(stem)}",
        f"# {channels} channels; a comment gives the feature map's size where it changes",
        "self.blocks = nn.Sequential(",
    ]
    for previous, layer in zip([stem, *rows], rows, strict=False):
        lines += row_source(layer, size_comment(layer) if layer.out_size != previous.out_size else "")
    lines.append(")")
    steps = [f"x = self.stem(x)  # {_shape(stem)}", f"x = self.blocks(x)  # {_shape(rows[-1])}"]
    if arch.head.channels:
        lines.append(f"self.conv_head = {call_source(layers[last])}")
        steps.append(f"x = self.conv_head(x)  # {_shape(layers[last])}")
    steps.append(f"x = x.mean((2, 3))  # (b, {layers[pool].out_channels})")
    if arch.head.hidden:
        lines.append(f"self.hidden = {call_source(layers[pool + 1])}")
        steps.append(f"x = self.hidden(x)  # (b, {layers[pool + 1].out_channels})")
    lines.append("self.dropout = nn.Dropout(dropout)")
    lines.append(f"self.classifier = nn.Linear({layers[-1].in_channels}, num_classes)")
    height, width = sides(arch.resolution)
    return "\n".join([
        "class Network(nn.Module):",
        f'    """Maps normalised images (b, {arch.channels}, h, w) to logits (b, num_classes).',
        "",
        f"    Sizes in comments are for images of {height}x{width} pixels.",
        '    """',
        "",
        "    def __init__(self, num_classes: int = len(CLASSES), dropout: float = 0.0):",
        "        super().__init__()",
        *(f"        {line}" for line in lines),
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        *(f"        {step}" for step in steps),
        f"        return self.classifier(self.dropout(x))  # (b, {num_classes})",
    ])  # fmt: skip


def features_source(arch: Architecture) -> str:
    """The class of the backbone: the network's feature maps at several strides, and their description."""
    body, taps = body_of(arch), usual_taps(arch)
    rows = [f'{{"module": "{tap.name}", "num_chs": {tap.channels}, "reduction": {tap.stride}}},' for tap in taps]
    ends_in_head = body[-1].name == "conv_head"
    numbers = [int(tap.name.removeprefix("blocks.")) for tap in taps if tap.name != "conv_head"]
    inside = repr(tuple(numbers)) if len(numbers) != 1 else f"({numbers[0]},)"
    return "\n".join([
        "class Features(nn.Module):",
        '    """The network as a backbone: feature maps at several strides (`reduction`) with `num_chs` channels."""',
        "",
        "    def __init__(self, network: Network):",
        "        super().__init__()",
        "        self.feature_info = [",
        *(f"            {row}" for row in rows),
        "        ]",
        "        self.stem, self.blocks = network.stem, network.blocks",
        *(["        self.conv_head = network.conv_head"] if ends_in_head else []),
        "",
        "    def forward(self, x: Tensor) -> list[Tensor]:",
        "        x = self.stem(x)",
        "        maps = []",
        "        for number, block in enumerate(self.blocks):",
        "            x = block(x)",
        f"            if number in {inside}:",
        "                maps.append(x)",
        f"        return {'[*maps, self.conv_head(x)]' if ends_in_head else 'maps'}",
    ])  # fmt: skip


def call_source(layer: Layer) -> str:
    """The expression that builds one layer; arguments equal to the class's defaults are left out."""
    if layer.operator == "linear":
        shape = f"{layer.in_channels}, {layer.out_channels}"
        return f"nn.Linear({shape})" if layer.activation == "none" else f'LinearAct({shape}, "{layer.activation}")'
    hidden = f"{layer.hidden}, " if layer.operator == "mbconv" else ""
    arguments = [f"{layer.in_channels}, {hidden}{layer.out_channels}, kernel={layer.kernel}"]
    if layer.stride != 1:
        arguments.append(f"stride={layer.stride}")
    arguments.append(f'activation="{layer.activation}"')
    if layer.se:
        arguments.append(f"se={layer.se}")
    if layer.skip != "none":
        arguments.append(f'skip="{layer.skip}"')
    if layer.output_activation != "none":
        arguments.append(f'output_activation="{layer.output_activation}"')
    return f"{CLASS_NAMES[layer.operator]}({', '.join(arguments)})"


def row_source(layer: Layer, comment: str) -> list[str]:
    """The lines of one block in `nn.Sequential(...)`."""
    call = f"    {call_source(layer)},"
    if 8 + len(call + comment) <= WIDTH:
        return [call + comment]
    name, _, arguments = call.removesuffix("),").partition("(")
    wrapped = textwrap.wrap(f"{arguments},", WIDTH - 16)
    return [f"{name}({comment}", *(f"        {line}" for line in wrapped), "    ),"]


def size_comment(layer: Layer) -> str:
    height, width = sides(layer.out_size)
    return f"  # {height}x{width}"


def _shape(layer: Layer) -> str:
    height, width = sides(layer.out_size)
    return f"(b, {layer.out_channels}, {height}, {width})"
