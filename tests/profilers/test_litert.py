"""LiteRT: files of it run as PyTorch computes, and its converter is a process that may be missing, fail, hang or die.

What needs the converter is skipped without it; ``make test-litert`` makes its environment. The files in ``data`` are
written by ``UNAS_HW_LITERT_PYTHON=.venv-litert/bin/python .venv/bin/python -m tests.profilers.test_litert``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from types import FrameType
from typing import NoReturn

import numpy as np
import pytest
import torch
from torch import nn

from latency_tables.collect import Planned, fill
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers import testing
from profilers.agent.engine import Array
from profilers.devices.local import LocalProfiler
from profilers.errors import ConversionError, MissingDependencyError
from profilers.opspec import OpSpec
from profilers.registry import find_runtime
from profilers.runtimes import litert
from profilers.runtimes.litert import CONVERTER, VARIABLE, Litert, converter_python
from profilers.testing import QUICK, convolution
from profilers.workload import Workload

pytest.importorskip("ai_edge_litert")

SHAPE = (1, 4, 8, 8)
DATA = Path(__file__).parent / "data"
FILES = {precision: DATA / f"block-{precision}.tflite" for precision in Litert.precisions}
ERROR = {"float32": 1e-6, "int8": 0.05}
"""Root mean square over that of the output; at most 1e-4 anywhere in float32."""
needs_converter = pytest.mark.skipif(
    not converter_python().is_file(), reason="no converter to .tflite: make test-litert"
)


def block(channels: int = SHAPE[1]) -> nn.Module:
    """An inverted residual whose weights are the same everywhere."""
    hidden = 6 * channels
    layers = nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU6(),
        nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
        nn.ReLU6(),
        nn.Conv2d(hidden, channels, 1),
    ).eval()
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.sin(torch.arange(parameter.numel(), dtype=torch.float32)).view_as(parameter))
    return layers


def check(run: Callable[[Array], Array], precision: str, shape: tuple[int, ...] = SHAPE) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    with torch.inference_mode():
        expected = block(shape[1])(torch.from_numpy(x)).numpy()
    seen = run(x)
    assert seen.dtype == np.float32 and seen.shape == expected.shape
    assert np.sqrt(np.mean((seen - expected) ** 2)) < ERROR[precision] * np.sqrt(np.mean(expected**2))
    assert precision != "float32" or np.abs(seen - expected).max() < 1e-4


@pytest.fixture(autouse=True)
def one_converter() -> Iterator[None]:
    """A fake one is not asked by other tests; the real one goes on from test to test."""
    yield
    if litert._converters and litert._converters[0].python != converter_python():
        litert._end()


# --- the engine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", FILES)
def test_a_file_computes_what_pytorch_computes_all_of_it_in_xnnpack(precision: str) -> None:
    engine = Litert().load(FILES[precision], 1, precision)
    check(engine.run, precision)
    assert engine.details == {"delegate": "XNNPACK"}
    assert engine.timer(SHAPE)(3) > 0


def test_the_timing_process_loads_a_file_and_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    workload = Workload(OpSpec("block", {}, SHAPE), lambda: pytest.fail("the module was built"))
    with LocalProfiler("litert", 1) as profiler:
        profiler.load_artifact(workload, FILES["float32"], QUICK)
        assert profiler.time_block(workload.key) > 0
        check(lambda x: profiler.run(workload.key, x), "float32")
        assert profiler.environment()["versions"]["ai-edge-litert"]
    assert capfd.readouterr() == ("", "")


def test_a_file_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "module.tflite"
    path.write_bytes(FILES["float32"].read_bytes()[:-1000])
    with pytest.raises(ConversionError, match=f"litert cannot load {path}: "):
        Litert().load(path, 1)


def test_it_runs_in_as_many_threads_as_it_may() -> None:
    count = """
import os, sys
from pathlib import Path
from profilers.runtimes.litert import Litert
before = len(os.listdir("/proc/self/task"))
engine = Litert().load(Path(sys.argv[1]), int(sys.argv[2]))
engine.timer(tuple(map(int, sys.argv[3:])))(3)
print(1 + len(os.listdir("/proc/self/task")) - before)
"""
    for threads in (1, 3):
        command = [sys.executable, "-c", count, str(FILES["float32"]), str(threads), *map(str, SHAPE)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert int(done.stdout) == threads


# --- a converter that is missing, fails, hangs or dies --------------------------------------------------------------


def convert(path: Path, module: nn.Module | None = None) -> bytes:
    Litert().convert(module or block(), SHAPE, path)
    return path.read_bytes()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a converter that does these lines with each ``request``, and returns a path to convert to."""

    def make(lines: str) -> Path:
        body = "".join(f"    {line}\n" for line in lines.splitlines())
        head = "import json, os, pathlib, sys, time\nfor line in sys.stdin:\n    request = json.loads(line)\n"
        (tmp_path / "fake.py").write_text(head + body)
        monkeypatch.setattr(litert, "SCRIPT", tmp_path / "fake.py")
        monkeypatch.setenv(VARIABLE, sys.executable)
        litert._end()
        (tmp_path / "made").mkdir()
        return tmp_path / "made" / "module.tflite"

    return make


WRITE = "pathlib.Path(request['path']).write_text(str(os.getpid()))\nprint('{}', flush=True)"


def test_one_process_converts_all(fake: Callable[[str], Path]) -> None:
    path = fake(WRITE)
    first = convert(path)
    assert first == convert(path)
    litert._end()
    assert first != convert(path)


