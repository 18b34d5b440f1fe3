"""Small trained-looking networks for the tests of export formats, and the formats where they are installed."""

from __future__ import annotations

import os

import pytest
import torch
from handmade import HAND_MADE, usual_network
from references import reference

from mnas.errors import MissingDependency
from mnas.export.formats import Format, Model, get_format

ALL_INSTALLED = bool(os.environ.get("MNAS_TEST_ALL_RUNTIMES"))
CLASSES = ("cat", "a\ndog", "émeu")  # a folder's name may have a line break


def installed(name: str) -> Format:
    if name == "timm":
        reference("timm")
    try:
        return get_format(name)
    except MissingDependency as error:
        if ALL_INSTALLED:
            raise
        pytest.skip(str(error))


def model_of(name: str) -> Model:
    torch.manual_seed(0)
    arch = HAND_MADE[name]
    network = usual_network(arch, len(CLASSES)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(network.eval(), arch, CLASSES, "a network")
