"""``export``, ``verify`` and ``search --export`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import QUICK, TINY, Run, read

pytestmark = pytest.mark.usefixtures("remembered_exports")


@pytest.fixture
def found(unas_hw: Run, images: str) -> Any:
    """Of a search that exported."""
    unas_hw("profile", "--device", "sim:phone", "--dataset", images, *TINY)
    words = ("search", "--latency-budget", "60%", "--dataset", images, *TINY, *QUICK)
    closed = unas_hw(*words, "--export", "--json")
    assert closed.exit_code == 0, closed.stderr
    return read(closed)


@pytest.mark.slow
def test_a_search_exports_and_verifies_in_one_command(unas_hw: Run, found: Any) -> None:
    report = found["export"]
    assert report["passed"] and report["format"] == "onnx"
    assert report["architecture"] == found["architecture"]
    assert Path(found["run"], "export", "model.onnx").is_file()

    verified = unas_hw("verify", f"{found['run']}/export/model.onnx")
    assert verified.exit_code == 0
    assert f"{found['run']}/export/model.onnx (onnx, fp32, batch dynamic:1-1024" in verified.stdout
    report_md = Path(found["run"], "export", "report.md").read_text()
    assert report_md.startswith("# model.onnx: passed")

    missed = Path(found["run"], "result.json")
    missed.write_text(json.dumps({**json.loads(missed.read_text()), "budget_ms": 0.9 * report["measured_ms"]}))
    told = unas_hw("export", "--no-repair")
    assert told.exit_code == 3
    assert "BUDGET MISSED" in told.stdout
    assert f"mend: unas-hw export --run {found['run']} --format onnx --precision float32 --repair" in told.stdout
    repaired = unas_hw("export")
    assert repaired.exit_code == 0, repaired.stdout
    assert "another network in" in repaired.stdout and "the table's scale is x" in repaired.stdout


@pytest.mark.slow  # files run in processes of their own, which import PyTorch
def test_a_finished_search_writes_other_formats(unas_hw: Run, found: Any) -> None:
    again = unas_hw("search", "--config", f"{found['run']}/config.yaml", "--export", "torch")  # only the file is new
    assert again.exit_code == 0
    assert "verdict" in again.stdout and "passed" in again.stdout
    assert "not checked  latency: torch files are source" in again.stdout
    assert read(unas_hw("export", "--format", "openvino", "--json"))["passed"] is True


def test_an_unknown_format_is_refused_before_the_search(unas_hw: Run, images: str) -> None:
    refused = unas_hw("search", "--latency-budget", "60%", "--dataset", images, "--export", "onxx")
    assert refused.exit_code == 2
    assert "did you mean 'onnx'" in refused.stderr
    assert not Path("runs").exists()
