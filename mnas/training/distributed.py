"""The processes that torchrun started together; a single process has the same interface and talks to nobody."""

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

TIMEOUT = timedelta(days=30)
"""How long workers wait for the main process, which alone measures latencies and trains the winner. torchrun ends them
if it dies."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that work on one search, seen from one of them; number 0 is the main process."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @torch.no_grad()
    def equalise(self, module: nn.Module) -> None:
        """Give `module` the main process's weights and buffers, in every process."""
        if self.size > 1:
            for tensor in [*module.parameters(), *module.buffers()]:
                dist.broadcast(tensor, src=0, group=None if tensor.is_cuda else _gloo())

    @torch.no_grad()
    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients, the same ones in every process, by their means over the processes."""
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat, group=None if flat.is_cuda else _gloo())
        flat /= self.size
        means = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a CPU tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values, group=_gloo())
            values /= self.size
        return values

    def broadcast(self, value: T | None) -> T:
        """The main process's `value`, in every process."""
        box: list[Any] = [value]
        if self.size > 1:
            dist.broadcast_object_list(box, group=_gloo())
        received: T = box[0]
        return received

    @contextmanager
    def all_succeed(self) -> Iterator[None]:
        """Run the block in every process; if it raises a MnasError in one of them, raise that error in all."""
        own: MnasError | None = None
        try:
            yield
        except MnasError as error:
            own = error
        for raised in self._gather(own):
            if raised is not None:
                raise raised

    def map(self, work: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """`work(item)` for each item, in order; the workers that `serve` do their share."""
        if self.size == 1:
            return [work(item) for item in items]
        return self._share(work, self.broadcast(list(items)))

    def serve(self, work: Callable[[Any], Any]) -> None:
        """Do this worker's share of each `map` of the main process until it calls `release`."""
        while True:
            items: list[Any] | None = self.broadcast(None)
            if items is None:
                return
            self._share(work, items)

    def release(self) -> None:
        """End `serve` in the workers."""
        if self.is_main:
            self.broadcast(None)

    def _share(self, work: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        with self.all_succeed():
            own = [work(item) for item in items[self.rank :: self.size]]
        shares = self._gather(own)
        return [shares[i % self.size][i // self.size] for i in range(len(items))]

    def _gather(self, own: T) -> list[T]:
        """The value of each process, by rank."""
        if self.size == 1:
            return [own]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, own, group=_gloo())
        return values


SINGLE = ProcessGroup()


def _gloo() -> dist.ProcessGroup | None:
    """The group for everything but gradients: gloo, whose waiting processes keep no GPU busy."""
    return _gloo_groups[-1] if _gloo_groups else None


_gloo_groups: list[dist.ProcessGroup] = []
"""The gloo group beside NCCL's default one. Nothing else holds it: its threads must end before the interpreter does."""


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """The processes that torchrun started with this one, for the length of the block: NCCL with CUDA, gloo otherwise.

    Raises MnasError when another process ended. Only the main process writes to the console.
    """
    if not dist.is_torchelastic_launched():
        yield SINGLE
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    store, rank, size = next(rendezvous("env://"))
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=_store_of_this_start(store, rank, size), rank=rank, world_size=size,
        timeout=None if cuda else TIMEOUT,
    )  # fmt: skip
    if cuda:
        _gloo_groups.append(dist.new_group(backend="gloo", timeout=TIMEOUT))
    group = ProcessGroup(rank, size)
    stderr_console().quiet = not group.is_main
    try:
        yield group
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        # NCCL's own group is left as it is: destroying it would wait for processes that wait for this one
        dist.destroy_process_group(_gloo_groups.pop() if _gloo_groups else None)
        if "gloo/transport" not in str(error):
            raise
        raise MnasError(
            "another process of this search ended early; run the same torchrun command again to continue (with "
            "--max-restarts=1 it continues by itself)"
        ) from None
    _gloo_groups.clear()
    gc.collect()  # what still holds a group would keep its threads until the interpreter ends, which aborts it
    dist.destroy_process_group()


def _store_of_this_start(store: Store, rank: int, size: int) -> Store:
    """The part of `store` that only this start of the processes uses.

    torchrun keeps one store over all restarts; a process that reads from it where one of an earlier start listened
    would wait for ever (https://github.com/pytorch/pytorch/issues/135712). The count of restarts differs by machine.
    """
    own = uuid.uuid4().hex
    if rank > 0:
        store.set(f"asks/{rank}", own)
        start = store.get(f"answer/{own}").decode()
        store.set(f"{start}/{rank}", "")
        return PrefixStore(start, store)
    waiting = set(range(1, size))
    while waiting := {other for other in waiting if not store.check([f"{own}/{other}"])}:
        for other in waiting:
            if store.check([f"asks/{other}"]):  # perhaps of an earlier start: then nobody reads the answer
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", own)
        time.sleep(0.05)
    return PrefixStore(own, store)


def check_gpus(device: torch.device) -> None:
    """Raise BadInput if torchrun started more processes on this machine than it has GPUs to train on."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cuda" and processes > torch.cuda.device_count():
        raise BadInput(
            f"{processes} processes and {torch.cuda.device_count()} GPU(s) on this machine: start one process for each "
            f"GPU, torchrun --nproc-per-node {torch.cuda.device_count()}"
        )
