"""Time on an NVIDIA GPU, by its own clock: events around calls, or around a CUDA graph of calls.

``python -m profilers.agent.engines.cuda INDEX`` says what GPU that is; it ends at once, and its CUDA context with it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import median
from typing import Any

from profilers.agent.engine import LEAST_CALLS, REWARM_CALLS, REWARM_S

CLOCKS = ("events", "graph")
"""Options of a runtime that force a clock; without one, what is launch-bound is timed as a graph."""

LAUNCH_BOUND = 0.8
"""Share of the time on the device that launching takes, above which the device is taken to wait for the host."""

PROBES, PROBE_CALLS, PROBE_S = 9, 10, 0.002
"""Windows that tell whether an operation is launch-bound, and how many calls and seconds of launching each has at most:
a host that has launched about a thousand kernels ahead is held up by the driver, and would seem slow."""

GRAPH_S, MOST_CALLS = 0.5e-3, 256
"""How long a graph lasts, and of how many calls it is at most.

A graph of one short call would be as launch-bound as the call was: a replay costs the host some microseconds, and the
device about one between two graphs. In a graph of many calls the kernels of a call follow those of the one before, as
they do in a network that is run as one graph, and what a replay costs is spread over half a millisecond. A network that
lasts as long itself is in its graph once, which is how it is deployed."""

WAKE_S = 0.1
"""Work before an operation is looked at: clocks of a GPU that had nothing to do, while the next operation was made, are
low, and a slow GPU would seem not to wait for the host."""

BURST_S = 0.02
"""Work for a meter between two looks at the clock."""


def clock_of(options: Sequence[str]) -> str | None:
    """The clock among the options of a runtime; None where there is none."""
    clocks = [clock for clock in CLOCKS if clock in options]
    if len(clocks) > 1:
        raise RuntimeError("events and graph are two clocks: leave one of them out")
    return clocks[0] if clocks else None


def cuda_timer(call: Callable[[], object], details: dict[str, Any], clock: str | None = None) -> CudaTimer:
    """``calls -> seconds`` on the device of the work that a call puts on PyTorch's current stream.

    Args:
        call: Returns before the work is done.
        details: Gets ``clock`` (``cuda-events`` or ``cuda-graph``), ``enqueue_ms`` and ``device_ms`` of one call,
            ``launch_bound``, ``graph_calls``, and ``graph`` where a graph was refused.
        clock: One of ``CLOCKS``; by default a graph where the call is launch-bound.

    Raises:
        RuntimeError: If a graph was asked for and CUDA cannot capture the call.
    """
    enqueue_s, device_s = probe(call)
    launch_bound = enqueue_s > LAUNCH_BOUND * device_s
    details.update(clock="cuda-events", enqueue_ms=enqueue_s * 1e3, device_ms=device_s * 1e3, launch_bound=launch_bound)
    if clock == "graph" or (clock is None and launch_bound):
        try:
            timer = _graphed(call)
        except RuntimeError as error:
            # What failed is the call; that the capture could not be ended then is only what followed from it.
            reason = (str(error.__context__ or error).splitlines() or [""])[0]
            if clock == "graph":
                raise RuntimeError("no CUDA graph of this can be captured: " + reason) from error
            details["graph"] = "refused: " + reason
        else:
            details.update(clock="cuda-graph", graph_calls=timer.calls)
            return timer
    return CudaTimer(call, call, 1, device_s)


class CudaTimer:
    """Times what is put on the current stream.

    Args:
        call: Kept, because a graph of it reads its input.
        run: The call, or the replay of a graph of it.
        calls: Calls in one run.
        run_s: About how long a run lasts.
    """

    def __init__(self, call: Callable[[], object], run: Callable[[], object], calls: int, run_s: float) -> None:
        self.call, self.run, self.calls, self.run_s = call, run, calls, run_s
        self.first, self.last = _events()

    def __call__(self, calls: int) -> float:
        """Seconds that so many calls take; whole runs are timed."""
        runs = -(-calls // self.calls)
        rewarm(self.run)
        self.run()  # keeps the device busy until the clock starts, so that the first launch is not timed
        return _device_s(self.run, runs, self.first, self.last) * calls / (runs * self.calls)

    def spin(self, seconds: float) -> int:
        """Calls for about so long, for an energy meter; says how often."""
        import torch

        runs, done, end = max(1, math.ceil(BURST_S / self.run_s)), 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(runs):
                self.run()
            torch.cuda.synchronize()
            done += runs * self.calls
        return done


def rewarm(run: Callable[[], object]) -> None:
    """As ``Engine.timer`` does: so many runs, or for so long; all of them are done when it returns."""
    import torch

    begin = time.perf_counter()
    for number in range(1, REWARM_CALLS + 1):
        run()
        if number >= LEAST_CALLS:
            torch.cuda.synchronize()  # else ten calls of any length were queued before the first ended
            if time.perf_counter() - begin >= REWARM_S:
                break


def wake(run: Callable[[], object]) -> None:
    """Runs for ``WAKE_S``."""
    end = time.perf_counter() + WAKE_S
    while time.perf_counter() < end:
        rewarm(run)


def probe(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of a call on the host and on the device, where one call follows another: medians of ``PROBES`` windows.

    Where the device waits for the host, its time is the host's too: it ends with the last launch.
    """
    import torch

    wake(call)
    begin = time.perf_counter()
    call()
    once_s = time.perf_counter() - begin
    calls = max(1, min(PROBE_CALLS, int(PROBE_S / max(once_s, 1e-9))))
    host_s: list[float] = []
    device_s: list[float] = []

    def launched() -> None:
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        host_s.append((time.perf_counter() - begin) / calls)

    first, last = _events()
    for _ in range(PROBES):
        torch.cuda.synchronize()  # an empty queue takes launches at once
        call()  # as in CudaTimer
        device_s.append(_device_s(launched, 1, first, last) / calls)
    return median(host_s), median(device_s)


