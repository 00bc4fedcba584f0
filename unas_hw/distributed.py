"""Ranks: processes that search together, started by ``torchrun`` or ``unas-hw search --gpus N``.

All draw the same architectures from the same seed, each runs its part of them and of the images, and what they found is
summed: losses and gradients in zeta, a few kilobytes, and once a step the gradients of the weights. So every process
holds the same state, and a search does not depend on how many there are, but for rounding.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

PATIENCE = timedelta(days=1)
"""All others wait while one profiles."""


@dataclass(frozen=True)
class Ranks:
    """This process among ``world`` of them; rank 0 measures, and writes files."""

    rank: int
    world: int
    release: Callable[[], None] = lambda: None
    """The first process calls it where the others, which wait until then, may begin."""

    @property
    def first(self) -> bool:
        """Whether this is the process that measures and writes."""
        return self.rank == 0

    def mine(self, count: int) -> range:
        """Places of the samples that this process runs."""
        return range(self.rank, count, self.world)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes the sum over all processes; one message for all of them."""
        if self.world > 1 and tensors:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            torch.distributed.all_reduce(flat)
            for tensor, part in zip(tensors, flat.split([each.numel() for each in tensors]), strict=True):
                tensor.copy_(part.reshape(tensor.shape))

    def sum_gradients(self, weights: Sequence[Tensor]) -> None:
        """Each weight's gradient becomes the sum over all processes; None where no process has one."""
        if self.world > 1:
            used = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.float32)
            used = used.to(weights[0].device)  # one message, and NCCL sends what lies on a GPU
            grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
            self.sum_([used, *grads])
            for weight, grad, count in zip(weights, grads, used.tolist(), strict=True):
                weight.grad = grad if count else None  # Adam leaves alone what nobody has used

    def from_first(self, value: float | None) -> float:
        """The number that the first process has."""
        if self.world == 1:
            assert value is not None
            return value
        told = torch.tensor([0.0 if value is None else value], dtype=torch.float64)
        torch.distributed.broadcast(told, 0)
        return float(told)


ALONE = Ranks(0, 1)


def join() -> Ranks:
    """The processes that torchrun has started; a single one without it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    if not torch.distributed.is_initialized():
        from torch.distributed.rendezvous import rendezvous  # what alone searches does without

        store, rank, world = next(rendezvous("env://", timeout=PATIENCE))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        fresh = _fresh(store, rank, world)
        torch.distributed.init_process_group(backend, store=fresh, rank=rank, world_size=world, timeout=PATIENCE)
    return Ranks(torch.distributed.get_rank(), world)


def _fresh(store: Store, rank: int, world: int) -> Store:
    """A part of the store that only the processes of this start know.

    What those of an earlier start left there, addresses that nobody listens at, is taken for today's otherwise, and
    processes that torchrun has started again wait for ever. Its count of restarts cannot tell: machines count apart.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    mine = uuid4().hex
    if rank == 0:
        store.set("begin", mine)
        # Who has seen that answers under it, and goes on when its own answer has arrived.
        store.set(f"{mine}/go", " ".join(store.get(f"{mine}/{other}").decode() for other in range(1, world)))
        return PrefixStore(mine, store)
    while True:
        begin = store.get("begin").decode()
        store.set(f"{begin}/{rank}", mine)
        if store.check([f"{begin}/go"]) and mine in store.get(f"{begin}/go").decode().split():
            return PrefixStore(begin, store)
        time.sleep(0.05)


def leave() -> None:
    """The inverse of ``join``."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
