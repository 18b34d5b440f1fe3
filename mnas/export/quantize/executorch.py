"""int8 for ExecuTorch, by XNNPACK's quantizer."""

from __future__ import annotations

import importlib
import json
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnas.export.pte import lowerable, lowered
from mnas.io.silence import silence

with silence(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    xnnpack: Any = importlib.import_module("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    serialize: Any = importlib.import_module("executorch.exir._serialize._program")
    flatbuffer: Any = importlib.import_module("executorch.exir._serialize._flatbuffer")
    xnn_serialize: Any = importlib.import_module("executorch.backends.xnnpack.serialization.xnnpack_graph_serialize")
    pt2e: Any = importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")


def quantised_program(module: nn.Module, images: Tensor, kept: Collection[str] = ()) -> bytes:
    """The content of a .pte file in int8 with float32 input and output, for one image (1, c, h, w).

    Ranges are those of normalised `images` (n, c, h, w). The layers named in `kept` stay in float32.
    """
    quantizer = _Quantizer(kept)
    quantizer.set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
    example = images[:1].contiguous()
    with warnings.catch_warnings(), torch.no_grad(), silence():
        warnings.simplefilter("ignore")  # torch's and torchao's own use of what they deprecated
        prepared = pt2e.prepare_pt2e(torch.export.export(lowerable(module), (example,)).module(), quantizer)
        for image in images:
            prepared(image[None].contiguous())
        quantised = pt2e.convert_pt2e(prepared)
    return lowered(quantised, example)


class _Quantizer(xnnpack.XNNPACKQuantizer):  # type: ignore[misc]
    """XNNPACK's quantizer, which cannot leave a layer out itself (set_module_name takes no None)."""

    # batch norms are folded already, and looking for them takes 2 of 5 s for a layer
    SUPPORTED_PATTERNS = [one for one in xnnpack.XNNPACKQuantizer.SUPPORTED_PATTERNS if "_bn" not in one.name]

    def __init__(self, kept: Collection[str]):
        super().__init__()
        self._kept = frozenset(kept)

    def annotate(self, model: Any) -> Any:
        annotated = super().annotate(model)
        for node in annotated.graph.nodes:
            modules = [name for name, _ in node.meta.get("nn_module_stack", {}).values()]
            if modules and modules[-1] in self._kept:
                node.meta.pop("quantization_annotation", None)
        return annotated


def float_operators(path: Path) -> dict[str, int]:
    """Of each operator that computes in float32: its name and how often the file has it.

    Those that XNNPACK executes, as XNNPACK calls them, and those that it leaves to ExecuTorch's own kernels.
    """
    program = serialize.deserialize_pte_binary(path.read_bytes()).program
    counts = Counter[str]()
    for plan in program.execution_plan:
        counts.update(
            plan.operators[instruction.instr_args.op_index].name
            for chain in plan.chains for instruction in chain.instructions
            if type(instruction.instr_args).__name__ == "KernelCall"
        )  # fmt: skip
        for delegate in plan.delegates:
            counts.update(_of_graph(_xnnpack_graph(program.backend_delegate_data[delegate.processed.index].data)))
    return dict(counts)


def _xnnpack_graph(data: bytes) -> dict[str, Any]:
    """XNNPACK's part of a program: a header, a flatbuffer, constants."""
    header = xnn_serialize.XNNHeader.from_bytes(data[: xnn_serialize.XNNHeader.EXPECTED_LENGTH])
    with tempfile.TemporaryDirectory() as folder:
        schema, graph = Path(folder) / "schema.fbs", Path(folder) / "graph.bin"
        schema.write_bytes(xnn_serialize._get_schema_bytes())
        graph.write_bytes(data[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size])
        flatbuffer._flatc_decompile(folder, str(schema), str(graph))
        text = re.sub(r": -?(inf|nan)\b", ": null", graph.with_suffix(".json").read_text())  # which JSON does not know
        parsed: dict[str, Any] = json.loads(text)
    return parsed


def _of_graph(graph: dict[str, Any]) -> Iterator[str]:
    """The names of the graph's nodes whose input and output are float32."""
    exact = {
        value["xvalue_union"]["id_out"] for value in graph["xvalues"]
        if value["xvalue_union_type"] == "XNNTensorValue" and value["xvalue_union"]["datatype"] == "xnn_datatype_fp32"
    }  # fmt: skip
    for node in graph["xnodes"]:
        ends = [number for key, number in node["xnode_union"].items() if key in ("input_id", "input1_id", "output_id")]
        if ends and exact.issuperset(ends):
            yield node["xnode_union_type"].removeprefix("XNN").lstrip("_")