def peak_bytes(bind: Callable[[], Callable[[], object]]) -> int:
    """The most memory that what is bound and one call of it need beyond what was allocated; not the first call ever.

    What libraries keep for themselves is not in it: the CUDA context, the workspaces of cuBLAS.
    """
    import torch

    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    call = bind()
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def _events() -> tuple[Any, Any]:
    import torch

    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


def _device_s(run: Callable[[], object], runs: int, first: Any, last: Any) -> float:
    first.record()
    for _ in range(runs):
        run()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3


def _graphed(call: Callable[[], object]) -> CudaTimer:
    """A graph of as many calls as last ``GRAPH_S``, found with a graph of one."""
    once = _capture(call, 1, None)  # of a pool of its own: a capture that fails may leave its pool unusable
    rewarm(once.replay)
    once_s = _device_s(once.replay, PROBE_CALLS, *_events()) / PROBE_CALLS
    calls = max(1, min(MOST_CALLS, math.ceil(GRAPH_S / once_s)))
    return CudaTimer(call, _capture(call, calls, _shared().pool()).replay, calls, calls * once_s)


def _capture(call: Callable[[], object], calls: int, pool: Any) -> Any:
    import torch

    stream, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(stream)
    with torch.cuda.stream(side):  # what libraries do once per stream must not be captured
        for _ in range(LEAST_CALLS):
            call()
    stream.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool):
            for _ in range(calls):
                call()
    finally:
        torch.cuda.set_stream(stream)  # a capture that fails leaves us on its own
    return graph


@lru_cache(maxsize=1)
def _shared() -> Any:
    """A graph whose memory all others share, kept because a pool that no graph uses cannot be captured into again.

    Graphs are replayed one after the other and nobody reads what they leave, so they may overwrite each other's memory;
    hundreds of them with memory of their own would fill the device.
    """
    import torch

    return _capture(lambda: torch.zeros(1, device="cuda"), 1, None)


def facts(index: int) -> dict[str, Any]:
    """What PyTorch knows of a GPU: name, memory, capability, what identifies it elsewhere, and its own libraries."""
    import torch

    found = torch.cuda.get_device_properties(index)
    bus: list[Any] = [getattr(found, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "capability": f"{found.major}.{found.minor}",
        "uuid": str(found.uuid),
        "pci": None if None in bus else "{:08X}:{:02X}:{:02X}.0".format(*bus),
        "torch_cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(facts(int(sys.argv[1]))) + "\n")
