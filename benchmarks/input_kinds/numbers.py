"""Numbers and their units: tables of others, settings, budgets, multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.input_kinds.judging import REFUSED, Inputs, said
from latency_tables.table import LatencyTable
from profilers.opspec import OpSpec
from profilers.units import parse_bytes, parse_energy_mj, parse_ms
from profilers.workload import Workload

TIMES = {
    1e-3: (
        "latency (µs)", "latency (μs)", "Latency [us]", "time_us", "latency/us", "usec", "microseconds", "t_in_us",
        "latency_usecs", "LATENCY (US)",
    ),
    1.0: ("latency_ms", "ms", "Latency (ms)", "time [ms]", "milliseconds", "latency in msec", "ms_mean", "avg_ms"),
    1e3: ("latency_s", "time (s)", "seconds", "runtime [sec]"),
    1e-6: ("latency_ns", "time (ns)"),
}  # fmt: skip
NO_TIMES = (
    "images/s", "fps", "throughput", "samples/sec", "energy_mJ", "power (W)", "memory_MB", "MFLOPs", "1/ms", "qps",
    "it/s", "accuracy", "time_s (ms)",
)  # fmt: skip
TOLD = (1e-3, "latency_us"), (1.0, "ms"), (1e3, "time (s)"), (None, "latency")
FILES = ((",", "utf-8"), ("\t", "utf-8-sig"), (";", "utf-16"))
CELLS = {
    12.0: ("12", "1.2e1", " 12 ", '"12"', "+12", "12.0"),
    None: ("1,234.5", "nan", "inf", "-1", "0", "", "1e400", "n/a", "0x10", "1_000", "١٢", "12 us", "12ms"),
}
BROKEN = {
    "decimal commas": "key;ms\na;12,5\n", "a column twice": "key,ms,ms\na,1,2\n", "a row twice": "key,ms\na,1\na,2\n",
    "a short row": "key,ms\na\n", "nothing": "", "a head only": "key,ms\n",
}  # fmt: skip


def imported(text: str, *words: str, encoding: str = "utf-8") -> float:
    """Milliseconds of the only row of a CSV file."""
    Path("lut.csv").write_bytes(text.encode(encoding))
    said("tables", "import", "lut.csv", "--output", "./t.jsonl", *words)
    table = LatencyTable.load(Path("t.jsonl"))
    (key,) = table.keys("op")
    return table.price_ms(key)


def close(ms: float) -> Callable[[float], bool]:
    """Whether a latency is this one."""
    return lambda found: math.isclose(found, ms, rel_tol=1e-6)


def numbers() -> Inputs:
    """All of them."""
    for (scale, names), (mark, encoding) in product(TIMES.items(), FILES):
        for name in names:
            text = f"key{mark}{name}\na{mark}12.5\n"
            answer = partial(imported, text, "--column", f"ms={name}", encoding=encoding)
            yield f"{name} by {mark!r}, {encoding}", answer, close(12.5 * scale)
    for name in NO_TIMES:
        yield name, partial(imported, f"key,{name}\na,12.5\n", "--column", f"ms={name}"), REFUSED
    for (own, name), (unit, scale) in product(TOLD, {"us": 1e-3, "ms": 1.0, "s": 1e3}.items()):
        answer = partial(imported, f"key,{name}\na,12.5\n", "--column", f"ms={name}", "--unit", unit)
        yield f"{name} --unit {unit}", answer, close(12.5 * scale) if own in (None, scale) else REFUSED
    for ms, cells in CELLS.items():
        for cell in cells:
            answer = partial(imported, f"key\tms\na\t{cell}\n")
            yield f"a cell of {cell!r}", answer, REFUSED if ms is None else close(ms)
    for name, text in BROKEN.items():
        yield name, partial(imported, text), REFUSED
    yield "a spread of another unit", partial(imported, "key,ms,sd_us\na,12.5,100\n"), close(12.5)
    yield from _settings()
    for parse, texts in QUANTITIES.items():
        for text, right in texts.items():
            yield f"a budget of {text!r}", partial(parse, text), right
    for name, (make, shape, macs) in MACS.items():
        yield f"MACs of {name}", partial(_macs, make, shape), macs


SETTINGS = {"epochs": 3, "batch-size": 48, "seed": 7, "warmup-epochs": 2, "workers": 2}
FINE = "{}", '"{}"'
WRONG = (
    "2.7", "32.5", "yes", "true", "many", "-3", "[3]", ".nan", ".inf", "1e99", "{a: 1}", "1:30", "2026-11-30",
)  # fmt: skip
TWICE = {
    "a key twice": "latency-budget: 50%\nseed: 1\nseed: 2\n",
    "two spellings of a key": "latency-budget: 50%\nbatch-size: 8\nbatch_size: 16\n",
    "a section twice": "latency-budget: 50%\nunas: {tau: 1}\nunas: {w_lr: 0.1}\n",
    "a list": "- seed: 1\n", "half a file": "unas: {tau: 1\n", "an unknown key": "latency-budget: 50%\nsead: 1\n",
}  # fmt: skip


class _BegunError(Exception):
    pass


def begun(option: str, *words: str, content: str = "") -> Any:
    """The value of an option with which a search would begin."""
    seen: list[Any] = []

    def search(settings: Any, *others: Any) -> Any:
        seen.append(settings)
        raise _BegunError

    Path("my.yaml").write_text(content)
    with patch("unas_hw.api.search.searched", search):
        try:
            said("search", *words)
        except _BegunError:
            name = option.replace("-", "_")
            return getattr(seen[0] if hasattr(seen[0], name) else seen[0].config, name)
    raise ValueError("no search was begun")


def _settings() -> Inputs:
    for (option, value), text in product(SETTINGS.items(), (*FINE, *WRONG)):
        filled = text.format(value) if text in FINE else text
        right = value if text in FINE else -3 if (option, text) == ("seed", "-3") else REFUSED
        content = f"latency-budget: 50%\n{option}: {filled}\n"
        yield f"{option}: {filled}", partial(begun, option, "--config", "my.yaml", content=content), right
        told = ("--latency-budget", "50%", "--set", f"{option}={filled}")
        yield f"--set {option}={filled}", partial(begun, option, *told), right
    for name, content in TWICE.items():
        yield name, partial(begun, "seed", "--config", "my.yaml", content=content), REFUSED


QUANTITIES: dict[Callable[[str], float], dict[str, Any]] = {
    parse_ms: {
        "80ms": 80.0, "80 ms": 80.0, "0.08s": 80.0, "80000us": 80.0, "80000µs": 80.0, "80000μs": 80.0, "2min": 12e4,
        "80 msec": 80.0, "1e3ms": 1000.0, "80": REFUSED, "80,5ms": REFUSED, "-1ms": REFUSED, "nanms": REFUSED,
        "80 m s": REFUSED, "80ms80ms": REFUSED, "80fps": REFUSED,
    },
    parse_energy_mj: {"40mJ": 40.0, "0.04J": 40.0, "40MJ": REFUSED, "40": REFUSED, "40ms": REFUSED},
    parse_bytes: {"2GB": 2e9, "2GiB": 2.0**31, "512kB": 512e3, "2Gb": REFUSED, "2": REFUSED},
}  # fmt: skip


class _First(nn.Module):
    """The first of what a module gives, which is told its input so often."""

    def __init__(self, inner: nn.Module, times: int = 1) -> None:
        super().__init__()
        self.inner, self.times = inner, times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(*[x] * self.times)[0]
        return out


T, D, H = 10, 64, 32
ATTENTION = T * D * D * 4 + 2 * T * T * D
MACS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "a linear layer": (lambda: nn.Linear(D, H), (1, D), D * H),
    "a linear layer over time": (lambda: nn.Linear(D, H), (1, T, D), T * D * H),
    "a convolution": (lambda: nn.Conv2d(3, 8, 3, padding=1), (1, 3, 16, 16), 256 * 9 * 3 * 8),
    "a depthwise convolution": (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (1, 8, 16, 16), 256 * 9 * 8),
    "a transposed convolution": (lambda: nn.ConvTranspose2d(4, 8, 2, stride=2), (1, 4, 8, 8), 64 * 4 * 8 * 4),
    "a GRU": (lambda: _First(nn.GRU(D, H, batch_first=True)), (1, T, D), T * 3 * H * (D + H)),
    "a GRU of two layers": (lambda: _First(nn.GRU(D, H, 2, batch_first=True)), (1, T, D), T * 3 * H * (D + 3 * H)),
    "a GRU both ways": (
        lambda: _First(nn.GRU(D, H, batch_first=True, bidirectional=True)), (1, T, D), 2 * T * 3 * H * (D + H),
    ),
    "an LSTM": (lambda: _First(nn.LSTM(D, H, batch_first=True)), (1, T, D), T * 4 * H * (D + H)),
    "an RNN": (lambda: _First(nn.RNN(D, H, batch_first=True)), (1, T, D), T * H * (D + H)),
    "attention": (lambda: _First(nn.MultiheadAttention(D, 4, batch_first=True), 3), (1, T, D), ATTENTION),
    "an encoder layer": (
        lambda: nn.TransformerEncoderLayer(D, 4, 128, batch_first=True), (1, T, D), ATTENTION + 2 * T * D * 128,
    ),
}  # fmt: skip


def _macs(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> int:
    return Workload(OpSpec("mine", {}, shape), make).cost.macs
