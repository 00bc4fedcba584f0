"""A small plan for the simulated phone, and a table made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_tables.collect import Planned, fill
from latency_tables.rows import ANCHOR, NETWORK, OP
from latency_tables.table import LatencyTable
from profilers.devices.simulated import SimulatedProfiler
from profilers.opspec import OpSpec
from profilers.testing import convolution
from profilers.timing import TimingRule
from profilers.workload import Workload

RULE = TimingRule(min_rounds=12, max_rounds=12, min_time_s=0)
BLOCKS = [convolution(8), convolution(16), convolution(32)]


def network(*counts: int) -> Workload:
    """A network of so many of each block."""
    parts = tuple(block for block, count in zip(BLOCKS, counts, strict=True) for _ in range(count))
    attrs = {"counts": "-".join(map(str, counts))}
    return Workload(OpSpec("network", attrs, (1, 8, 32, 32)), lambda: pytest.fail("nothing is built here"), parts)


NETWORKS = [network(1, 0, 0), network(3, 3, 3), network(1, 2, 3), network(3, 2, 1), network(0, 1, 1), network(2, 0, 2)]
PLAN = [
    *(Planned(block, OP) for block in BLOCKS),
    *(Planned(each, ANCHOR) for each in NETWORKS[:2]),
    *(Planned(each, NETWORK) for each in NETWORKS[2:]),
]


def measure(path: Path, device: str = "phone", *, more: bool = False) -> LatencyTable:
    """Fills the table and reads it."""
    with SimulatedProfiler(device, 1) as profiler:
        for _ in fill(path, "small plan", PLAN, profiler, RULE, more=more):
            pass
    return LatencyTable.load(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a table that is not there yet."""
    return tmp_path / "phone.jsonl"


@pytest.fixture
def table(path: Path) -> LatencyTable:
    """A finished one."""
    return measure(path)
