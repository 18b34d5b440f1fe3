"""What is ExecuTorch's own; the contract of all runtimes is in test_runtimes.py."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

pytest.importorskip("executorch")

from outputs import expect_close

from mnas.errors import BadInput
from mnas.latency.runtimes import executorch as adapter
from mnas.nn.network import module_of
from mnas.space.layer import Layer


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_its_import_leaves_the_log_as_it_is() -> None:
    """It gives the root logger a handler, which wrote a traceback for each line of ours."""
    code = (
        "import logging, mnas.latency.runtimes.executorch\n"
        "logging.getLogger('mnas').warning('heard')\n"
        "assert not logging.root.handlers"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "heard\n")


@pytest.mark.parametrize("out_channels", [4, 13])
def test_a_shortcut_that_cuts_or_fills_channels(out_channels: int) -> None:
    module = module_of(Layer("conv", 8, 8, out_channels, 3, 2, activation="relu", skip="pool")).eval()
    x = torch.rand(1, 8, 8, 8)
    expect_close(adapter.prepare(module, x, 1)(), module, x, 1e-4)


def test_weights_in_channels_last() -> None:
    module = module_of(Layer("conv", 8, 8, 4, 3, 1, activation="relu")).eval()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(1, 8, 8, 8)
    expect_close(adapter.prepare(module, x, 1)(), module, x, 1e-4)


def test_a_program_goes_on_with_another_thread_pool() -> None:
    """It is loaded anew for each; the memory of its outputs stays as long as they do."""
    module, x = module_of(Layer("conv", 24, 8, 16, 3, 1, activation="relu")).eval(), torch.rand(1, 8, 24, 24)
    with adapter.threads(1):
        run = adapter.prepare(module, x, 1)
        outs = [run()]
    for count in (3, 1, 2):
        with adapter.threads(count):
            outs += [run() for _ in range(50)]
    del run
    gc.collect()
    for out in outs:
        expect_close(out, module, x, 1e-4)


def test_files_from_elsewhere(tmp_path: Path) -> None:
    """Their input may lie in channels_last."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    module = module_of(Layer("conv", 8, 8, 4, 3, 1, activation="relu")).eval()
    x, path = torch.rand(1, 8, 8, 8), tmp_path / "model.pte"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (x.contiguous(memory_format=torch.channels_last),))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)
    expect_close(adapter.prepare_file(path, x, 1)(), module, x, 1e-4)
    with pytest.raises(BadInput, match=r"model\.pte: .*\(1, 8, 8, 8\).*\(1, 8, 9, 9\)"):
        adapter.prepare_file(path, torch.rand(1, 8, 9, 9), 1)
