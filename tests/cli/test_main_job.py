"""From nothing to a verified network, by the commands, on a simulated phone; and the JSON that others rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, TINY, Run, read

UNAS_MBCONV = "k5e3,k3e3,id,id,k7e3,id,id,id,k7e3,k3e3,k3e3,k3e3,k5e3,k3e3,k3e3,k3e3,k7e6,k7e3,k7e3,k7e3,k7e6"
PROXYLESS_GPU = "k5e3,id,id,id,k7e3,id,id,k3e3,k7e6,id,id,k5e3,k5e6,id,k3e3,k5e3,k7e6,k7e6,k7e6,k5e6,k7e6"


def test_profile_search_train_export_verify_one_after_the_other(unas_hw: Run, images: str) -> None:
    profiled = read(unas_hw("profile", "--device", "sim:phone", "--dataset", images, "--json"))
    assert profiled["device"] == "sim:phone"
    assert profiled["noise_floor"] < 3

    searched = unas_hw("search", "--latency-budget", "60%", "--dataset", images, *QUICK, "--json")
    assert searched.exit_code == 0, searched.stderr
    assert "the last profiled" in searched.stderr
    found = read(searched)
    keys = "run space architecture table budget_ms predicted_ms measured_ms feasible valid_accuracy seconds"
    assert set(keys.split()) <= found.keys()
    assert found["feasible"] is True
    assert found["measured_ms"] <= found["budget_ms"]
    assert Path(found["run"], "architecture.json").is_file()

    trained = read(unas_hw("train", "--epochs", "2", "--json"))
    assert trained["architecture"] == found["architecture"]

    exported = unas_hw("export", "--json")
    report = read(exported)
    keys = "passed format path max_abs_error top1_agreement predicted_ms measured_ms budget_ms checks"
    assert set(keys.split()) <= report.keys()
    assert report["passed"] is True, report
    assert exported.exit_code == 0
    assert all(check.keys() == {"name", "seen", "allowed", "passed", "words"} for check in report["checks"])
    assert report["max_abs_error"] <= 1e-4
    assert json.loads(Path(found["run"], "export", "report.json").read_text()) == report

    again = read(unas_hw("verify", "--json"))
    assert again["passed"] is True
    assert again["path"] == report["path"]

    predicted = read(unas_hw("predict", "--architecture", f"{found['run']}/architecture.json", "--json"))
    assert predicted["predicted_ms"] == pytest.approx(found["predicted_ms"])
    assert predicted["low_ms"] < predicted["predicted_ms"] < predicted["high_ms"]
    assert predicted["coverage"] == 1
    assert predicted["params"] == trained["params"]
    assert read(unas_hw("predict", "--architecture", found["architecture"], "--json", "--dataset", images)) == predicted

    finished = unas_hw("search", "--latency-budget", "60%", "--dataset", images, *QUICK, "--json")
    assert read(finished) == found
    assert "is finished" in finished.stderr


@pytest.mark.slow
def test_a_space_with_dead_operations_is_profiled_and_searched(unas_hw: Run, images: str) -> None:
    words = ("--space", "nas_bench_201", "--dataset", images)
    assert read(unas_hw("profile", *words, "--device", "sim:phone", "--json"))["noise_floor"] < 3
    searched = unas_hw("search", *words, "--latency-budget", "50%", *QUICK, "--json")
    assert searched.exit_code == 0, searched.stderr
    found = read(searched)
    assert found["measured_ms"] <= found["budget_ms"]
    predicted = read(unas_hw("predict", "--architecture", found["architecture"], "--dataset", images, "--json"))
    assert predicted["predicted_ms"] == pytest.approx(found["predicted_ms"])
    cell = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"  # both convolutions are dead
    bare = "none,none,none,skip_connect,none,none"
    dead, alone = (read(unas_hw("predict", *words, "--architecture", each, "--json")) for each in (cell, bare))
    assert (dead["predicted_ms"], dead["params"]) == (alone["predicted_ms"], alone["params"])


@pytest.mark.slow
def test_a_search_without_a_table_profiles_first(unas_hw: Run, images: str) -> None:
    result = unas_hw(
        "search", "--latency-budget", "70%", "--dataset", images, *TINY, "--device", "sim:gpu", *QUICK, "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert "no table" in result.stderr
    assert "profiling sim:gpu first" in result.stderr


def test_a_budget_that_nothing_meets_is_answered_before_training(unas_hw: Run, images: str, folder: Path) -> None:
    unas_hw("profile", "--device", "sim:phone", "--dataset", images, *TINY)
    result = unas_hw("search", "--latency-budget", "1us", "--dataset", images, *TINY, "--json")
    assert result.exit_code == 3
    found = read(result)
    assert found["feasible"] is False
    assert 0.001 < found["space_min_ms"] < found["space_median_ms"] < found["space_max_ms"]
    assert not (folder / "runs").exists()
    told = unas_hw("search", "--latency-budget", "1us", "--dataset", images, *TINY)
    assert told.exit_code == 3
    assert "the fastest takes" in told.stdout


@pytest.mark.slow
def test_a_budget_that_binds_nothing_is_said_to_and_the_search_goes_on(unas_hw: Run, images: str) -> None:
    unas_hw("profile", "--device", "sim:phone", "--dataset", images, *TINY)
    result = unas_hw("search", "--latency-budget", "10s", "--dataset", images, *TINY, *QUICK, "--json")
    assert "binds nothing" in result.stderr
    assert read(result)["feasible"] is True


@pytest.mark.slow
def test_a_percentile_budget_judges_that_percentile(unas_hw: Run, images: str) -> None:
    unas_hw("profile", "--device", "sim:phone?noise=0.1", "--dataset", images, "--table", "noisy.jsonl")
    words = ("search", "--table", "noisy.jsonl", "--dataset", images, *QUICK, "--json")
    median = read(unas_hw(*words, "--latency-budget", "0.4ms", "--run", "median"))
    tail = read(unas_hw(*words, "--latency-budget", "0.4ms@p90", "--run", "tail"))
    assert tail["percentile"] == 90
    assert tail["measured_ms"] <= 0.4
    network = ("predict", "--table", "noisy.jsonl", "--dataset", images, "--json", "--architecture")
    # The tail is longer than the median, so the same budget leaves room for a smaller network only.
    assert read(unas_hw(*network, tail["architecture"]))["predicted_ms"] < 0.4 / 1.05
    assert median["percentile"] == 50


@pytest.mark.parametrize(
    ("choices", "params", "mmacs"), [(UNAS_MBCONV, 5_965_528, 428.0), (PROXYLESS_GPU, 7_119_848, 465.3)]
)
def test_the_published_networks_have_their_published_size(
    unas_hw: Run, choices: str, params: int, mmacs: float
) -> None:
    result = read(unas_hw("predict", "--space", "mbconv", "--architecture", choices, "--json"))
    assert result["params"] == params
    assert round(result["macs"] / 1e6, 1) == mmacs
    assert result["predicted_ms"] is None  # there is no table: unknown, not zero


def test_validate_reports_errors_in_percent(unas_hw: Run) -> None:
    unas_hw("profile", "--device", "sim:phone")
    result = read(unas_hw("tables", "validate", "--json", "--networks", "12"))
    keys = "networks mape max_error within_5 within_10 spearman noise_floor scale intercept_ms"
    assert set(keys.split()) <= result.keys()
    assert result["networks"] == 12
    assert 0.01 < result["mape"] < 5
    assert result["mape"] <= result["max_error"]
    assert result["spearman"] > 0.97
    assert result["noise_floor"] < 3


def test_tables_are_listed_and_shown(unas_hw: Run) -> None:
    assert "unas-hw profile" in unas_hw("tables", "list").stdout
    unas_hw("profile", "--device", "sim:phone")
    unas_hw("profile", "--device", "sim:gpu")
    assert [table["device"] for table in read(unas_hw("tables", "list", "--json"))][:2] == ["sim:gpu", "sim:phone"]
    shown = read(unas_hw("tables", "show", "--json"))
    assert {"schema", "device", "runtime", "threads", "precision", "units", "created", "environment"} <= shown.keys()
    row = next(row for row in shown["rows"] if row["role"] == "op")
    assert {"key", "latency_ms", "p10_ms", "p90_ms", "samples", "flags"} <= row.keys()
    assert "held-out error" in unas_hw("tables", "show", "sim_phone").stdout
    for words in (("--device", "sim:phone"), ("--table", "sim_phone"), ("sim_phone", "--threads", "1")):
        assert read(unas_hw("tables", "show", *words, "--json"))["device"] == "sim:phone"
    network = ("predict", "--space", "mbconv-small", "--architecture", ",".join(["k3e3"] * 9), "--json")
    assert read(unas_hw(*network))["table"].endswith("sim_gpu-simulated-1t-mbconv-small@1x1x8x8.jsonl")
    assert "sim_phone" in read(unas_hw(*network, "--device", "sim:phone"))["table"]


def test_spaces_and_devices_are_listed(unas_hw: Run) -> None:
    spaces = {space["name"]: space for space in read(unas_hw("spaces", "--json"))}
    assert spaces["mbconv"]["size"] == 7**15 * 6**6
    assert len(spaces["mbconv"]["decisions"]) == 21
    devices = [device["device"] for device in read(unas_hw("devices", "--json"))]
    assert devices == ["cpu", "gpu", "sim:phone", "sim:gpu", "note10", "pixel1"]
