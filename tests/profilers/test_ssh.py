"""A device behind a real sshd: it times, survives cuts and kills, checks keys and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

from latency_tables.collect import Planned, fill
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers import testing
from profilers.devices import ssh
from profilers.devices.local import LocalProfiler
from profilers.devices.ssh import Address, SshProfiler
from profilers.errors import (
    ConversionError,
    DeviceLostError,
    MissingDependencyError,
    MissingDeviceError,
    UnknownNameError,
)
from profilers.registry import open_profiler
from profilers.testing import LARGE, QUICK, SMALL, convolution
from profilers.timing import TimingRule
from tests.profilers import sshd

needs_sshd = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture
def way(server: sshd.Server) -> Iterator[sshd.Cuttable]:
    carried = sshd.Cuttable(server.port)
    yield carried
    carried.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "PATIENCE_S", (0.01, 0.05))


def agents(server: sshd.Server) -> list[int]:
    """Processes that run an agent of this server; tests beside this one have agents of their own."""
    found = subprocess.run(["pgrep", "-f", "Sent[(]importlib"], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split() if started_by(server, Path("/proc", line))]


def started_by(server: sshd.Server, process: Path) -> bool:
    with suppress(OSError):  # it has ended since
        return f"TMPDIR={server.temporary}".encode() in (process / "environ").read_bytes().split(b"\0")
    return False


@needs_sshd
@pytest.mark.timing
class TestOverSsh(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self, server: sshd.Server) -> SshProfiler:
        return SshProfiler(server.address(), None, 1)


@needs_sshd
def test_it_is_the_machine_that_it_is_and_computes_what_is_computed_here(server: sshd.Server) -> None:
    x = np.random.default_rng(0).standard_normal(SMALL.op.shape).astype(np.float32)
    profiler = open_profiler(server.address())
    assert isinstance(profiler, SshProfiler)
    assert profiler.environment()["python"]  # not open
    with LocalProfiler("onnxruntime", 1) as here, profiler as there:
        assert there.fingerprint() == here.fingerprint()
        assert there.runtime == "onnxruntime"
        assert {"governor", "load", "temperature_c", "versions"} <= there.environment().keys()
        assert there.environment()["versions"]["onnxruntime"]
        for each in (here, there):
            list(each.load([SMALL], QUICK))
        # The weights are drawn anew whenever a module is built, so only the shape can be compared.
        assert there.run(SMALL.key, x).shape == here.run(SMALL.key, x).shape


@needs_sshd
@pytest.mark.slow
def test_twenty_cuts_lose_no_row_and_measure_none_twice(
    server: sshd.Server, way: sshd.Cuttable, tmp_path: Path
) -> None:
    rule = TimingRule(min_block_s=0.001, warmup_s=0.01, warmup_calls=2, min_rounds=21, max_rounds=21, min_time_s=0)
    plan = [Planned(convolution(channels), OP) for channels in (4, 6, 8)]
    path, cuts = tmp_path / "table.jsonl", list[Timer]()
    with SshProfiler(server.address(way.port), None, 1) as profiler:
        for progress in fill(path, "cuts", plan, profiler, rule, extensions=0):
            if progress.stage == "measure" and progress.done % len(plan) == 0 and len(cuts) < 20:
                cuts.append(Timer(0.002, way.cut))  # while the next round is measured
                cuts[-1].start()
        for cut in cuts:
            cut.join()
        assert len(cuts) == 20
        assert profiler.reconnections >= 15  # a cut while a connection is made again is not counted as another
    table = LatencyTable.load(path)
    assert set(table.keys(OP)) == {planned.workload.key for planned in plan}
    taken = Counter((session, sample.key, sample.tick) for session, all_ in table.samples.items() for sample in all_)
    assert set(taken.values()) == {1}
    assert all(
        sum(sample.key == key and not sample.drifted for sample in table.samples[0]) == rule.max_rounds
        for key in table.keys(OP)
    )


@needs_sshd
def test_an_agent_that_is_killed_is_started_again_with_what_was_loaded(server: sshd.Server) -> None:
    with SshProfiler(server.address(), None, 1) as profiler:
        keys = list(profiler.load([SMALL, LARGE], QUICK))
        samples = profiler.sample(keys, QUICK)
        next(samples)
        killed = agents(server)
        assert killed
        for process in killed:
            os.kill(process, signal.SIGKILL)
        rest = list(samples)
        assert profiler.reconnections == 1
        assert all(sum(sample.key == key for sample in rest) >= QUICK.min_rounds - 1 for key in keys)


@needs_sshd
def test_a_device_that_does_not_come_back_is_lost(
    server: sshd.Server, way: sshd.Cuttable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "RECONNECTIONS", 3)
    with SshProfiler(server.address(way.port), None, 1) as profiler:
        keys = list(profiler.load([SMALL], QUICK))
        way.close()
        with pytest.raises(DeviceLostError, match=r"was lost at .*3 times in a row") as caught:
            list(profiler.sample(keys, QUICK))
    assert "what was measured is kept" in caught.value.mend


@needs_sshd
def test_nothing_is_left_there_neither_after_the_end_nor_after_a_cut(server: sshd.Server, way: sshd.Cuttable) -> None:
    before = set(server.temporary.iterdir())  # of agents that other tests killed
    with SshProfiler(server.address(way.port), None, 1) as profiler:
        list(profiler.load([SMALL], QUICK))
        assert set(server.temporary.iterdir()) > before
        way.cut()
        assert profiler.measure(SMALL, QUICK).median_ms > 0
    for _ in range(50):
        if not agents(server):
            break
        signal.sigtimedwait([], 0.1)
    assert agents(server) == []
    assert set(server.temporary.iterdir()) == before


@needs_sshd
def test_a_host_whose_key_is_not_known_is_refused(server: sshd.Server, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with pytest.raises(MissingDeviceError, match=r"cannot be reached: .*ost key") as caught:
        SshProfiler(server.address(known_hosts=tmp_path / "empty"), None, 1)
    assert f"accept it, once: ssh -p {server.port} " in caught.value.mend


@needs_sshd
def test_a_user_whose_key_is_not_authorized_is_told_how_to_bring_it_there(server: sshd.Server) -> None:
    with pytest.raises(MissingDeviceError, match=r"cannot be reached: .*ermission denied") as caught:
        SshProfiler(server.address(key=server.key.with_name("stranger_key")), None, 1)
    assert "ssh-copy-id" in caught.value.mend


@needs_sshd
def test_a_python_that_is_not_there_and_a_runtime_that_it_lacks_are_named(server: sshd.Server, tmp_path: Path) -> None:
    with pytest.raises(MissingDeviceError, match=r"cannot run /no-such-python: .*No such file") as missing:
        SshProfiler(server.address(python="/no-such-python"), None, 1)
    assert "?python=" in missing.value.mend
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ai_edge_litert'] = None\n")
    (tmp_path / "python").write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(MissingDependencyError, match="has no litert; it has onnxruntime") as caught:
        SshProfiler(server.address(python=str(tmp_path / "python")), "litert", 1)
    assert "-m pip install ai-edge-litert" in caught.value.mend


@needs_sshd
def test_the_last_words_of_what_did_not_start_are_told_whatever_blank_lines_follow(
    server: sshd.Server, tmp_path: Path
) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nprintf 'out of order\\n\\n' >&2\nexit 127\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(MissingDeviceError, match=r"cannot run .*python: out of order\n"):
        SshProfiler(server.address(python=str(tmp_path / "python")), None, 1)


@needs_sshd
@pytest.mark.slow
def test_what_fails_there_names_the_operation_and_the_next_is_timed(server: sshd.Server, tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"damaged")
    with SshProfiler(server.address(), None, 1) as profiler:
        with pytest.raises(ConversionError, match="onnxruntime failed at conv"):
            profiler.load_artifact(LARGE, tmp_path / "damaged.onnx", QUICK)
        assert profiler.measure(SMALL, QUICK).median_ms > 0


def test_without_the_library_there_is_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    monkeypatch.delitem(sys.modules, "profilers.devices.ssh")
    with pytest.raises(MissingDependencyError, match="asyncssh is not installed") as caught:
        open_profiler("ssh://board")
    assert caught.value.mend == "pip install 'unas-hw[ssh]'"


def test_nobody_listening_is_a_device_that_cannot_be_reached() -> None:
    with pytest.raises(MissingDeviceError, match="cannot be reached") as caught:
        SshProfiler(f"ssh://127.0.0.1:{sshd.free_port()}", None, 1)
    assert "check that this works: ssh -p" in caught.value.mend


@pytest.mark.parametrize(
    "text",
    ["ssh://", "ssh:///path", "ssh://host/path", "ssh://host:port", "ssh://host?pyton=x", "ssh://host#x", "ssh://a b",
     "ssh://host:0", "ssh://host:70000", "ssh://host?python=", "ssh://host?python=a&python=b", "ssh://-oProxy",
     "ssh://fe80::1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_form_of_one(text: str) -> None:
    with pytest.raises(UnknownNameError, match=r"write ssh://\[user@\]host"):
        Address.parse(text)


def test_an_address_without_its_scheme_is_told_with_it_and_a_password_is_not_repeated() -> None:
    with pytest.raises(UnknownNameError, match=r"write ssh://pi@board:22$"):
        Address.parse("pi@board:22")
    with pytest.raises(UnknownNameError, match="a password cannot be given") as caught:
        Address.parse("ssh://pi:secret@board")
    assert "secret" not in str(caught.value)


def test_names_of_the_ssh_configuration_ipv6_and_users_with_an_at_are_taken_as_they_are() -> None:
    assert Address.parse("ssh://MyBoard").host == "MyBoard"
    found = Address.parse("ssh://me%40work@[FE80::1%25eth0]:22")
    assert (found.user, found.host, found.port) == ("me@work", "FE80::1%eth0", 22)
    assert found.command == "ssh -p 22 me@work@FE80::1%eth0"


def test_an_address_is_read_and_written_as_one_would_type_it() -> None:
    found = Address.parse("ssh://pi@board.local:2222?python=/opt/venv/bin/python&runtime=ncnn")
    assert (found.user, found.host, found.port) == ("pi", "board.local", 2222)
    assert (found.python, found.runtime) == ("/opt/venv/bin/python", "ncnn")
    assert found.command == "ssh -p 2222 pi@board.local"
    assert Address.parse("ssh://board").command == "ssh board"
