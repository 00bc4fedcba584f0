"""LiteRT, which was TensorFlow Lite; its converter cannot share an environment with us, so it is another process."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Timer
from typing import IO, TYPE_CHECKING, Any, final

import numpy as np

from profilers.environment import THREAD_VARIABLES
from profilers.errors import ConversionError, MissingDependencyError
from profilers.files import explained, write_atomic
from profilers.runtimes.base import Runtime
from profilers.runtimes.quantization import random_images
from profilers.runtimes.torch import TorchRuntime

if TYPE_CHECKING:
    from torch import nn

    from profilers.agent.engine import Array

VARIABLE = "UNAS_HW_LITERT_PYTHON"
"""Names the Python of the converter's environment; else it is in ``litert`` in the folder of tables and caches."""
CONVERTER = "litert-torch==0.10.0"
SCRIPT = Path(__file__).with_name("litert_convert.py")
CONVERT_S = 600


@final
class Litert(Runtime):
    """``.tflite`` files, whose input keeps PyTorch's layout: the runtime transposes images at both ends."""

    engine = "litert"
    suffix = ".tflite"
    precisions = ("float32", "int8")
    packages = ("ai-edge-litert", "torch", "numpy")

    def _convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str) -> None:
        write_tflite(module, shape, path, precision=precision)


def write_tflite(
    module: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    *,
    precision: str = "float32",
    images: Iterator[Array] | None = None,
) -> None:
    """Writes the module in evaluation mode, for inputs of that shape only; the file is replaced at once or left as it
    was.

    ``int8`` is 8 bits from input to output; ``images``, batches of that shape, are what their ranges are taken from,
    random ones by default.

    Raises:
        MissingDependencyError: If there is no converter; the mend makes its environment.
        ConversionError: If it does not take the module, or ends.
        FileError: If the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        program, written, batches = (Path(folder) / name for name in ("module.pt2", "module.tflite", "images.npy"))
        TorchRuntime().convert(module, shape, program)
        request = {"program": str(program), "shape": shape, "path": str(written)}
        if precision == "int8":
            np.save(batches, np.stack(list(images or random_images(shape))))
            request["images"] = str(batches)
        _converter().convert(request, type(module).__name__)
        with explained(written):
            content = written.read_bytes()
        write_atomic(path, content)


def converter_python() -> Path:
    """The Python of the converter's environment."""
    from profilers.home import home

    return Path(os.environ.get(VARIABLE) or home() / "litert" / "bin" / "python")


def how_to_install() -> str:
    """The command that makes the converter's environment."""
    import torch

    from profilers.home import home

    environment = shlex.quote(str(home() / "litert"))
    version = torch.__version__.partition("+")[0]  # what we write is read there, so it is the same
    command = f"{shlex.quote(sys.executable)} -m venv {environment} && "
    command += f"{environment}/bin/pip install {CONVERTER} torch=={version}"
    return f"unset {VARIABLE} && {command}" if VARIABLE in os.environ else command


_converters: list[Converter] = []


def _converter() -> Converter:
    """The one that runs; importing what it needs takes seconds, so it goes on until we end."""
    python = converter_python()
    if not _converters or not _converters[0].is_running() or _converters[0].python != python:
        _end()
        _converters.append(Converter(python))
    return _converters[0]


@atexit.register
def _end() -> None:
    while _converters:
        _converters.pop().close()


@final
class Converter:
    """A process that converts, one request at a time.

    Args:
        python: Of the environment that litert-torch is in.

    Raises:
        MissingDependencyError: If it is not there.
    """

    def __init__(self, python: Path) -> None:
        self.python = python
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            self._process = subprocess.Popen(
                [str(python), "-I", str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                process_group=0,  # an interrupt from the terminal is ours to answer
                env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
            )
        except OSError as error:
            self._said.close()
            raise self._missing(f"{python}: {(error.strerror or str(error)).lower()}") from error

    def _missing(self, reason: str) -> MissingDependencyError:
        return MissingDependencyError(f"the converter to .tflite is not installed ({reason})", mend=how_to_install())

    def is_running(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def convert(self, request: dict[str, Any], what: str) -> None:
        """Has the file written, or raises; ``what`` names the module in the error."""
        stdin, stdout, late = self._process.stdin, self._process.stdout, Event()
        assert stdin is not None and stdout is not None  # they are pipes

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = Timer(CONVERT_S, give_up)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(json.dumps(request) + "\n")
                stdin.flush()
            line = stdout.readline()
        except BaseException:  # its answer to this request must not be taken for that to the next
            self._process.kill()
            self._process.wait()
            raise
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            code, said = self._process.wait(), self._last_words()
            reason = f"gave no answer in {CONVERT_S} s" if late.is_set() else f"ended (exit code {code}) {said}"
            raise ConversionError(
                f"{what} cannot be converted to .tflite: the converter {reason.strip()}",
                mend="run the same command again: what was measured is kept; or choose another --runtime",
            )
        answer = json.loads(line)
        if answer.get("missing"):
            raise self._missing(f"{self.python}: {answer['error']}")
        if "error" in answer:
            reason = (answer["error"].splitlines() or [""])[0]
            raise ConversionError(f"{what} cannot be converted to .tflite: {reason}", mend="choose another --runtime")

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """Ends it; the end of its input is what it waits for."""
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._said.close()
