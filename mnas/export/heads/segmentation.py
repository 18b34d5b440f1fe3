"""The files and pictures of networks for segmentation: masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from mnas.export.dense_source import HeadSource
from mnas.export.heads.form import Likeness, Outputs
from mnas.io.size import Size
from mnas.monitor.overlays import masked, palette_image
from mnas.nn.heads.deeplabv3 import DeepLabV3
from mnas.nn.heads.layers import resized
from mnas.nn.heads.lraspp import LRASPP
from mnas.nn.segmentation import SegmentationNetwork
from mnas.tasks.segmentation import likeliest

SAYS = "the class of each pixel of an image file"


def _source(head: type[nn.Module], call: str) -> HeadSource:
    return HeadSource("network_masks.py.j2", (head, resized, likeliest), call, SAYS)


class MasksForm:
    """See `Form`: outputs are scores (1, num_classes, h, w), an answer is a mask int64 (height, width)."""

    onnx: ClassVar[Mapping[str, str]] = {"onnx": "model.onnx"}
    source: ClassVar[Mapping[str, HeadSource]] = {
        "lraspp": _source(LRASPP, "LRASPP({channels[0]}, {channels[1]}, num_classes)"),
        "deeplabv3": _source(DeepLabV3, "DeepLabV3({channels[0]}, num_classes, rates={rates})"),
    }
    output: ClassVar[Mapping[str, Any]] = {
        "name": "logits", "classes": "argmax over the second axis, after resizing to the image",
    }  # fmt: skip
    card: ClassVar[str] = "card_masks.md.j2"

    def model(self, name: str, network: nn.Module, size: Size) -> bytes:
        assert isinstance(network, SegmentationNetwork)
        from mnas.export.onnx_heads import masks_model  # onnx takes a second

        return masks_model(network, size)

    def witness(self, network: nn.Module, size: Size) -> bytes | None:
        return None

    def decided(self, raw: Outputs) -> bool:
        return True

    def raw(self, network: nn.Module, x: Tensor) -> Outputs:
        return (network(x),)

    def finished(self, raw: Outputs) -> Outputs:
        return raw

    def of_file(self, outputs: Outputs, classes: int) -> Outputs | None:
        known = len(outputs) == 1 and outputs[0].dim() == 4 and outputs[0].shape[1] == classes
        return outputs if known else None

    def likeness(self, outputs: Outputs, expected: Outputs) -> Likeness:
        (own,), (other,) = outputs, expected
        return Likeness(float((own.argmax(1) == other.argmax(1)).float().mean()), float((own - other).abs().max()))

    def answer(self, outputs: Outputs, size: Size, height: int, width: int) -> Tensor:
        del size
        return likeliest(outputs[0][0].float(), height, width).cpu()

    def rows(self, answer: Any, classes: tuple[str, ...], least: float | None) -> list[dict[str, Any]]:
        counts = torch.bincount(answer.flatten(), minlength=len(classes)) / answer.numel()
        ranked = sorted(zip(classes, counts.tolist(), strict=True), key=lambda item: -item[1])
        return [{"class": name, "share": share} for name, share in ranked if share > (least or 0.0)]

    def drawn(self, image: Image.Image, answer: Any, classes: tuple[str, ...]) -> Image.Image:
        return masked(image, answer.numpy(), len(classes))

    def file(self, image: Image.Image, answer: Any, classes: tuple[str, ...], least: float | None) -> Image.Image:
        """A PNG with the class's index in each pixel, and a palette to see them by."""
        del image, least
        return palette_image(answer.numpy(), len(classes))
