"""Bad input gives one clear message with the mend, the right exit code, and loses nothing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import Result

from tests.cli.conftest import QUICK, TINY, Run, read

ROOT = Path(__file__).parent.parent.parent


def refused(result: Result, exit_code: int, *words: str) -> None:
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    message = result.stderr[result.stderr.index("Error: ") :]
    what, mend = message.strip().split("\n")
    assert mend.startswith("  mend: ")
    for word in words:
        assert word in what + mend, message


def test_an_unknown_space_names_the_nearest(unas_hw: Run) -> None:
    refused(unas_hw("profile", "--space", "mbcnov"), 2, "mbcnov", "did you mean 'mbconv'")


def test_an_unknown_device_or_runtime_names_the_nearest(unas_hw: Run) -> None:
    refused(unas_hw("profile", "--device", "cpuu"), 2, "did you mean 'cpu'")
    refused(unas_hw("profile", "--runtime", "onnxruntim"), 2, "did you mean 'onnxruntime'")


def test_more_threads_than_cores_are_refused(unas_hw: Run) -> None:
    refused(unas_hw("profile", "--threads", "4096"), 1, "4096 threads", "--threads ")


@pytest.mark.parametrize(
    "words",
    [
        "profile --device sim:phone --space mbconv-small --table https://example.org/t.jsonl",
        "tables adapt --from pixel1 --device sim:phone --space mbconv-mobile --output hf://me/t.jsonl",
        "tables import lut.csv --output https://example.org/t.jsonl",
    ],
)
def test_nothing_is_written_to_an_address_and_no_folder_is_called_like_one(
    unas_hw: Run, folder: Path, words: str
) -> None:
    refused(unas_hw(*words.split()), 2, "cannot be written to", "give a path")
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line_with_the_mend(unas_hw: Run) -> None:
    refused(unas_hw("profile", "--device", "gpu"), 1, "no NVIDIA GPU", "unas-hw profile --device cpu")


@pytest.mark.parametrize("budget", ["80", "-3ms", "0ms", "nan ms", "80 parsecs", "80ms@p0", "120%", ""])
def test_a_budget_that_is_none_is_refused_before_anything_is_done(unas_hw: Run, budget: str, folder: Path) -> None:
    refused(unas_hw("search", "--latency-budget", budget), 2)
    assert list(folder.iterdir()) == []


def test_a_budget_without_a_unit_is_told_the_right_spelling(unas_hw: Run) -> None:
    refused(unas_hw("search", "--latency-budget", "80"), 2, "'80' has no unit", "80ms")


def test_a_search_without_a_budget_and_options_of_other_methods_are_refused(unas_hw: Run, folder: Path) -> None:
    refused(unas_hw("search"), 2, "no budget", "--latency-budget")
    refused(unas_hw("search", "--method", "freenas", "--estimator", "rebar"), 2, "--estimator does nothing")
    refused(
        unas_hw("search", "--method", "radars", "--memory-budget", "2GB", "--children", "3"),
        2,
        "--children does nothing",
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("freenas", "freenas.keep=0"),
        ("monas", "monas.batch=0"),
        ("monas", "monas.child_epochs=-1"),
        ("monas", "monas.child_batch_size=1"),
        ("monas", "monas.min_accuracy=90"),
        ("radars", "radars.prune_every=0"),
        ("radars", "radars.decay=1.5"),
    ],
)
def test_hyper_parameters_that_cannot_be_are_refused_before_anything_is_done(
    unas_hw: Run, folder: Path, method: str, setting: str
) -> None:
    refused(unas_hw("search", "--method", method, "--set", setting), 2, setting.partition(".")[2])
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("phone")
def test_other_budgets_methods_and_estimators_are_refused_with_the_mend(unas_hw: Run, images: str) -> None:
    search = ("search", "--latency-budget", "50%", "--dataset", images)
    refused(unas_hw(*search, "--energy-budget", "40"), 2, "'40' has no unit", "--energy-budget", "mJ")
    refused(unas_hw(*search, "--params-budget", "4Mb"), 2, "--params-budget")
    refused(unas_hw(*search, "--method", "dats"), 2, "did you mean 'darts'")
    refused(unas_hw(*search, "--estimator", "rebra"), 2, "did you mean 'rebar'")
    refused(unas_hw(*search, "--estimator", "reinforce-loo"), 2, "--architectures 2")
    refused(unas_hw(*search, "--budget-form", "hing"), 2, "hinge")
    refused(
        unas_hw(*search, "--energy-budget", "40mJ"), 1, "no energy", "unas-hw profile --device sim:phone", "--energy"
    )


@pytest.mark.usefixtures("phone")
def test_a_budget_that_no_network_keeps_is_told_before_anything_is_trained(unas_hw: Run, images: str) -> None:
    found = unas_hw("search", "--latency-budget", "50%", "--dataset", images, "--params-budget", "10")
    assert found.exit_code == 3
    assert "no network of mbconv-small meets the params budget of 10" in found.stdout
    assert not Path("runs").exists()


def test_a_table_of_another_device_is_refused(unas_hw: Run, images: str) -> None:
    unas_hw("profile", "--device", "sim:phone", "--dataset", images, "--table", "phone.jsonl")
    before = Path("phone.jsonl").read_bytes()
    words = ("--dataset", images, "--table", "phone.jsonl", "--device", "sim:gpu")
    refused(unas_hw("search", "--latency-budget", "50%", *words), 1, "phone.jsonl", "sim:phone")
    refused(unas_hw("profile", *words), 1, "another device")
    assert Path("phone.jsonl").read_bytes() == before


def test_a_table_that_lacks_operations_names_one_and_the_command(unas_hw: Run, images: str) -> None:
    unas_hw("profile", "--device", "sim:phone", "--table", "digits.jsonl")
    path = Path("digits.jsonl")
    path.write_text(path.read_text().replace('"device":"sim:phone"', '"device":"adb://gone"'))
    result = unas_hw("search", "--latency-budget", "50%", "--dataset", images, "--table", "digits.jsonl")
    refused(
        result, 1, "has no row for classifier[classes=3]", "the nearest is classifier[classes=10]", "unas-hw profile"
    )
    assert "1 rows are missing and not measured" in result.stderr


def test_a_table_cut_off_in_its_last_line_goes_on(unas_hw: Run, images: str) -> None:
    words = ("profile", "--device", "sim:phone", "--dataset", images, "--table", "cut.jsonl", "--json")
    whole = read(unas_hw(*words))
    path = Path("cut.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    assert read(unas_hw(*words))["rows_measured"] == whole["rows_measured"]


def test_a_table_damaged_in_the_middle_names_the_line_and_is_left_alone(unas_hw: Run) -> None:
    unas_hw("profile", "--device", "sim:phone", "--table", "cut.jsonl")
    lines = Path("cut.jsonl").read_text().split("\n")
    lines[3] = lines[3][:50]
    damaged = "\n".join(lines)
    Path("cut.jsonl").write_text(damaged)
    for words in (("profile", "--device", "sim:phone"), ("search", "--latency-budget", "50%")):
        refused(unas_hw(*words, "--table", "cut.jsonl"), 1, "cut.jsonl, line 4", "head -n 3")
    refused(unas_hw("tables", "show", "cut.jsonl"), 1, "line 4")
    assert Path("cut.jsonl").read_text() == damaged


def test_a_damaged_table_is_listed_as_such_beside_the_others(unas_hw: Run) -> None:
    for device in ("sim:phone", "sim:gpu"):
        unas_hw("profile", "--device", device)
    phone = next(Path("home", "tables").glob("sim_phone*"))
    phone.write_text("damaged\n")
    assert "sim:gpu" in unas_hw("tables", "list").stdout
    damaged, sound, *_ = read(unas_hw("tables", "list", "--json"))
    assert sound["device"] == "sim:gpu"
    assert damaged["path"].endswith(phone.name) and "line 1" in damaged["error"]


def test_a_file_that_is_no_table_is_said_to_be_none(unas_hw: Run) -> None:
    Path("other.jsonl").write_text('{"some": "json"}\n')
    refused(unas_hw("tables", "show", "other.jsonl"), 1, "other.jsonl")
    assert Path("other.jsonl").read_text() == '{"some": "json"}\n'


@pytest.mark.parametrize(
    "content", ["{not json", "[1, 2]", '{"choices": "k3e3"}', '{"space": "darts", "choices": ["a"]}']
)
def test_wrong_json_for_an_architecture_is_refused(unas_hw: Run, content: str) -> None:
    Path("found.json").write_text(content)
    result = unas_hw("predict", "--architecture", "found.json")
    assert result.exit_code == 2
    assert "mend: " in result.stderr


def test_an_unknown_choice_names_the_nearest(unas_hw: Run) -> None:
    choices = ",".join(["k3e4"] + ["k3e3"] * 8)
    refused(
        unas_hw("predict", "--space", "mbconv-small", "--architecture", choices), 2, "stage1.1", "did you mean 'k3e"
    )


@pytest.mark.parametrize("command", ["train", "export", "verify"])
def test_a_missing_run_says_how_to_make_one(unas_hw: Run, command: str) -> None:
    refused(unas_hw(command), 1, "unas-hw search --latency-budget")
    refused(unas_hw(command, "--run", "nobody"), 1, "nobody", "unas-hw search --latency-budget")


@pytest.mark.usefixtures("phone")
def test_a_run_that_was_begun_with_other_settings_is_left_alone(unas_hw: Run, images: str) -> None:
    words = ("search", "--dataset", images, *QUICK, "--run", "mine", "--json")
    found = read(unas_hw(*words, "--latency-budget", "60%"))
    refused(unas_hw(*words, "--latency-budget", "70%"), 1, "budget", "--run NAME")
    assert read(unas_hw(*words, "--latency-budget", "60%")) == found


@pytest.mark.usefixtures("phone")
def test_a_format_that_is_not_there_or_cannot_do_what_is_asked_is_refused(unas_hw: Run, images: str) -> None:
    unas_hw("search", "--latency-budget", "60%", "--dataset", images, *QUICK)
    refused(unas_hw("export", "--format", "onx"), 2, "onx", "onnx")
    refused(unas_hw("export", "--format", "ncnn", "--precision", "int8"), 1, "no int8", "--precision fp32, fp16")
    refused(unas_hw("export", "--batch", "several"), 2, "several", "--batch dynamic:1-64")
    refused(unas_hw("export", "--precision", "fp12"), 2, "fp12", "bf16")
    refused(unas_hw("verify", "nowhere.onnx"), 1, "nowhere.onnx", "unas-hw export")
    refused(unas_hw("verify"), 1, "no exported model", "unas-hw export")


def test_a_missing_data_set_is_refused(unas_hw: Run) -> None:
    refused(unas_hw("search", "--latency-budget", "50%", "--dataset", "cifar"), 1, "cifar", "digits")
    Path("bad.npz").write_text("no zip")
    refused(unas_hw("search", "--latency-budget", "50%", "--dataset", "bad.npz"), 1, "bad.npz", "numpy.savez")


def test_a_folder_that_cannot_be_written_is_named(unas_hw: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("in the way")
    monkeypatch.setenv("UNAS_HW_HOME", str(folder / "file"))
    refused(unas_hw("profile", "--device", "sim:phone"), 1, "file", "UNAS_HW_HOME")
    assert (folder / "file").read_text() == "in the way"


@pytest.mark.slow
def test_an_interrupt_is_one_message_and_what_was_measured_is_kept(folder: Path) -> None:
    script = "import sys; from cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", script, "profile", "--table", "t.jsonl"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment, process_group=0
    ) as process:
        assert process.stderr is not None
        seen = [process.stderr.readline()]  # it has begun to convert
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to everything that was started
        seen += process.stderr.readlines()
    assert process.returncode == 130
    message = "".join(seen)
    assert "Error: interrupted\n  mend: give the same command again" in message
    assert "Traceback" not in message
    assert b'"record":"header"' in (folder / "t.jsonl").read_bytes()


@pytest.mark.slow  # two processes that import PyTorch
def test_a_full_disk_is_said_to_be_full_and_nothing_measured_is_lost(folder: Path) -> None:
    # A real limit of the operating system: no file of this process may grow beyond it.
    script = "import sys; from cli.main import main; main(sys.argv[1:])"
    words = ("--device", "sim:phone", *TINY, "--networks", "4", "--rounds", "8", "--table", "t.jsonl")
    command = [sys.executable, "-c", script, "profile", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))

    full = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, preexec_fn=limit)
    assert full.returncode == 1, full.stderr
    assert "the disk is full" in full.stderr
    assert "run the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    kept = (folder / "t.jsonl").read_bytes()
    assert len(kept) == 12_000
    again = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert again.returncode == 0, again.stderr
    measured = (folder / "t.jsonl").read_text()
    samples = [line for line in kept.decode().split("\n")[:-1] if '"record":"sample"' in line]
    assert samples
    for line in samples[:50]:
        ms = line.partition('"ms":')[2].partition(",")[0]
        assert ms in measured
