"""The processes that `torchrun` started together; one process alone is the same with nobody to talk to."""

from __future__ import annotations

import gc
import os
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from mnas.errors import BadInput, MnasError
from mnas.monitor.console import stderr_console

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""So long the others wait for the leader, which alone measures latencies and trains the winner; if it dies, torchrun
ends them."""


@dataclass(frozen=True)
class Peers:
    """This process among those that work on one search; number 0 leads."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def together(self, module: nn.Module) -> nn.Module:
        """`module`, its gradients averaged over all processes; all begin with the leader's weights.

        Buffers are the leader's at the beginning of each step.
        """
        if self.size == 1:
            return module
        group = None if next(module.parameters()).is_cuda else _words()
        return nn.parallel.DistributedDataParallel(module, process_group=group, find_unused_parameters=True)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of CPU tensors over all processes."""
        if self.size > 1:
            dist.all_reduce(values, group=_words())
            values /= self.size
        return values

    def told(self, value: T | None) -> T:
        """What the leader says, to every process."""
        box: list[Any] = [value]
        if self.size > 1:
            dist.broadcast_object_list(box, group=_words())
        said: T = box[0]
        return said

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """A block that all processes pass, each with its own body, or none: a MnasError of one is raised in all."""
        mine: MnasError | None = None
        try:
            yield
        except MnasError as error:
            mine = error
        for one in self._gathered(mine):
            if one is not None:
                raise one

    def map(self, work: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """`work(item)` of each item, in order; the leader shares them out to those that `serve`."""
        if self.size == 1:
            return [work(item) for item in items]
        return self._shared(work, self.told(list(items)))

    def serve(self, work: Callable[[Any], Any]) -> None:
        """Do this process's part of each `map` of the leader, until it calls `dismiss`."""
        while True:
            items: list[Any] | None = self.told(None)
            if items is None:
                return
            self._shared(work, items)

    def dismiss(self) -> None:
        """End the others' `serve`."""
        if self.leads:
            self.told(None)

    def _shared(self, work: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        with self.agreed():
            mine = [work(item) for item in items[self.rank :: self.size]]
        parts = self._gathered(mine)
        return [parts[i % self.size][i // self.size] for i in range(len(items))]

    def _gathered(self, mine: T) -> list[T]:
        """What each process has, by number."""
        if self.size == 1:
            return [mine]
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, mine, group=_words())
        return parts


ALONE = Peers()


def _words() -> dist.ProcessGroup | None:
    """Through which everything goes that is no gradient: gloo, since who waits there keeps no GPU busy."""
    return _groups[-1] if _groups else None


_groups: list[dist.ProcessGroup] = []
"""Beside the default one. Nobody else keeps one: its threads must end before the interpreter does."""


@contextmanager
def joined() -> Iterator[Peers]:
    """The processes that torchrun started with this one, for the length of the block: NCCL where CUDA is, else gloo.

    A MnasError where another one ended. The leader alone tells how it goes.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    store, rank, size = next(rendezvous("env://"))
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=_anew(store, rank, size), rank=rank, world_size=size,
        timeout=None if cuda else PATIENCE,
    )  # fmt: skip
    if cuda:
        _groups.append(dist.new_group(backend="gloo", timeout=PATIENCE))
    peers = Peers(rank, size)
    stderr_console().quiet = not peers.leads
    try:
        yield peers
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        # NCCL's own group stays: to end it would be to wait for processes that wait for this one
        dist.destroy_process_group(_groups.pop() if _groups else None)
        if "gloo/transport" not in str(error):
            raise
        raise MnasError(
            "another process of this search ended before its time; the same torchrun command goes on with the run, by "
            "itself with --max-restarts=1"
        ) from None
    _groups.clear()
    dist.destroy_process_group()


def _anew(store: Store, rank: int, size: int) -> Store:
    """A part of `store` for this start of the processes alone.

    torchrun keeps one store over all restarts; whoever read there where another one listened before would wait for ever
    (https://github.com/pytorch/pytorch/issues/135712). Its count of restarts differs between machines.
    """
    mine = uuid.uuid4().hex
    if rank > 0:
        store.set(f"asks/{rank}", mine)
        start = store.get(f"answer/{mine}").decode()
        store.set(f"{start}/{rank}", "")
        return PrefixStore(start, store)
    waiting = set(range(1, size))
    while waiting := {other for other in waiting if not store.check([f"{mine}/{other}"])}:
        for other in waiting:
            if store.check([f"asks/{other}"]):  # perhaps of before: then nobody reads the answer
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", mine)
        time.sleep(0.05)
    return PrefixStore(mine, store)


def check_gpus(device: torch.device) -> None:
    """BadInput where torchrun started more processes on this machine than it has GPUs to train on."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cuda" and processes > torch.cuda.device_count():
        raise BadInput(
            f"{processes} processes and {torch.cuda.device_count()} GPU(s) on this machine: start as many as there "
            f"are GPUs, torchrun --nproc-per-node {torch.cuda.device_count()}"
        )
