"""SIGKILL at any byte of the journal, or while the finished table is written, costs at most the line it fell in."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from latency_tables import storage
from latency_tables.table import LatencyTable
from profilers.profiler import SENTINEL
from tests.latency_tables.conftest import BLOCKS, PLAN, RULE, measure

ROOT = Path(__file__).parents[2]
PLACES = 8
"""How many bytes of the journal a profile is killed at."""


def die(folder: str, *places: str) -> None:
    """In a process of its own: one child per place, which kills itself there. Forking saves the imports."""
    for workload in (SENTINEL, *(planned.workload for planned in PLAN)):
        assert workload.cost  # counted once for all children
    for place in places:
        child = os.fork()
        if child == 0:
            _kill_at(place)
            measure(Path(folder) / f"{place}.jsonl")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, place


def _kill_at(place: str) -> None:
    def killed(*_: object) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    if place in ("fsync", "replace"):
        setattr(os, place, killed)
        return
    write, left = os.write, int(place)

    def counted(descriptor: int, data: bytes) -> int:
        nonlocal left
        if len(data) > left:
            write(descriptor, data[:left])
            killed()
        left -= len(data)
        return write(descriptor, data)

    os.write = counted  # type: ignore[assignment]  # its own takes any buffer


def _journal(path: Path) -> bytes:
    """What an undisturbed profile appends."""
    appended: list[bytes] = []
    write = os.write

    def noted(descriptor: int, data: bytes) -> int:
        appended.append(data)
        return write(descriptor, data)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "write", noted)
        measure(path)
    return b"".join(appended)


def _samples(path: Path) -> Counter[tuple[int, int, str, float]]:
    table = LatencyTable.load(path)
    return Counter(
        (session, sample.tick, sample.key, sample.ms) for session, taken in table.samples.items() for sample in taken
    )


@dataclass(frozen=True)
class Killed:
    """One undisturbed table, and those that were killed at a byte of the journal or at a step of the last write."""

    undisturbed: LatencyTable
    at_bytes: dict[int, Path]
    at_steps: dict[str, Path]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    whole = _journal(folder / "undisturbed.jsonl")
    places = sorted(random.Random(0).sample(range(whole.index(b"\n") + 1, len(whole)), PLACES))
    steps = ["fsync", "replace"]
    code = "import sys; from tests.latency_tables.test_killed import die; die(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(folder), *map(str, places), *steps]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    return Killed(
        undisturbed=LatencyTable.load(folder / "undisturbed.jsonl"),
        at_bytes={place: folder / f"{place}.jsonl" for place in places},
        at_steps={step: folder / f"{step}.jsonl" for step in steps},
    )


def test_killed_at_any_byte_it_goes_on_and_no_sample_is_lost_or_doubled(killed: Killed) -> None:
    assert any(storage.read(path).torn for path in killed.at_bytes.values())
    for place, path in killed.at_bytes.items():
        assert path.stat().st_size == place
        journaled = sum(json.loads(line)["record"] == "sample" for line in path.read_bytes().split(b"\n")[:-1])
        before = _samples(path)
        assert before.total() == journaled
        table = measure(path)
        after = _samples(path)
        assert before <= after
        assert max(after.values()) == 1
        assert table.measurements.keys() == killed.undisturbed.measurements.keys()
        counts = Counter(key for _, _, key, _ in after.elements())
        assert {counts[block.key] for block in BLOCKS} == {RULE.max_rounds}


def test_killed_while_the_finished_table_is_written_it_is_finished_without_measuring(killed: Killed) -> None:
    for path in killed.at_steps.values():
        before = _samples(path)
        table = measure(path)
        assert _samples(path) == before
        assert table.hash == killed.undisturbed.hash
        assert table.calibration == killed.undisturbed.calibration
