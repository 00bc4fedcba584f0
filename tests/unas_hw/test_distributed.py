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

from unas_hw.distributed import ALONE, Ranks, join

SCRIPT = """
import os, signal, sys
sys.path[:0] = [{root!r}]
from unas_hw.jobs.search import search
from unas_hw.search.settings import SearchSettings
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.progress import finish
from latency_tables.home import Target
from profilers.timing import timing_rule
import torch, json
torch.set_num_threads(1)
unas = UnasConfig(warmup_epochs=1, epochs=1, finetune_epochs=1, batch_size=1000, architectures=2, weights_from="both")
job = search(SearchSettings(budget="50%", space={space!r}, device="sim:phone", config=unas,
    run=sys.argv[1]), timing_rule(4))
if sys.argv[2:] and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    for step in job:
        if step.stage == "search" and step.done:
            os.kill(os.getpid(), signal.SIGKILL)
if os.environ.get("TORCHELASTIC_RESTART_COUNT") == "1":
    open(f"restarted-{{os.environ['RANK']}}", "w").close()
found = finish(job)
if found:
    print(json.dumps(found))
"""


def _search(tmp_path: Path, name: str, processes: int, *, killed: bool = False) -> Path:
    script = tmp_path / "searching.py"
    root = Path(__file__).parents[2]
    script.write_text(SCRIPT.format(root=str(root), space=str(root / "examples" / "tiny.yaml")))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher += ["--max-restarts", "1"] if killed else []
    words = [sys.executable, *(launcher if processes > 1 else []), str(script), name, *(["killed"] if killed else [])]
    environment = os.environ | {"UNAS_HW_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (found,) = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return tmp_path / str(found["run"])


@pytest.mark.slow
def test_two_processes_find_what_one_finds_and_one_may_die_meanwhile(tmp_path: Path) -> None:
    one, two = _search(tmp_path, "of-1", 1), _search(tmp_path, "of-2", 2, killed=True)  # torchrun starts both again
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
