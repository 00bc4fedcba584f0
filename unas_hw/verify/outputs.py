"""What an artifact gives for images, beside what its network gives."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latency_tables.coverage import profiler_of
from latency_tables.published import open_device
from profilers.agent.engine import Array
from profilers.agent.machine import usable_cores
from profilers.devices.agent import AgentProfiler
from profilers.devices.local import LocalProfiler
from profilers.errors import MissingDependencyError, MissingDeviceError
from profilers.profiler import Profiler
from profilers.timing import TimingRule
from unas_hw.export.manifest import loadable
from unas_hw.tasks import is_task
from unas_hw.verify import Check, accuracy_check, parity
from unas_hw.verify.subject import Subject

IMAGES, NOISE_IMAGES, ACCURACY_IMAGES = 256, 32, 2048
AT_ONCE = 64
"""Images that are given at a time, where a file takes so many."""

Run = Callable[[Tensor], Array]
"""Images as networks see them to outputs, both ``(N, ...)``."""


@contextmanager
def runner(subject: Subject, device: str | None, not_checked: list[str]) -> Iterator[Run]:
    """The artifact, loaded on the device that it is for if that runs files; else in this machine's own runtime.

    What could not be run where it should be is added to ``not_checked``.

    Raises:
        ConversionError: If it does not load.
        MissingDependencyError: If what runs it is not installed.
    """
    with ExitStack() as stack:
        given = _given(subject)
        if subject.fmt.name == "torch":
            from unas_hw.export.standalone import run_standalone

            yield lambda images: run_standalone(subject.path, given(images))
            return
        profiler, path = _where(subject, device, not_checked)
        path = path or loadable(subject.fmt, subject.path, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        workload = subject.workload
        if profiler.runtime == "openvino" and workload.op.dtype in ("float16", "bfloat16"):
            # Of the file's weights; how else it computes is a matter of the processor, and of the latency.
            workload = replace(workload, op=replace(workload.op, dtype="float32"))
        stack.enter_context(profiler)
        profiler.load_artifact(workload, path, TimingRule())
        batches = subject.manifest.range

        def run(images: Tensor) -> Array:
            x, most = given(images), min(batches.most, max(AT_ONCE, batches.least))
            parts = [x[begin : begin + most] for begin in range(0, len(x), most)]
            short = batches.least - len(parts[-1])
            if short > 0:
                parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], short, 0)])
            return np.concatenate([profiler.run(workload.key, part) for part in parts])[: len(x)]

        yield run


def _given(subject: Subject) -> Callable[[Tensor], Array]:
    """What the file is given for images as networks see them: these, or the pixels that they came from."""
    data = subject.context.data
    if subject.manifest.normalised_inside:
        return lambda images: ((images * data.std + data.mean) * 255).numpy()
    return lambda images: np.ascontiguousarray(images.numpy())


def _where(subject: Subject, device: str | None, not_checked: list[str]) -> tuple[AgentProfiler, Path | None]:
    """Who runs it; and another file than the artifact, where that cannot be run here."""
    header, runtime, is_engine = subject.context.table.header, subject.runtime, subject.fmt.name == "tensorrt"
    assert runtime is not None  # only source files have none
    profiler: Profiler | None = None
    try:
        if device is not None or is_engine:
            profiler = open_device(device or "gpu", runtime=runtime, threads=max(1, header["threads"]))
        elif header["runtime"] == runtime:
            profiler = profiler_of(subject.context.table)
    except (MissingDeviceError, MissingDependencyError) as error:
        if device is not None:
            raise
        words = "; those of its ONNX file were compared" if is_engine else "; they were compared on this machine"
        not_checked.append(f"outputs of the file where it is to run: {error.what}{words}")
    if isinstance(profiler, AgentProfiler):
        return profiler, None
    if device is not None:
        not_checked.append(f"outputs on {device}: its tools only time; they were compared on this machine")
    here = ("openvino" if subject.stored == "bfloat16" else "onnxruntime") if is_engine else runtime
    threads = min(max(1, header["threads"]), len(usable_cores()))
    return LocalProfiler(here, threads), subject.onnx if is_engine else None


def output_checks(subject: Subject, run: Run) -> Iterator[Check]:
    """The same outputs for real images and noise, for the smallest batch and a large one, and twice the same."""
    precision, batches = subject.manifest.precision, subject.manifest.range
    images = _spread(subject, IMAGES)
    noise = torch.randn(
        NOISE_IMAGES, *subject.context.space.input_shape[1:], generator=torch.Generator().manual_seed(0)
    )
    first = run(images)
    yield from parity(outputs(subject, images), first, "real images", precision)
    if precision != "int8":  # whose ranges are those of real images, and noise leaves them
        yield from parity(outputs(subject, noise), run(noise), "random images", precision)
    if batches.dynamic:
        for batch in (batches.least, min(batches.most, AT_ONCE)):
            few = images[:batch] if len(images) >= batch else images.repeat(batch // len(images) + 1, 1, 1, 1)[:batch]
            yield parity(outputs(subject, few), run(few), f"batch of {batch}", precision)[0]
    again = run(images)
    same = float(np.abs(first - again).max()) if first.shape == again.shape else np.inf
    yield Check("largest difference between two runs", same, 0)


def accuracy_checks(subject: Subject, run: Run) -> Iterator[Check]:
    """What the precision costs on test images."""
    tests = subject.context.data.test
    rows = torch.linspace(0, len(tests) - 1, min(ACCURACY_IMAGES, len(tests))).long()
    images, right = tests.take(rows), outputs(subject, tests.take(rows)).argmax(1)
    # Nobody knows the right action: there it is the network's own.
    labels = right if is_task(subject.context.data.origin) else tests.y[rows].numpy()
    before, after = right == labels, run(images).argmax(1) == labels
    yield accuracy_check(before, after, subject.manifest.precision)


def _spread(subject: Subject, count: int) -> Tensor:
    """Test images, from all of the part: files are in the order of classes."""
    tests = subject.context.data.test
    return tests.take(torch.linspace(0, len(tests) - 1, min(count, len(tests))).long())


@torch.no_grad()  # not inference mode: the network may be loaded here, and is exported later
def outputs(subject: Subject, images: Tensor) -> Array:
    """Of the network itself."""
    return np.concatenate([subject.network(part).numpy() for part in images.split(AT_ONCE)])
