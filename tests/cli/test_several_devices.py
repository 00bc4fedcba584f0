"""``unas-hw profile`` with several ``--device``."""

from __future__ import annotations

import json

from tests.cli.conftest import Run, read

QUICK = ("--rounds", "8", "--networks", "4")


def test_alike_devices_share_a_table_and_others_get_their_own(unas_hw: Run) -> None:
    done = unas_hw(
        "profile", "--device", "sim:phone", "--device", "sim:phone?seed=2", "--device", "sim:gpu", *QUICK, "--json"
    )
    assert done.exit_code == 0
    phone, gpu = read(done)
    assert (phone["device"], gpu["device"]) == ("sim:phone", "sim:gpu")
    assert phone["sessions"] >= 2
    assert phone["rows_measured"] == gpu["rows_measured"]


def test_a_missing_or_lost_device_does_not_stop_the_others_and_is_named_at_the_end(unas_hw: Run) -> None:
    done = unas_hw("profile", "--device", "gpu", "--device", "sim:phone", "--device", "sim:gpu?drop_after=200", *QUICK)
    assert done.exit_code == 1
    assert "held-out error" in done.stdout and "sim:phone" in done.stdout
    assert "no NVIDIA GPU" in done.stderr and "sim:gpu?drop_after=200 dropped the connection" in done.stderr
    again = unas_hw("profile", "--device", "sim:phone", "--json", *QUICK)
    assert read(again)["rows_measured"] > 30


def test_one_path_cannot_be_the_table_of_two_kinds_of_device(unas_hw: Run) -> None:
    done = unas_hw("profile", "--device", "sim:phone", "--device", "sim:gpu", "--table", "one.jsonl", *QUICK)
    assert done.exit_code == 1
    assert "one.jsonl is one table, and the devices are of 2 kinds" in done.stderr


def test_what_is_for_one_device_refuses_several(unas_hw: Run) -> None:
    done = unas_hw("profile", "--device", "sim:phone", "--device", "sim:gpu", "--dry-run")
    assert done.exit_code == 2
    assert "one --device at a time" in done.stderr


def test_energy_is_measured_beside_the_latency(unas_hw: Run) -> None:
    done = unas_hw("profile", "--device", "sim:phone", "--energy", *QUICK)
    assert done.exit_code == 0
    assert "rows by simulated, idle power subtracted" in done.stdout
    table = unas_hw("tables", "export", "sim", "--format", "json").stdout
    assert all(row["energy_mj"] > 0 for row in json.loads(table)["rows"] if row["role"] != "sentinel")


def test_a_precision_is_part_of_the_table_and_search_takes_the_last_profiled(unas_hw: Run) -> None:
    done = unas_hw("profile", "--device", "sim:phone", "--precision", "fp16", *QUICK, "--json")
    assert done.exit_code == 0
    assert read(done)["subject"] == "mbconv-small@1x1x8x8:float16"
    predicted = unas_hw(
        "predict", "--space", "mbconv-small", "--architecture", "k3e3,id,id,k3e3,id,id,k3e3,id,id", "--json"
    )
    assert "float16" in read(predicted)["table"]
    refused = unas_hw("profile", "--device", "sim:phone", "--precision", "half")
    assert refused.exit_code == 2 and "choose one of fp32" in refused.stderr
