"""The runtimes' own benchmark tools on a device: how they are called, and what they print.

| tool | gives |
|---|---|
| LiteRT ``benchmark_model`` | mean, least, most, deviation in µs; newer ones the median too; no samples |
| ncnn ``benchncnn`` | least, most, mean in ms with two decimals; no samples |
| ``onnxruntime_perf_test`` | every run in its result file |

Every command joins the error stream to the output, since some of them print their results there.
"""

from __future__ import annotations

import math
import re
import shlex
import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from profilers.errors import ConversionError, ToolOutputError

Statistic = Literal["samples", "median", "mean"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LITERT = ("--use_xnnpack=true", "--warmup_runs=5", "--warmup_min_secs=0.1", "--min_secs=0", "--max_secs=60")
_COMPLAINT = re.compile(r"error|fail|cannot|can't|not found|no such|denied|abort|unknown|invalid", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ToolTiming:
    """What a tool says of one model.

    Attributes:
        tool: Its name.
        statistic: What ``latency_ms`` is: the median of raw samples, the tool's own median, or only its mean.
        runs: Timed runs, where the tool counts them.
        resolution_ms: The last digit that the tool prints, 0 where it is finer than what can be measured.
        memory_bytes: The most that the process held, or how much it grew, as ``memory`` says.
    """

    tool: str
    statistic: Statistic
    latency_ms: float
    runs: int | None = None
    resolution_ms: float = 0.0
    memory_bytes: int | None = None
    memory: Literal["peak", "growth"] | None = None


class Tool(ABC):
    """A benchmark tool on the device; ``binary`` is its path there."""

    name: ClassVar[str]
    suffix: ClassVar[str]

    def __init__(self, binary: str) -> None:
        self._binary = binary

    @abstractmethod
    def command(self, model: str, *, shape: Sequence[int], threads: int, runs: int, result_file: str) -> str:
        """The shell command that times ``model``, a path on the device, on an input of that shape, batch first.

        A tool that writes a file of results puts it at ``result_file``, also on the device.
        """

    @abstractmethod
    def parse(self, stdout: str, result_file_text: str | None = None) -> ToolTiming:
        """The timing in what the tool printed, or ``ToolOutputError``."""

    def unreadable(self, stdout: str, why: str) -> ToolOutputError:
        """The error that quotes what the tool complained of."""
        lines = [line.strip() for line in stdout.splitlines() if line.strip()]
        # The first complaint is the cause, what follows are its consequences.
        line = next((line for line in lines if _COMPLAINT.search(line)), lines[-1] if lines else "")
        return ToolOutputError(
            f"{self.name} gave no timing: {why}; it said {line[:200]!r}",
            mend=f"run {self._binary} by hand on the device, and check that it is built for its instruction set",
        )


class LiteRTBenchmark(Tool):
    """TensorFlow Lite's, now LiteRT's, ``benchmark_model``.

    It warms up for a tenth of a second (its own default is half a second for every run of the tool), and its timed part
    ends after as many runs as it is told, or a minute.
    """

    name = "benchmark_model"
    suffix = ".tflite"

    def command(self, model: str, *, shape: Sequence[int], threads: int, runs: int, result_file: str) -> str:
        words = [self._binary, f"--graph={model}", f"--num_threads={threads}", f"--num_runs={runs}", *_LITERT]
        return f"{shlex.join(words)} 2>&1"

    def parse(self, stdout: str, result_file_text: str | None = None) -> ToolTiming:
        # Of two such lines the first is the warm-up; those after the summary are about single operations.
        before, mark, after = stdout.partition("Inference timings in us:")
        counted = re.findall(r"^(?:\w+: )?(count=.*)$", before, re.MULTILINE)
        if not mark or len(counted) < 2:
            raise self.unreadable(stdout, "the lines with 'count=' and 'Inference timings' are missing")
        line = counted[-1]
        us = {key: float(value) for key, value in re.findall(rf"(\w+)=({_NUMBER})", line)}
        if "count" not in us or us["count"] < 1:
            raise self.unreadable(line, "nothing was timed")
        names = ("median", "avg", "curr")  # runs that all took the same time are printed as one number
        statistic = next((name for name in names if name in us), None)
        if statistic is None:
            raise self.unreadable(line, "it has no mean")
        growth_mb = _find(rf"[Mm]emory footprint.*?overall=({_NUMBER})", after)
        peak_mb = _find(rf"peak memory footprint \(MB\) via periodic monitoring: ({_NUMBER})", after)
        memory_mb = growth_mb if peak_mb is None else peak_mb
        return ToolTiming(
            tool=self.name,
            statistic="median" if statistic == "median" else "mean",
            latency_ms=us[statistic] / 1000,
            runs=int(us["count"]),
            resolution_ms=0.001,
            memory_bytes=None if memory_mb is None else int(memory_mb * 2**20),
            memory=None if memory_mb is None else "growth" if peak_mb is None else "peak",
        )


class NcnnBenchmark(Tool):
    """ncnn's ``benchncnn``, for models of one input; it makes up the weights, only the ``.param`` file is read.

    It runs on the big cores, and does not sleep before it begins, as it otherwise does for ten seconds.
    """

    name = "benchncnn"
    suffix = ".param"

    def command(self, model: str, *, shape: Sequence[int], threads: int, runs: int, result_file: str) -> str:
        if len(shape) < 2 or shape[0] != 1:
            raise ConversionError(
                f"ncnn times one image at a time, not an input of shape {tuple(shape)}", mend="use a batch of 1"
            )
        sizes = ",".join(str(size) for size in reversed(shape[1:]))  # ncnn writes width first and knows no batch
        big_cores, no_gpu, no_sleep = "2", "-1", "0"
        numbers = [str(runs), str(threads), big_cores, no_gpu, no_sleep]
        return f"{shlex.join([self._binary, *numbers, f'param={model}', f'shape=[{sizes}]'])} 2>&1"

    def parse(self, stdout: str, result_file_text: str | None = None) -> ToolTiming:
        found = re.findall(r"^\s*(.+?)\s+min =\s*(\S+)\s+max =\s*(\S+)\s+avg =\s*(\S+)\s*$", stdout, re.MULTILINE)
        if not found:
            raise self.unreadable(stdout, "the line with 'min = ... max = ... avg = ...' is missing")
        if len(found) > 1:
            # Before 2022 the tool did not know param= and timed its own list instead.
            raise ToolOutputError(
                f"{self.name} timed {len(found)} models, {found[0][0]!r} first, instead of the one it was given",
                mend="use a benchncnn that knows param=, of 2022 or later",
            )
        least, most, mean = (_number(word) for word in found[0][1:])
        if least is None or most is None or mean is None or not 0 <= least <= mean <= most:
            raise self.unreadable(" ".join(found[0]), "that is no time")
        runs = _find(r"loop_count = (\d+)", stdout)
        return ToolTiming(
            tool=self.name,
            statistic="mean",
            latency_ms=mean,
            runs=None if runs is None else int(runs),
            resolution_ms=0.01,
        )


class OnnxRuntimeBenchmark(Tool):
    """ONNX Runtime's ``onnxruntime_perf_test``, with inputs that it makes up; it warms up by one run.

    ``provider`` is the execution provider, as ``-e`` takes it: ``cpu``, ``xnnpack``, ``nnapi``, ``qnn``.
    """

    name = "onnxruntime_perf_test"
    suffix = ".onnx"

    def __init__(self, binary: str, *, provider: str = "cpu") -> None:
        super().__init__(binary)
        self._provider = provider

    def command(self, model: str, *, shape: Sequence[int], threads: int, runs: int, result_file: str) -> str:
        options = ["-e", self._provider, "-m", "times", "-r", str(runs), "-x", str(threads), "-s", "-I"]
        words = [self._binary, *options, model, result_file]
        # It appends to the file: what an earlier run left there would count as samples of this one.
        return f"rm -f {shlex.quote(result_file)} && {shlex.join(words)} 2>&1"

    def parse(self, stdout: str, result_file_text: str | None = None) -> ToolTiming:
        samples_ms, peak = self._read_file(result_file_text or "")
        median_s = _find(rf"P50 Latency(?::| is) ({_NUMBER}) ?s", stdout)
        mean_ms = _find(rf"Average inference time cost(?: total)?: ({_NUMBER}) ms", stdout)
        known: list[tuple[Statistic, float]] = []
        if samples_ms:
            known.append(("samples", statistics.median(samples_ms)))
        if median_s is not None:
            known.append(("median", median_s * 1e3))
        if mean_ms is not None:
            known.append(("mean", mean_ms))
        if not known:
            raise self.unreadable(stdout, "neither its result file nor its output has a time")
        peak = peak or _find(r"Peak working set size: ?(\d+)", stdout)
        runs = _find(r"Total inference requests: (\d+)", stdout)
        return ToolTiming(
            tool=self.name,
            statistic=known[0][0],
            latency_ms=known[0][1],
            runs=len(samples_ms) or (None if runs is None else int(runs)),
            memory_bytes=int(peak) if peak else None,
            memory="peak" if peak else None,
        )

    def _read_file(self, text: str) -> tuple[tuple[float, ...], float | None]:
        """Samples in ms and the process's peak of memory, from lines ``model,seconds,peak,cpu,run``."""
        samples_ms, peak = [], None
        for line in text.splitlines():
            if not line.strip():  # after an empty line come percentiles of the same runs
                break
            fields = line.rsplit(",", 4)  # the model's name comes first and may hold commas
            seconds = _number(fields[1]) if len(fields) == 5 else None
            if seconds is None or seconds < 0:
                raise self.unreadable(line, "a line of its result file is not model,seconds,peak,cpu,run")
            samples_ms.append(seconds * 1e3)
            peak = _number(fields[2])
        return tuple(samples_ms), peak


TOOLS: dict[str, type[Tool]] = {
    "litert": LiteRTBenchmark,
    "ncnn": NcnnBenchmark,
    "onnxruntime": OnnxRuntimeBenchmark,
}
"""By the name of the runtime."""


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _find(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text)
    return _number(match[1]) if match else None
