"""Timing on GPUs as far as it goes without one: a fake of torch.cuda whose clock is wound."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from profilers.agent.engine import REWARM_CALLS, random_input
from profilers.agent.engines import cuda
from profilers.agent.engines.torch import CudaTorchEngine, load, load_program
from profilers.errors import ConversionError
from profilers.runtimes.torch import TorchRuntime

US = 1e-6
SHAPE = (2, 3, 16, 16)


# --- a GPU as arithmetic --------------------------------------------------------------------------------------------


class FakeGpu:
    """The host launches, the device works off; both clocks are wound by what is called.

    Launching a call takes ``launch_s`` and its kernel ``kernel_s``; a replay takes the host 5 us, and the device 1 us
    before its first kernel.
    """

    def __init__(self, launch_s: float, kernel_s: float, refuses: bool = False) -> None:
        self.launch_s, self.kernel_s, self.refuses = launch_s, kernel_s, refuses
        self.host_s = self.device_s = 0.0
        self.calls = 0
        self.streams = ["default"]
        self.captured: list[float] | None = None
        self.pools: list[object] = []

    def __call__(self) -> None:
        """What is timed."""
        if self.captured is not None and self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.calls += 1
        self.host_s += self.launch_s
        if self.captured is None:
            self.work(self.kernel_s)
        else:
            self.captured.append(self.kernel_s)

    def work(self, seconds: float) -> None:
        self.device_s = max(self.device_s, self.host_s) + seconds

    def synchronize(self) -> None:
        self.host_s = max(self.host_s, self.device_s)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = self

        class Event:
            def __init__(self, enable_timing: bool = False) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at_s = max(fake.device_s, fake.host_s)

            def synchronize(self) -> None:
                fake.host_s = max(fake.host_s, self.at_s)

            def elapsed_time(self, other: Event) -> float:
                return (other.at_s - self.at_s) * 1e3

        class Graph:
            kernels: list[float]

            def replay(self) -> None:
                fake.host_s += 5 * US
                fake.work(1 * US + sum(self.kernels))

            def pool(self) -> str:
                return "shared"

        class Capture:
            def __init__(self, graph: Any, pool: object = None) -> None:
                self.graph = graph
                fake.pools.append(pool)

            def __enter__(self) -> None:
                fake.streams.append("capturing")
                fake.captured = []

            def __exit__(self, kind: Any, *_: object) -> None:
                self.graph.kernels, fake.captured = fake.captured, None
                if kind is not None:  # as CUDA: the capture cannot be ended either, and the stream stays
                    raise RuntimeError("operation failed due to a previous error during capture")
                fake.streams.pop()

        class Entered:
            def __init__(self, stream: str) -> None:
                self.stream = stream

            def __enter__(self) -> None:
                fake.streams.append(self.stream)

            def __exit__(self, *_: object) -> None:
                fake.streams.pop()

        class Stream(SimpleNamespace):
            def wait_stream(self, other: object) -> None:
                fake.synchronize()

        replaced = {
            "Event": Event,
            "CUDAGraph": Graph,
            "graph": Capture,
            "Stream": Stream,
            "stream": Entered,
            "synchronize": self.synchronize,
            "current_stream": lambda: Stream(name=fake.streams[-1]),
            "set_stream": lambda stream: fake.streams.append(stream.name),
            "memory_allocated": lambda: 1000,
            "reset_peak_memory_stats": lambda: None,
            "max_memory_allocated": lambda: 1250,
        }
        for name, value in replaced.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch, "zeros", lambda *_, **__: self())
        monkeypatch.setattr(time, "perf_counter", lambda: self.host_s)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeGpu]]:
    def make(*arguments: Any, **options: Any) -> FakeGpu:
        made = FakeGpu(*arguments, **options)
        made.install(monkeypatch)
        return made

    cuda._shared.cache_clear()
    yield make
    cuda._shared.cache_clear()


def test_what_keeps_the_device_busy_is_timed_by_events_without_its_first_launch(fake: Callable[..., FakeGpu]) -> None:
    details: dict[str, Any] = {}
    timer = cuda.cuda_timer(fake(40 * US, 400 * US), details)
    assert (details["clock"], details["launch_bound"]) == ("cuda-events", False)
    assert details["enqueue_ms"] == pytest.approx(0.04)
    assert details["device_ms"] == pytest.approx(0.4, rel=0.02)
    for calls in (1, 7):
        assert timer(calls) == pytest.approx(calls * 400 * US)


def test_what_waits_for_launches_is_timed_as_a_graph_of_many_calls(fake: Callable[..., FakeGpu]) -> None:
    details: dict[str, Any] = {}
    timer = cuda.cuda_timer(fake(40 * US, 3 * US), details)
    assert (details["clock"], details["launch_bound"]) == ("cuda-graph", True)
    assert details["graph_calls"] > 50
    for calls in (1, 50, 1000):  # not the 40 us of a launch, nor the 5 us of a replay
        assert timer(calls) == pytest.approx(calls * 3 * US, rel=0.01)


def test_a_network_that_lasts_is_in_its_graph_once(fake: Callable[..., FakeGpu]) -> None:
    details: dict[str, Any] = {}
    timer = cuda.cuda_timer(fake(5e-3, 1e-3), details)
    assert details["graph_calls"] == 1
    assert timer(4) == pytest.approx(4e-3, rel=0.01)


@pytest.mark.parametrize(("launch_us", "bound"), [(310, False), (330, True)])
def test_launch_bound_is_four_fifths_of_the_time_on_the_device(
    fake: Callable[..., FakeGpu], launch_us: float, bound: bool
) -> None:
    details: dict[str, Any] = {}
    cuda.cuda_timer(fake(launch_us * US, 400 * US), details)
    assert details["launch_bound"] is bound


def test_a_clock_that_was_asked_for_is_taken(fake: Callable[..., FakeGpu]) -> None:
    details: dict[str, Any] = {}
    assert cuda.cuda_timer(fake(40 * US, 3 * US), details, "events")(10) == pytest.approx(400 * US, rel=0.1)
    assert (details["clock"], details["launch_bound"]) == ("cuda-events", True)
    cuda.cuda_timer(fake(40 * US, 400 * US), details, "graph")
    assert (details["clock"], details["launch_bound"]) == ("cuda-graph", False)


def test_launching_is_looked_at_before_the_queue_is_full(fake: Callable[..., FakeGpu]) -> None:
    for launch_s, most in ((5e-3, 1), (0.9e-3, 2), (10 * US, cuda.PROBE_CALLS)):
        found = fake(launch_s, 1 * US)
        cuda.wake(found)
        assert found.host_s >= cuda.WAKE_S
        warm = found.calls
        cuda.probe(found)
        assert found.calls - 2 * warm - 1 == pytest.approx(cuda.PROBES * (1 + most), abs=REWARM_CALLS / 2)


def test_a_refused_graph_is_said_to_be_and_events_are_taken(fake: Callable[..., FakeGpu]) -> None:
    found, details = fake(40 * US, 3 * US, refuses=True), dict[str, Any]()
    timer = cuda.cuda_timer(found, details)
    assert details["clock"] == "cuda-events"
    assert details["graph"] == "refused: operation not permitted when stream is capturing"
    assert found.streams[-1] == "default"
    assert timer(10) == pytest.approx(400 * US, rel=0.1)
    with pytest.raises(RuntimeError, match="no CUDA graph of this can be captured: operation not permitted"):
        cuda.cuda_timer(found, details, "graph")


def test_graphs_share_memory_that_a_failed_capture_has_not_touched(fake: Callable[..., FakeGpu]) -> None:
    found = fake(40 * US, 3 * US)
    for _ in range(2):
        cuda.cuda_timer(found, {})
    assert found.pools == [None, None, "shared", None, "shared"]  # the second is the one that keeps the pool


def test_what_a_graph_reads_is_kept_as_long_as_its_timer(fake: Callable[..., FakeGpu]) -> None:
    work = fake(40 * US, 3 * US)

    def call() -> None:
        work()

    timer, seen = cuda.cuda_timer(call, {}), weakref.ref(call)
    del call
    assert timer.calls > 1 and seen() is not None
    del timer
    assert seen() is None


@pytest.mark.parametrize("kernel_s", [3 * US, 400 * US])
def test_it_spins_for_a_meter_in_bursts_and_says_how_often_it_called(
    fake: Callable[..., FakeGpu], kernel_s: float
) -> None:
    found = fake(40 * US, kernel_s)
    timer, begin_s = cuda.cuda_timer(found, {}), found.device_s
    calls = timer.spin(0.5)
    assert (found.device_s - begin_s) / calls == pytest.approx(kernel_s, rel=0.03)
    assert 0.5 <= found.device_s - begin_s < 0.5 + 2 * cuda.BURST_S


# --- PyTorch --------------------------------------------------------------------------------------------------------


class _Network(nn.Module):
    """Constants and an operation that names a device, which a module's ``to`` does not reach once it is exported."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 4, 3, groups=4))
        self.constant = torch.full((4, 1, 1), 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inside(x)
        return y * self.constant.to(y.dtype) + torch.ones(4, 1, 1, device=y.device, dtype=y.dtype)


@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-6), ("float16", 3e-3), ("bfloat16", 3e-2)])
def test_pytorch_computes_in_the_precision_that_was_asked_for_and_leaves_the_module(
    tmp_path: Path, precision: str, error: float
) -> None:
    module, runtime, path = _Network().eval(), TorchRuntime(), tmp_path / "network.pt2"
    runtime.convert(module, SHAPE, path, precision)
    assert {each.dtype for each in module.parameters()} == {torch.float32}
    x = random_input(SHAPE)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x)).numpy()
    seen = runtime.load(path, 1, precision).run(x)
    assert seen.dtype == np.float32
    difference = np.abs(seen - expected).max() / np.abs(expected).max()
    assert difference < error and (precision == "float32" or difference > error / 100)


