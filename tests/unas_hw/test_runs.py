"""A run folder can be left at any moment and taken up again, but only by the same search; what a kill tore off is
forgotten, and what is damaged is called so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from profilers.errors import FileError
from unas_hw.errors import RunError
from unas_hw.runs import RUNS, Run

CONFIG: dict[str, Any] = {"budget": "50%", "seed": 0, "input_shape": [1, 1, 8, 8]}


@pytest.fixture
def run() -> Run:
    return Run.begin(RUNS / "one", CONFIG)


def test_a_run_that_was_begun_can_be_opened(run: Run) -> None:
    opened = Run.open(run.path)
    assert (opened.path, opened.config) == (run.path, CONFIG)


def test_the_same_settings_take_a_run_up_again(run: Run) -> None:
    run.append("metrics.jsonl", {"epoch": 1})
    again = Run.begin(run.path, dict(CONFIG))
    assert again.lines("metrics.jsonl") == [{"epoch": 1}]


def test_other_settings_are_refused_with_both_values(run: Run) -> None:
    with pytest.raises(RunError, match="begun with seed=0, not 7") as caught:
        Run.begin(run.path, {**CONFIG, "seed": 7})
    assert "--run" in caught.value.mend
    assert Run.open(run.path).config == CONFIG


def test_a_run_that_is_older_than_a_setting_is_one_that_did_what_was_done_then(run: Run) -> None:
    Run.begin(run.path, {**CONFIG, "supernet": "separate"})
    with pytest.raises(RunError, match="begun with supernet='separate', not 'entangled'"):
        Run.begin(run.path, {**CONFIG, "supernet": "entangled"})


def test_a_run_is_found_by_name_by_path_and_as_the_last(run: Run) -> None:
    second = Run.begin(RUNS / "two", CONFIG)
    assert Run.find("one").path == run.path
    assert Run.find(str(run.path)).path == run.path
    assert Run.find(None).path == second.path
    Run.begin(run.path, CONFIG)
    assert Run.find(None).path == run.path  # taken up again, it is the last


def test_a_run_that_is_not_there_is_refused_with_the_command_that_makes_one(run: Run) -> None:
    with pytest.raises(RunError, match="there is no run in runs/three") as caught:
        Run.find("three")
    assert "unas-hw search" in caught.value.mend


def test_two_processes_do_not_work_in_one_folder(run: Run) -> None:
    with (
        run.alone(),
        pytest.raises(RunError, match="another process is working in runs/one"),
        Run.open(run.path).alone(),
    ):
        pass
    with Run.open(run.path).alone():
        pass


def test_without_any_run_the_folder_that_was_looked_in_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=str(tmp_path / "runs")) as caught:
        Run.find(None)
    assert "unas-hw search" in caught.value.mend


def test_a_line_that_a_kill_left_unfinished_is_not_there(run: Run) -> None:
    run.append("metrics.jsonl", {"epoch": 1})
    run.append("metrics.jsonl", {"epoch": 2})
    path = run.path / "metrics.jsonl"
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        lines = run.lines("metrics.jsonl")
        assert lines == [{"epoch": 1}, {"epoch": 2}][: whole[:length].count(b"\n")]


def test_a_journal_that_is_damaged_in_its_middle_is_called_so(run: Run) -> None:
    (run.path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged") as caught:
        run.lines("metrics.jsonl")
    assert str(run.path) in caught.value.mend


def test_a_journal_that_was_never_written_is_empty(run: Run) -> None:
    assert run.lines("metrics.jsonl") == []


def test_lines_after_the_last_checkpoint_are_dropped(run: Run) -> None:
    for epoch in (1, 2, 3):
        run.append("metrics.jsonl", {"epoch": epoch})
    run.keep_lines("metrics.jsonl", 2)
    assert run.lines("metrics.jsonl") == [{"epoch": 1}, {"epoch": 2}]
    run.append("metrics.jsonl", {"epoch": 3})
    assert (run.path / "metrics.jsonl").read_text() == '{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n'


def test_dropping_lines_drops_a_torn_one_too(run: Run) -> None:
    (run.path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo')
    run.keep_lines("metrics.jsonl", 5)
    assert (run.path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'


def test_a_file_written_is_the_file_read(run: Run) -> None:
    content = {"a": [1, 2.5, None], "b": "µ"}
    run.write_json("export/report.json", content)
    assert run.read_json("export/report.json") == content
    assert json.loads((run.path / "export" / "report.json").read_text()) == content


@pytest.mark.parametrize(("content", "what"), [("{", "is damaged"), ("[1]", "holds no JSON object")])
def test_a_file_that_holds_no_object_is_refused_by_its_name(run: Run, content: str, what: str) -> None:
    (run.path / "result.json").write_text(content)
    with pytest.raises(RunError, match=what) as caught:
        run.read_json("result.json")
    assert "result.json" in caught.value.what
    assert str(run.path) in caught.value.mend


def test_a_file_that_is_not_there_is_said_to_be_missing(run: Run) -> None:
    with pytest.raises(FileError, match=r"result\.json: there is no such file"):
        run.read_json("result.json")


def test_tensors_and_notes_come_back_as_they_were_saved(run: Run) -> None:
    tensors = {
        "a.weight": torch.randn(3, 4),
        "alpha": torch.randn(2, 5, dtype=torch.float64),
        "step": torch.tensor(7.0),
        "turned": torch.randn(3, 4).T,
    }
    scalars = {"epoch": 3, "multiplier": 0.1 + 0.2, "stage": "search"}
    run.save_tensors("checkpoint.safetensors", tensors, scalars)
    loaded = run.load_tensors("checkpoint.safetensors")
    assert loaded is not None
    assert loaded[1] == scalars
    assert loaded[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[0][name].dtype == tensor.dtype
        assert torch.equal(loaded[0][name], tensor)


def test_tensors_that_share_memory_can_be_saved(run: Run) -> None:
    shared = torch.randn(4)
    run.save_tensors("checkpoint.safetensors", {"a": shared, "b": shared}, {})
    loaded = run.load_tensors("checkpoint.safetensors")
    assert loaded is not None
    assert torch.equal(loaded[0]["a"], loaded[0]["b"])


def test_no_tensors_are_none_and_damaged_ones_are_an_error(run: Run) -> None:
    assert run.load_tensors("checkpoint.safetensors") is None
    (run.path / "checkpoint.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(RunError, match=r"checkpoint\.safetensors is damaged") as caught:
        run.load_tensors("checkpoint.safetensors")
    assert caught.value.mend.endswith(f"rm {run.path / 'checkpoint.safetensors'}")
