"""Standard streams that are closed, full, or cannot show a text; signals; terminals of every kind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

import pytest
from click.testing import CliRunner

import unas_hw
from cli import streams
from cli.commands.search import _in_processes as in_processes
from cli.main import main
from cli.terminal import follow, sheet
from latency_tables.home import find_table, own_path
from profilers.text import name_of, visible
from tests.cli.conftest import Run, read
from tests.cli.test_bad_input import ROOT, refused
from unas_hw.data import load_dataset
from unas_hw.errors import DataError
from unas_hw.progress import Step

CYRILLIC = "\u043a\u043e\u0442"
SHOWN = "\\u043a\\u043e\\u0442"


def test_an_interrupt_that_a_library_swallows_ends_the_job_at_its_next_step() -> None:
    done = []

    def job() -> Iterator[Step]:
        yield Step("import", 0, 2)
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:  # as libraries do around their optional imports
            done.append("swallowed")
        yield Step("import", 1, 2)
        done.append("went on")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        follow(job())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert done == ["swallowed"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_close_the_job_before_the_process_ends(number: signal.Signals, code: int) -> None:
    done = []

    def job() -> Iterator[Step]:
        try:
            yield Step("measure", 0, 2)
            signal.raise_signal(number)
        finally:
            done.append("closed")

    with pytest.raises(SystemExit) as caught:
        follow(job())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert (caught.value.code, done) == (code, ["closed"])
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_nohup_ignores_stays_ignored() -> None:
    def job() -> Iterator[Step]:
        yield Step("measure", 0, 1)
        signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        follow(job())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(143), 143, "terminated"),
        (SystemExit(129), 129, "the terminal was closed"),
    ],
)
def test_the_exit_code_of_a_signal_is_that_of_a_shell(
    unas_hw: Run, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, said: str
) -> None:
    monkeypatch.setattr("cli.commands.spaces.emit", _raising(raised))
    refused(unas_hw("spaces"), code, f"Error: {said}", "give the same command again")


def _raising(error: BaseException) -> object:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


@pytest.fixture(params=[False, True], ids=["buffered", "unbuffered"])
def closed(request: pytest.FixtureRequest) -> Iterator[TextIO]:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    raw = io.FileIO(writer, "w")
    stream = io.TextIOWrapper(raw if request.param else io.BufferedWriter(raw), write_through=request.param)
    yield stream
    with suppress(BrokenPipeError):
        stream.close()


@pytest.mark.parametrize(
    "words",
    ["--help", "--version", "search --help-all", "spaces", "spaces --json", "tables list", "tables show pixel1",
     "tables show pixel1 --json", "tables export pixel1", "tables diff pixel1 pixel1"],
)  # fmt: skip
def test_a_pipe_that_nobody_reads_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, closed: TextIO, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(SystemExit) as caught:
        main(words.split(), prog_name="unas-hw")
    assert caught.value.code == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", ["tables show nobody", "tables shwo", "spaces --josn"])
def test_an_error_that_nobody_reads_ends_quietly(monkeypatch: pytest.MonkeyPatch, closed: TextIO, words: str) -> None:
    monkeypatch.setattr(sys, "stderr", closed)
    with pytest.raises(SystemExit) as caught:
        main(words.split(), prog_name="unas-hw")
    assert caught.value.code == 141


def test_progress_that_nobody_reads_closes_the_job(monkeypatch: pytest.MonkeyPatch, closed: TextIO) -> None:
    done = []

    def job() -> Iterator[Step]:
        try:
            yield Step("measure", 0, 2, "a note")
            done.append("went on")
        finally:
            done.append("closed")

    monkeypatch.setattr(sys, "stderr", closed)
    with pytest.raises(BrokenPipeError):
        follow(job())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert done == ["closed"]


def test_a_broken_pipe_that_is_not_ours_is_told(unas_hw: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.commands.spaces.emit", _raising(BrokenPipeError(32, "Broken pipe")))
    refused(unas_hw("spaces"), 1, "Broken pipe", "run the same command again")


def test_no_memory_is_one_message(unas_hw: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.commands.spaces.emit", _raising(MemoryError()))
    refused(unas_hw("spaces"), 1, "there is no memory left", "close other programs")


@pytest.mark.parametrize("words", ["tables list", "tables list --json", "tables export pixel1"])
def test_a_full_disk_under_standard_output_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as caught:
            main(words.split(), prog_name="unas-hw")
        assert caught.value.code == 1
        assert "Error: standard output: the disk is full\n  mend: " in capsys.readouterr().err


def test_nothing_is_said_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(sys, "stderr", full)
        with pytest.raises(SystemExit) as caught:
            main(["tables", "list"], prog_name="unas-hw")
    assert caught.value.code == 1


PROGRAM = "import sys; from cli.main import main; main(sys.argv[1:])"


def test_a_shell_sees_the_usual_status_and_closed_streams_swallow_nothing(folder: Path) -> None:
    program = f"{sys.executable} -c '{PROGRAM}'"
    script = (
        f"{program} tables show pixel1 | true; echo ${{PIPESTATUS[0]}}\n"
        f"PYTHONUNBUFFERED=1 {program} --help 2>&- | true; echo ${{PIPESTATUS[0]}}\n"
        f"{program} --help >&- 2>&- <&-; echo $?\n"
        f"{program} nonsense 2>&1 | true; echo ${{PIPESTATUS[0]}}\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}  # empty: buffered
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.stdout.split() == ["141", "141", "0", "141"]
    assert done.stderr == ""


def test_streams_that_were_closed_are_opened_so_that_no_file_takes_their_place() -> None:
    code = (
        "import os, sys; os.close(2); sys.stderr = None\n"
        "from cli.streams import attend; attend(); attend()\n"
        "print(os.open('/dev/zero', os.O_RDONLY) > 2, sys.stderr.fileno(), os.get_inheritable(2))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "True 2 True\n"


@pytest.fixture
def strange(unas_hw: Run, folder: Path) -> str:
    """A published table of a device with a name that few terminals can show."""
    (folder / "lut.csv").write_text("key,ms\nconv,1\npool,2\n")
    words = ("--device", f"{CYRILLIC}\x1b[31m\nx", "--output", "strange", "--unit", "ms")
    assert unas_hw("tables", "import", "lut.csv", *words).exit_code == 0
    return "strange"


@pytest.mark.parametrize("charset", ["latin-1", "ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("words", ["show", "list", "export", "show --json", "diff"])
def test_a_terminal_that_cannot_show_a_name_shows_its_escape(
    strange: str, monkeypatch: pytest.MonkeyPatch, charset: str, words: str
) -> None:
    command, *more = words.split()
    tables = {"list": (), "diff": (strange, strange)}.get(command, (strange,))
    result = CliRunner(charset=charset).invoke(main, ["tables", command, *tables, *more])
    assert result.exit_code == 0, result.output
    shown = result.stdout_bytes.decode(charset if command != "export" else "utf-8")
    if command in ("show", "list"):
        assert (CYRILLIC if charset == "utf-8" and not more else SHOWN) in shown
        assert "\x1b" not in shown and "\\nx" in shown


@pytest.mark.parametrize("charset", ["latin-1", "ascii", "cp1252"])
def test_class_names_are_shown_as_far_as_can_be(monkeypatch: pytest.MonkeyPatch, charset: str) -> None:
    result = {
        "architecture": "a", "weights": "search", "top1": 0.5, "top5": None, "images": 4, "dataset": CYRILLIC,
        "interval_95": (0.1, 0.9), "loss": 1.0, "images_per_s": 1.0, "device": "cpu", "params": 1, "macs": 1,
        "worst_classes": [{"class": f"{CYRILLIC}\n\x1b[2J", "accuracy": 0.5, "images": 2}],
    }  # fmt: skip
    monkeypatch.setattr(unas_hw, "evaluate", lambda *_, **__: SimpleNamespace(content=result))
    found = CliRunner(charset=charset).invoke(main, ["evaluate"])
    assert found.exit_code == 0
    assert f"worst classes  {SHOWN}\\n\\x1b[2J 50.0% of 2" in found.stdout_bytes.decode(charset)


def test_an_error_with_a_name_that_cannot_be_shown_is_one_message(folder: Path) -> None:
    name = f"{CYRILLIC}\x1b]0;title\x07" + os.fsdecode(b"\xff.jsonl")
    result = CliRunner(charset="latin-1").invoke(main, ["tables", "show", name])
    assert result.exit_code == 1
    said = result.stderr_bytes.decode("latin-1")
    assert f"{SHOWN}\\x1b]0;title\\x07\\udcff.jsonl: there is no such file" in said


def test_what_moves_a_terminal_is_written_as_an_escape() -> None:
    assert visible("a\tb\n") == "a\tb\n"
    assert visible("\x1b[31mred\r\x08\x9b\u202egnp.exe") == "\\x1b[31mred\\r\\x08\\x9b\\u202egnp.exe"
    assert sheet({"one": "a\nb", "three": 3}) == "one    a\\nb\nthree  3"


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "variables", [{}, {"TERM": "dumb"}, {"NO_COLOR": "1"}, {"COLUMNS": "20"}, {"COLUMNS": "0"}, {"COLUMNS": "1"}]
)
def test_progress_is_shown_on_every_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, variables: dict[str, str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    stage, note = f"measure ssh://[fe80::1]{CYRILLIC}", f"{CYRILLIC}: 1 \u00b1 2 \u2026 [/red]\x1b[2J"
    written = io.BytesIO()
    kind = Terminal if terminal else io.TextIOWrapper
    monkeypatch.setattr(sys, "stderr", kind(written, "latin-1", "backslashreplace"))

    def job() -> Iterator[Step]:
        yield Step(stage, 0, 1, note)

        time.sleep(0.2 if terminal and not variables else 0)  # until it is drawn again

    follow(job())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    said = written.getvalue().decode("latin-1")
    assert f"{SHOWN}: 1 \xb1 2 \\u2026 [/red]\\x1b[2J" in said
    assert "\\u2501" not in said and "\\u2578" not in said  # no bar of characters that it has not
    if terminal and not variables:
        assert f"measure ssh://[fe80::1]{SHOWN}" in said
    if not terminal or "TERM" in variables:
        assert f"measure ssh://[fe80::1]{SHOWN} ..." in said and "\x1b" not in said


def test_a_class_is_called_the_same_under_every_locale() -> None:
    assert name_of(CYRILLIC) == CYRILLIC
    assert name_of(CYRILLIC.encode().decode("ascii", "surrogateescape")) == CYRILLIC  # as LC_ALL=C reads it
    other = os.fsdecode(b"caf\xe9")
    assert name_of(other) == other


def test_a_tilde_after_an_equals_sign_is_the_home_folder(
    unas_hw: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder / "me"))
    (folder / "me").mkdir()
    assert unas_hw("tables", "export", "pixel1", "--output=~/rows.csv").exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["me"]
    assert (folder / "me/rows.csv").exists() and find_table("~/x.jsonl") == folder / "me/x.jsonl"
    assert own_path("~/x.jsonl") == folder / "me/x.jsonl"
    with pytest.raises(DataError, match="~nobody-of-that-name/x"):
        load_dataset("~nobody-of-that-name/x")


def test_a_folder_that_is_gone_is_told(unas_hw: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    refused(unas_hw("train"), 1, "the folder that you are in is no longer there")
    refused(
        unas_hw("tables", "export", "pixel1", "--output", "x.csv"), 1, "the folder that you are in is no longer there"
    )
    assert read(unas_hw("tables", "list", "--json"))  # what needs no folder goes on


@pytest.mark.parametrize("command", ["tables list", "tables show pixel1", "devices add x --adb 1", "devices remove x"])
def test_a_user_without_a_home_is_told_what_to_set(unas_hw: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.delenv("UNAS_HW_HOME")
    monkeypatch.setattr("platformdirs.user_data_dir", _raising(RuntimeError("no home")))
    refused(unas_hw(*command.split()), 1, "no home folder", "export UNAS_HW_HOME=FOLDER")


def test_output_to_a_pipe_that_does_not_wait_is_whole() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    kept = os.dup(1)
    os.dup2(writer, 1)
    try:
        streams.attend()
        assert os.get_blocking(1)
    finally:
        os.dup2(kept, 1)
        for each in (reader, writer, kept):
            os.close(each)


class Rank:
    """A process of several, of which the first is waited for when the command is told to end."""

    def __init__(self, *_: object, **__: object) -> None:
        self.told: list[str] = []
        RANKS.append(self)

    def wait(self) -> int:
        if self is RANKS[0] and not self.told:
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            raise SystemExit(143)
        self.told.append("waited for")
        return 0

    def terminate(self) -> None:
        self.told.append("terminated")


RANKS: list[Rank] = []


def test_all_processes_of_a_search_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Rank)
    with pytest.raises(SystemExit):
        in_processes(2)
    assert [rank.told for rank in RANKS] == [["terminated", "waited for"]] * 2


WAITING = """
import time
import cli.commands.spaces as command
from cli.main import main
from cli.terminal import follow
from unas_hw.progress import Step

def job():
    try:
        yield Step("measure", 0, 1)
        time.sleep(60)
    finally:
        print("closed")

command.emit = lambda *_: follow(job())
main(["spaces"])
"""


def test_a_command_that_is_terminated_closes_its_job_and_says_so() -> None:
    words = [sys.executable, "-c", WAITING]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None and process.stdout is not None
        assert process.stderr.readline() == "measure ...\n"
        process.terminate()
        out, err = process.stdout.read(), process.stderr.read()
    assert (process.returncode, out) == (143, "closed\n")
    assert "\nError: terminated\n  mend: give the same command again" in err and "Traceback" not in err