@pytest.mark.parametrize(("option", "precision"), [("graph", "float32"), ("events", "float32"), ("", "tf32")])
def test_what_is_for_gpus_is_refused_on_the_cpu(tmp_path: Path, option: str, precision: str) -> None:
    runtime, path = TorchRuntime(*filter(None, [option])), tmp_path / "network.pt2"
    runtime.convert(_Network(), SHAPE, path, precision)
    with pytest.raises(ConversionError, match=f"{option or precision} is for --device gpu"):
        runtime.load(path, 1, precision)


def test_two_clocks_are_refused() -> None:
    with pytest.raises(RuntimeError, match="two clocks"):
        load("network.pt2", 1, "float32", ["cuda", "events", "graph"])


def test_nothing_of_a_program_stays_where_it_was_exported(tmp_path: Path) -> None:
    path = tmp_path / "network.pt2"
    TorchRuntime().convert(_Network(), SHAPE, path)
    module = load_program(str(path), (), "meta")
    with torch.inference_mode():
        assert module(torch.empty(SHAPE, device="meta")).device.type == "meta"


def test_every_block_computes_in_its_own_precision_whatever_ran_between(
    fake: Callable[..., FakeGpu], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "network.pt2"
    TorchRuntime().convert(_Network(), SHAPE, path)
    found = fake(1 * US, 10 * US)
    monkeypatch.setattr(CudaTorchEngine, "device", "cpu")
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    seen = []

    def noted(engine: CudaTorchEngine) -> CudaTorchEngine:
        def module(x: object) -> None:
            found()
            products = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
            seen.append((torch.backends.cuda.matmul.fp32_precision, products))

        engine.module = module
        return engine

    try:
        engines = [noted(CudaTorchEngine(str(path), precision, ())) for precision in ("float32", "tf32")]
        timers = [engine.timer(SHAPE) for engine in engines]
        for timer, products in zip(timers, ("ieee", "tf32"), strict=True):
            seen.clear()
            timer(3)
            assert set(seen) == {(products, products)}
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before  # type: ignore[attr-defined]
    assert engines[0].details["peak_memory_bytes"] == 250  # the fake's peak less what there was before
