"""Memory of a step: measured, and kept below a budget by the fastest way of running the supernet that keeps it.

What counts is what the user's machine has to have: the process's peak resident memory on a CPU, libraries and all; what
PyTorch has allocated at once on a GPU.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import nn

from profilers.agent import machine
from profilers.agent.machine import give_back as give_back
from profilers.units import format_bytes
from unas_hw.errors import MemoryBudgetError
from unas_hw.supernet import Supernet

CLEAR = Path(machine.CLEAR)
STEPS = 3
"""Of which the first allocates what the optimisers keep, and the fastest is what a step takes."""


@final
class StepPeak:
    """Within it the peak of this process is counted anew, on a CPU only where Linux tells it.

    Args:
        device: As torch names it.

    Raises:
        MemoryBudgetError: If nothing here tells the peak.
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        if self.device.type == "cpu" and not CLEAR.exists():
            raise MemoryBudgetError("only Linux tells the peak memory of a process", mend="leave out --memory-budget")

    def __enter__(self) -> Self:
        gc.collect()
        if self.device.type == "cpu":
            machine.resident_bytes()
        else:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be undone."""

    def bytes(self) -> int:
        """The peak so far."""
        on_cpu = self.device.type == "cpu"
        return machine.peak_bytes() or 0 if on_cpu else torch.cuda.max_memory_allocated(self.device)

    def now(self) -> int:
        """What is in use."""
        on_cpu = self.device.type == "cpu"
        return machine.status_bytes("VmRSS") or 0 if on_cpu else torch.cuda.memory_allocated(self.device)


@final
@dataclass(frozen=True)
class Mode:
    """A way of running relaxed passes: whether mixed operations keep their inputs only, and how many candidates a
    decision are run, by default all. Fewer change what the estimator estimates.
    """

    recompute: bool
    most: int | None = None

    def apply(self, supernet: Supernet) -> None:
        """The supernet runs like this from now on."""
        supernet.set_memory(recompute=self.recompute, most=self.most)

    @property
    def exact(self) -> bool:
        """Whether the gradients are those of all candidates."""
        return self.most is None

    def __str__(self) -> str:
        paths = "" if self.most is None else f", {self.most} candidates of each decision"
        return ("recomputed" if self.recompute else "stored") + paths


@final
@dataclass(frozen=True)
class StepCost:
    """What a step took in one mode: its peak, or what it had taken until it was given up, and the seconds of the
    fastest.
    """

    mode: Mode
    peak_bytes: int
    seconds: float | None

    def __str__(self) -> str:
        took = "given up" if self.seconds is None else f"{self.seconds:.2f} s a step"
        return f"{self.mode}: {'over ' if self.seconds is None else ''}{format_bytes(self.peak_bytes)}, {took}"


class _TooMuchError(MemoryBudgetError):
    """A pass has grown beyond the budget; raised from within it, so that it never takes all there is."""


def modes(supernet: Supernet, *, sampled_paths: bool) -> list[Mode]:
    """From the least memory to the most; with ``sampled_paths`` also those that run fewer candidates."""
    widest = max((len(mixed.candidates) for mixed in supernet.mixed_ops()), default=1)
    fewer = [Mode(True, most) for most in range(2, widest)] if sampled_paths else []
    return [*fewer, Mode(recompute=True), Mode(recompute=False)]


def measure(
    step: Callable[[], object], supernet: Supernet, mode: Mode, *, limit_bytes: float = float("inf"), steps: int = STEPS
) -> StepCost:
    """Some steps in a mode, given up in the pass that exceeds the limit; the supernet stays in the mode.

    A step is one with both optimisers, as the search does it. What it changes stays changed: hand in one of a search
    that is thrown away.
    """
    mode.apply(supernet)
    memory = StepPeak(next(supernet.parameters()).device)

    def check(module: nn.Module, args: Any, out: Any) -> None:
        if memory.now() > limit_bytes:
            raise _TooMuchError("a pass exceeds the memory budget", mend="use a smaller --batch-size")

    hooks = [mixed.register_forward_hook(check) for mixed in supernet.mixed_ops()]
    times = []
    try:
        with memory:
            for _ in range(steps):
                begin = time.perf_counter()
                step()
                if memory.device.type == "cuda":
                    torch.cuda.synchronize(memory.device)
                times.append(time.perf_counter() - begin)
                if memory.bytes() > limit_bytes:
                    break
            return StepCost(mode, memory.bytes(), min(times))
    except (_TooMuchError, torch.OutOfMemoryError):
        return StepCost(mode, memory.bytes(), None)
    finally:
        for hook in hooks:
            hook.remove()


def fit(
    step: Callable[[], object],
    supernet: Supernet,
    budget_bytes: int,
    *,
    sampled_paths: bool = False,
    measured: Callable[[StepCost], None] = lambda cost: None,
) -> tuple[Mode, list[StepCost]]:
    """The fastest mode that keeps the budget, and what was measured; the supernet is left in it.

    Modes are tried from the least memory on, as a process does not give back all it has had, until one exceeds the
    budget. Those with fewer candidates (``sampled_paths``), which bias the estimator, are tried only if no other keeps
    it, from the most candidates on. ``measured`` is told of each mode.

    Raises:
        MemoryBudgetError: If none keeps it, or nothing tells.
    """
    costs: list[StepCost] = []

    def keeps(mode: Mode) -> bool:
        costs.append(measure(step, supernet, mode, limit_bytes=budget_bytes))
        measured(costs[-1])
        return costs[-1].peak_bytes <= budget_bytes

    kept: list[StepCost] = []
    for mode in modes(supernet, sampled_paths=False):
        if not keeps(mode):
            break
        kept.append(costs[-1])
    if not kept and sampled_paths:
        for mode in reversed([mode for mode in modes(supernet, sampled_paths=True) if not mode.exact]):
            if keeps(mode):
                kept.append(costs[-1])
                break
    if not kept:
        raise MemoryBudgetError(
            f"no way to run a step keeps {format_bytes(budget_bytes)}: {'; '.join(map(str, costs))}",
            mend=_mend(sampled_paths),
        )
    best = min(kept, key=lambda cost: cost.seconds or 0.0)
    best.mode.apply(supernet)
    return best.mode, costs


def _mend(sampled_paths: bool) -> str:
    return "use a smaller --batch-size" + ("" if sampled_paths else ", or let fewer candidates run: --sampled-paths")
