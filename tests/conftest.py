"""What several test files need: a small space, a cache of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

TINY_SPACE = """
name: tiny
reference: mobilenet_v3_small
resolution: [32, 48]
stem: {channels: 8, kernel: 3, stride: 2, activation: hard_swish}
stages:
  - {channels: 8,  stride: 1, depth: 1,      kernel: 3,      expansion: 1,      activation: relu}
  - {channels: 16, stride: 2, depth: [1, 2], kernel: [3, 5], expansion: [2, 3], se: [0, 0.25], activation: relu}
  - {channels: 24, stride: 2, depth: [1, 2], kernel: 3,      expansion: [2, 3], activation: [relu, hard_swish]}
head: {channels: 48, hidden: 64, activation: hard_swish}
bn_eps: 0.001
"""


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Latency tables of tests never meet the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A test that changes torch's threads does not change the next one."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The file of a space of 576 small networks."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPACE)
    return path