def test_a_converter_that_is_not_there_is_made_by_the_line_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path / "with space"))
    with pytest.raises(
        MissingDependencyError, match=r"is not installed \(.*/litert/bin/python: no such file"
    ) as caught:
        convert(tmp_path / "module.tflite")
    environment = f"'{tmp_path}/with space/litert'"
    version = torch.__version__.partition("+")[0]
    made = f"{sys.executable} -m venv {environment} && {environment}/bin/pip install {CONVERTER} torch=={version}"
    assert caught.value.mend == made
    assert CONVERTER in (Path(litert.__file__).parents[2] / "constraints-litert.txt").read_text().splitlines()
    monkeypatch.setenv(VARIABLE, "no-such-python")
    with pytest.raises(MissingDependencyError, match=r"\(no-such-python: no such file") as caught:
        convert(tmp_path / "module.tflite")
    assert caught.value.mend == f"unset {VARIABLE} && {made}"


@pytest.mark.slow
def test_an_environment_without_the_converter_is_told_from_a_module_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(MissingDependencyError, match="No module named 'litert_torch'"):
        convert(tmp_path / "module.tflite")


def test_what_fails_there_is_told_in_one_line_and_the_process_goes_on(fake: Callable[[str], Path]) -> None:
    path = fake("print(json.dumps({'error': f'no such operation\\ntraceback {os.getpid()}'}), flush=True)")
    for _ in range(2):
        with pytest.raises(ConversionError, match=r"Sequential cannot be converted to \.tflite: no such operation\n"):
            convert(path)
        assert litert._converters[0].is_running()
    assert list(path.parent.iterdir()) == []


def test_a_process_that_dies_is_named_with_its_last_words_and_the_next_one_is_another(
    fake: Callable[[str], Path], tmp_path: Path
) -> None:
    path = fake(
        f"if not os.path.exists('{tmp_path}/died'):\n"
        f"    open('{tmp_path}/died', 'w').close()\n"
        "    sys.stderr.write('out of memory\\n')\n"
        f"    os._exit(9)\n{WRITE}"
    )
    with pytest.raises(ConversionError, match=r"the converter ended \(exit code 9\) out of memory") as caught:
        convert(path)
    assert "run the same command again" in caught.value.mend
    assert convert(path)


def test_a_process_that_hangs_is_ended(fake: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake("print('{', end='', flush=True)\ntime.sleep(60)")
    monkeypatch.setattr(litert, "CONVERT_S", 0.2)
    with pytest.raises(ConversionError, match=r"the converter gave no answer in 0\.2 s"):
        convert(path)
    assert not litert._converters[0].is_running()


def test_the_answer_to_a_request_that_was_interrupted_is_not_taken_for_the_next(fake: Callable[[str], Path]) -> None:
    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    path = fake(f"time.sleep(0.5)\n{WRITE}")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        asked = litert._converter()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            asked.convert({"path": str(path)}, "module")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not path.exists() and not asked.is_running()
    assert convert(path)


# --- the converter --------------------------------------------------------------------------------------------------


@needs_converter
@pytest.mark.slow
class TestLocalLitert(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self) -> LocalProfiler:
        return LocalProfiler("litert", 1)


@needs_converter
@pytest.mark.slow
@pytest.mark.parametrize("precision", FILES)
def test_what_is_converted_computes_what_pytorch_computes(precision: str, tmp_path: Path) -> None:
    path = tmp_path / "module.tflite"
    for shape in (SHAPE, (2, 16, 14, 14)):
        find_runtime("litert").convert(block(shape[1]), shape, path, precision)
        check(Litert().load(path, 1, precision).run, precision, shape)


@needs_converter
@pytest.mark.slow
def test_a_table_is_measured(tmp_path: Path) -> None:
    plan = [Planned(convolution(channels), OP) for channels in (8, 16, 96)]
    with LocalProfiler("litert", 1) as profiler:
        assert [progress.stage for progress in fill(tmp_path / "table.jsonl", "litert", plan, profiler, QUICK)]
    table = LatencyTable.load(tmp_path / "table.jsonl")
    assert set(table.keys(OP)) == {planned.workload.key for planned in plan}
    assert table.header["runtime"] == "litert"


class _Eigenvalues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.linalg.eigvals(x)
        return found


@needs_converter
@pytest.mark.slow
def test_an_operation_that_it_does_not_have_is_named_and_the_next_module_is_converted(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"_Eigenvalues cannot be converted to \.tflite: .*linalg_eig"):
        convert(tmp_path / "module.tflite", _Eigenvalues())
    process = litert._converters[0]
    assert convert(tmp_path / "module.tflite") and litert._converters[0] is process


@needs_converter
@pytest.mark.slow
def test_a_converter_that_is_killed_is_told_and_started_again(tmp_path: Path) -> None:
    convert(tmp_path / "module.tflite")
    process = litert._converters[0]._process.pid
    kill = Timer(0.1, os.kill, (process, signal.SIGKILL))
    request = {"program": str(tmp_path / "module.pt2"), "shape": SHAPE, "path": str(tmp_path / "killed.tflite")}
    find_runtime("torch").convert(block(), SHAPE, tmp_path / "module.pt2")
    kill.start()
    with pytest.raises(ConversionError, match=r"the converter ended \(exit code -9\)"):
        litert._converter().convert(request, "block")
    kill.join()
    assert not (tmp_path / "killed.tflite").exists()
    assert convert(tmp_path / "module.tflite")


if __name__ == "__main__":
    for each, file in FILES.items():
        Litert().convert(block(), SHAPE, file, each)
