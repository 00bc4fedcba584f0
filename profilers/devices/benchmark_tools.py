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
_COMPLAINT = re.compile(r"error|fail|cannot|can't|not found|no such|denied|abort|unknown|invalid", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ToolTiming:
    """What a tool says of one model.

    Attributes:
        tool: Its name.
        statistic: What ``latency_ms`` is: the median of raw samples, the tool's own median, or only its mean.
        runs: Timed runs, where the tool counts them.
        samples_ms: Every run in order; empty where the tool keeps them to itself.
        resolution_ms: The last digit that the tool prints, 0 where it is finer than what can be measured.
        init_ms: From the file to the first call.
        first_ms: The first call, which is not among the samples.
        memory_bytes: The most that the process held, or how much it grew, as ``memory`` says.
    """

    tool: str
    statistic: Statistic
    runs: int | None = None
    samples_ms: tuple[float, ...] = ()
    median_ms: float | None = None
    mean_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    std_ms: float | None = None
    resolution_ms: float = 0.0
    init_ms: float | None = None
    first_ms: float | None = None
    memory_bytes: int | None = None
    memory: Literal["peak", "growth"] | None = None

    @property
    def latency_ms(self) -> float:
        if self.samples_ms:
            return statistics.median(self.samples_ms)
        value = self.median_ms if self.statistic == "median" else self.mean_ms
        assert value is not None  # every parser fills in what it names
        return value


class Tool(ABC):
    """A benchmark tool on the device.

    Args:
        binary: Its path there.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

    def __init__(self, binary: str) -> None:
        self._binary = binary

    @abstractmethod
    def command(self, model: str, *, shape: Sequence[int], threads: int, runs: int, result_file: str) -> str:
        """The shell command that times ``model``, a path on the device.

        Args:
            model: A path on the device.
            shape: Of the input, batch first.
            threads: How many.
            runs: Timed runs.
            result_file: Where a tool that writes one puts it, a path on the device.
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

    Args:
        binary: Its path on the device.
        xnnpack: Whether the XNNPACK kernels are used, as applications do by default.
        warmup_runs: At least so many ...
        warmup_s: ... and at least so long; its own default is half a second for every run of the tool.
        min_s: The timed part lasts at least so long, whatever ``runs`` says.
        max_s: It stops after so long.
    """

    name = "benchmark_model"
    suffix = ".tflite"

    def __init__(
        self,
        binary: str,
        *,
        xnnpack: bool = True,
        warmup_runs: int = 5,
        warmup_s: float = 0.1,
        min_s: float = 0.0,
        max_s: float = 60.0,
    ) -> None:
        super().__init__(binary)
        self._flags = {
            "use_xnnpack": str(xnnpack).lower(),
            "warmup_runs": warmup_runs,
            "warmup_min_secs": f"{warmup_s:g}",
            "min_secs": f"{min_s:g}",
            "max_secs": f"{max_s:g}",
        }

    def command(self, model: str, *, shape: Sequence[int], threads: int, runs: int, result_file: str) -> str:
        flags = {"graph": model, "num_threads": threads, "num_runs": runs, **self._flags}
        words = [self._binary, *(f"--{key}={value}" for key, value in flags.items())]
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
        if "avg" not in us and "curr" in us:  # runs that all took the same time are printed as one number
            us |= dict.fromkeys(("avg", "min", "max"), us["curr"]) | {"std": 0.0}
        if "avg" not in us:
            raise self.unreadable(line, "it has no mean")
        ms = {key: value / 1000 for key, value in us.items()}
        growth_mb = _find(rf"[Mm]emory footprint.*?overall=({_NUMBER})", after)
        peak_mb = _find(rf"peak memory footprint \(MB\) via periodic monitoring: ({_NUMBER})", after)
        memory_mb = growth_mb if peak_mb is None else peak_mb
        return ToolTiming(
            tool=self.name,
            statistic="median" if "median" in ms else "mean",
            runs=int(us["count"]),
            median_ms=ms.get("median"),
            mean_ms=ms["avg"],
            min_ms=ms.get("min"),
            max_ms=ms.get("max"),
            std_ms=ms.get("std"),
            resolution_ms=0.001,
            init_ms=_scaled(_find(rf"Init: ({_NUMBER})", after), 1e-3),
            first_ms=_scaled(_find(rf"First inference: ({_NUMBER})", after), 1e-3),
            memory_bytes=None if memory_mb is None else int(memory_mb * 2**20),
            memory=None if memory_mb is None else "growth" if peak_mb is None else "peak",
        )


class NcnnBenchmark(Tool):
    """ncnn's ``benchncnn``, for models of one input; it makes up the weights, only the ``.param`` file is read.

    Args:
        binary: Its path on the device.
        powersave: 0 for all cores, 1 for the small ones, 2 for the big ones.
        gpu: The number of the GPU, -1 for none.
        cooling_down: Whether it sleeps for ten seconds first.
    """

    name = "benchncnn"
    suffix = ".param"

    def __init__(self, binary: str, *, powersave: int = 2, gpu: int = -1, cooling_down: bool = False) -> None:
        super().__init__(binary)
        self._powersave, self._gpu, self._cooling_down = powersave, gpu, int(cooling_down)

    def command(self, model: str, *, shape: Sequence[int], threads: int, runs: int, result_file: str) -> str:
        if len(shape) < 2 or shape[0] != 1:
            raise ConversionError(
                f"ncnn times one image at a time, not an input of shape {tuple(shape)}", mend="use a batch of 1"
            )
        sizes = ",".join(str(size) for size in reversed(shape[1:]))  # ncnn writes width first and knows no batch
        numbers = [str(number) for number in (runs, threads, self._powersave, self._gpu, self._cooling_down)]
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
            runs=None if runs is None else int(runs),
            mean_ms=mean,
            min_ms=least,
            max_ms=most,
            resolution_ms=0.01,
        )


class OnnxRuntimeBenchmark(Tool):
    """ONNX Runtime's ``onnxruntime_perf_test``, with inputs that it makes up; it warms up by one run.

    Args:
        binary: Its path on the device.
        provider: The execution provider, as ``-e`` takes it: ``cpu``, ``xnnpack``, ``nnapi``, ``qnn``.
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
        median = _find(rf"P50 Latency(?::| is) ({_NUMBER}) ?s", stdout)
        mean = _find(rf"Average inference time cost(?: total)?: ({_NUMBER}) ms", stdout)
        if not samples_ms and median is None and mean is None:
            raise self.unreadable(stdout, "neither its result file nor its output has a time")
        peak = peak or _find(r"Peak working set size: ?(\d+)", stdout)
        runs = _find(r"Total inference requests: (\d+)", stdout)
        return ToolTiming(
            tool=self.name,
            statistic="samples" if samples_ms else "median" if median is not None else "mean",
            runs=len(samples_ms) or (None if runs is None else int(runs)),
            samples_ms=samples_ms,
            median_ms=statistics.median(samples_ms) if samples_ms else _scaled(median, 1e3),
            mean_ms=statistics.fmean(samples_ms) if samples_ms else mean,
            min_ms=min(samples_ms, default=_scaled(_find(rf"Min Latency(?::| is) ({_NUMBER}) ?s", stdout), 1e3)),
            max_ms=max(samples_ms, default=_scaled(_find(rf"Max Latency(?::| is) ({_NUMBER}) ?s", stdout), 1e3)),
            std_ms=statistics.pstdev(samples_ms) if samples_ms else None,
            init_ms=_scaled(_find(rf"Session creation time cost: ({_NUMBER}) s", stdout), 1e3),
            first_ms=_find(rf"First inference time cost: ({_NUMBER}) ms", stdout),
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


TOOLS: dict[str, type[LiteRTBenchmark] | type[NcnnBenchmark] | type[OnnxRuntimeBenchmark]] = {
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


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
