"""ncnn."""

from __future__ import annotations

import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, final

from profilers.errors import ConversionError
from profilers.files import explained
from profilers.runtimes.base import Runtime, refused
from profilers.runtimes.onnx_file import write_onnx

if TYPE_CHECKING:
    from torch import nn

CONVERT_S = 300


@final
class Ncnn(Runtime):
    """``model.ncnn.param`` and ``model.ncnn.bin``, as pnnx makes them of an ONNX file, in one archive."""

    engine = "ncnn"
    suffix = ".ncnn"
    packages = ("ncnn", "pnnx", "onnx", "numpy")
    converters = ("pnnx",)
    precisions = ("float32", "float16")

    def _convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str) -> None:
        import pnnx

        if shape[0] != 1:
            raise ConversionError(f"ncnn takes one image at a time, not {shape[0]}", mend="leave --batch out")
        with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
            source = Path(folder) / "model.onnx"
            write_onnx(module, shape, source, final=False)
            # Weights of 16 bits are its default, also for those who believe that they measure 32.
            command = [pnnx.EXEC_PATH, source.name, f"fp16={int(precision == 'float16')}"]
            what = f"pnnx cannot convert {type(module).__name__}"
            with refused(what, mend="choose another --runtime"):
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=CONVERT_S
                )
                parts = [Path(folder) / f"model.ncnn.{part}" for part in ("param", "bin")]
                if done.returncode or not all(part.is_file() for part in parts):
                    raise RuntimeError((done.stderr or done.stdout).strip().rpartition("\n")[2])
            with explained(path), zipfile.ZipFile(path, "w") as archive:
                for part in parts:
                    archive.write(part, part.name)
