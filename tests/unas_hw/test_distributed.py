"""Two processes find what one finds at the same total batch, to rounding, even if one of them dies meanwhile; only the
first writes and measures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from profilers.timing import timing_rule
from tests.unas_hw.conftest import TINY_SPACE
from unas_hw.distributed import ALONE, Ranks, join
from unas_hw.jobs.search import search
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.progress import finish
from unas_hw.search.settings import SearchSettings

SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}]
from tests.unas_hw.test_distributed import settings_of
from unas_hw.jobs.search import search
from profilers.timing import timing_rule
import torch
torch.set_num_threads(1)
rank, restarted = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"] == "1"
if restarted:
    Path("restarted-" + rank).touch()
for step in search(settings_of("of-2", *map(Path, sys.argv[1:])), timing_rule(4)):
    if rank == "1" and not restarted and step.stage == "search" and step.done:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def settings_of(run: str, dataset: Path, table: Path) -> SearchSettings:
    unas = UnasConfig(warmup_epochs=1, epochs=1, finetune_epochs=1, batch_size=48, architectures=2, weights_from="both")
    return SearchSettings(
        finals="none", budget="50%", space=TINY_SPACE, dataset=str(dataset), table=table, config=unas, run=run
    )


def _search_in_two(tmp_path: Path, dataset: Path, table: Path) -> None:
    """By torchrun; the second process is killed in the middle, and both are started again."""
    (tmp_path / "searching.py").write_text(SCRIPT.format(root=str(Path(__file__).parents[2])))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    words = [sys.executable, *launcher, "searching.py", str(dataset), str(table)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_find_what_one_finds_and_one_may_die_meanwhile(
    tmp_path: Path, npz: Path, tiny_table_path: Path
) -> None:
    finish(search(settings_of("of-1", npz, tiny_table_path), timing_rule(4)))
    _search_in_two(tmp_path, npz, tiny_table_path)
    one, two = (tmp_path / "runs" / name for name in ("of-1", "of-2"))
    assert {path.name for path in tmp_path.glob("restarted-*")} == {"restarted-0", "restarted-1"}
    lines = [[*map(json.loads, (run / "metrics.jsonl").read_text().splitlines())] for run in (one, two)]
    assert len(lines[0]) == len(lines[1]) == 2
    for left, right in zip(*lines, strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert right[name] == (pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value)
    assert lines[0][1]["cost"] is not None
    results = [json.loads((run / "result.json").read_text()) for run in (one, two)]
    assert results[0]["architecture"] == results[1]["architecture"]
    measured = [(run / "measurements.jsonl").read_text().count("search") for run in (one, two)]
    assert measured[0] == measured[1] > 0


def test_samples_are_shared_out_and_none_is_run_twice() -> None:
    places = [Ranks(rank, 3).mine(7) for rank in range(3)]
    assert sorted(place for each in places for place in each) == list(range(7))


def test_alone_nothing_is_exchanged() -> None:
    assert join() is ALONE and ALONE.first
    tensor = torch.ones(3)
    ALONE.sum_([tensor])
    assert tensor.tolist() == [1, 1, 1] and ALONE.from_first(2.5) == 2.5
