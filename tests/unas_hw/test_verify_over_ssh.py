"""An artifact is verified where it will run: on another machine, over a real ssh server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profilers.timing import TimingRule
from tests.profilers import sshd
from tests.unas_hw.conftest import PHONE, TINY_SPACE
from unas_hw.jobs.export import ExportSettings, export
from unas_hw.jobs.search import search
from unas_hw.jobs.verify import verify
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.progress import finish
from unas_hw.search.settings import SearchSettings

pytestmark = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.mark.slow
def test_outputs_and_latency_are_those_of_the_other_machine(
    server: sshd.Server, npz: Path, tiny_table_path: Path, rule: TimingRule
) -> None:
    unas = UnasConfig(warmup_epochs=0, epochs=0, finetune_epochs=1)
    told = SearchSettings(
        finals="none", budget="60%", space=TINY_SPACE, dataset=str(npz), table=tiny_table_path, run="one", config=unas
    )
    finish(search(told, rule))
    here = finish(export(ExportSettings(format="onnx", repair=False), rule))
    assert here["device"] == PHONE
    there = finish(verify(here["path"], device=server.address(), rule=rule))
    assert there["device"] == server.address()
    assert there["runtime"] == "onnxruntime"
    assert there["max_abs_error"] <= 1e-4
    assert there["p50_ms"] > 0 and there["p90_ms"] >= there["p50_ms"]
    assert there["peak_memory_bytes"] > 0  # which a simulated device does not tell
    assert there["not_checked"] == []
    names = [check["name"] for check in there["checks"]]
    assert "upper bound of measured_ms within the budget" in names
    assert "prediction error in percent" not in names  # the table is of another device
    damaged = Path(here["path"])
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    again = finish(verify(here["path"], device=server.address(), rule=rule))
    assert not again["passed"] and again["measured_ms"] is None
