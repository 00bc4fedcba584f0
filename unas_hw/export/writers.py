"""What writes each format; one function each, all of the same form (``Format.write``)."""

from __future__ import annotations

import importlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profilers.errors import MissingDependencyError
from profilers.files import explained, write_atomic

if TYPE_CHECKING:
    from torch import nn

    from profilers.agent.engine import Array
    from unas_hw.export import Options


def onnx(network: nn.Module, shape: tuple[int, ...], path: Path, options: Options) -> dict[str, Any]:
    """One ``.onnx``."""
    _write_onnx(network, shape, path, options, options.precision)
    return {}


def tensorrt(network: nn.Module, shape: tuple[int, ...], path: Path, options: Options) -> dict[str, Any]:
    """An engine, and the ONNX file that it was built of, for other GPUs and versions."""
    from profilers.runtimes.tensorrt import TensorRt
    from unas_hw.export.tensorrt import write_engine

    source, batches = path.with_name(path.name + ".onnx"), options.batches
    _write_onnx(network, shape, source, options, TensorRt().stored(options.precision), symmetric=True)
    around = (batches.least, batches.best(shape[0]), batches.most)
    return write_engine(source, path, precision=options.precision, batches=around, capabilities=options.capabilities)


def openvino(network: nn.Module, shape: tuple[int, ...], path: Path, options: Options) -> dict[str, Any]:
    """OpenVINO's own format: ``.xml`` and ``.bin``; weights in 16 bits where that is the precision."""
    library, stored = _needed("openvino", "openvino"), "int8" if options.precision == "int8" else "float32"
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        source, written = Path(folder) / "model.onnx", Path(folder) / "model.xml"
        _write_onnx(network, shape, source, options, stored)
        model = library.convert_model(source)
        for name, text in options.metadata.items():
            model.set_rt_info(text, ["unas-hw", name])
        library.save_model(model, written, compress_to_fp16=options.precision == "float16")
        _move({written: path, written.with_suffix(".bin"): path.with_suffix(".bin")})
    return {}


def litert(network: nn.Module, shape: tuple[int, ...], path: Path, options: Options) -> dict[str, Any]:
    """One ``.tflite``."""
    from profilers.runtimes.litert import write_tflite

    count = options.batches.least
    write_tflite(
        network,
        (count, *shape[1:]),
        path,
        precision=options.precision,
        images=_batches(options.images(), count) if options.precision == "int8" else None,
    )
    return {}


def ncnn(network: nn.Module, shape: tuple[int, ...], path: Path, options: Options) -> dict[str, Any]:
    """``.param`` and ``.bin``."""
    from profilers.registry import find_runtime

    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        archive = Path(folder) / "model.ncnn"
        shape = (options.batches.least, *shape[1:])
        find_runtime("ncnn", runs_here=False).convert(network, shape, archive, options.precision)
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
        _move({archive.with_suffix(end): path.with_suffix(end[5:]) for end in (".ncnn.param", ".ncnn.bin")})
    return {}


def standalone(network: nn.Module, shape: tuple[int, ...], path: Path, options: Options) -> dict[str, Any]:
    """A plain PyTorch file, and its weights as safetensors."""
    from unas_hw.export.standalone import write_standalone

    write_standalone(network, shape, path, precision=options.precision, metadata=options.metadata)
    return {}


def program(network: nn.Module, shape: tuple[int, ...], path: Path, options: Options) -> dict[str, Any]:
    """An exported program."""
    from profilers.runtimes.torch import TorchRuntime, write_program

    batches, extra = options.batches, {"unas-hw.json": json.dumps(dict(options.metadata), indent=2)}
    around = (batches.least, batches.most) if batches.dynamic else None
    shape = (batches.best(shape[0]), *shape[1:])
    write_program(network, shape, path, TorchRuntime().stored(options.precision), batches=around, extra=extra)
    return {}


def _write_onnx(
    network: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    options: Options,
    precision: str,
    *,
    symmetric: bool = False,
) -> None:
    from profilers.runtimes.onnx_file import write_onnx

    write_onnx(
        network,
        shape,
        path,
        final=True,
        precision=precision,
        symmetric=symmetric,
        images=_batches(options.images(), options.batches.best(shape[0])) if precision == "int8" else None,
        opset=options.opset,
        batches=(options.batches.least, options.batches.most),
        normalise=options.normalise,
        metadata=options.metadata,
    )


def _batches(images: Iterator[Array], count: int) -> Iterator[Array]:
    """The same images in batches of this size; what is left over is left out."""
    return (each[begin : begin + count] for each in images for begin in range(0, len(each) - count + 1, count))


def _needed(module: str, extra: str) -> Any:
    """A library that a format needs; raises ``MissingDependencyError``."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"{module} is not installed", mend=f"pip install 'unas-hw[{extra}]'") from error


def _move(files: dict[Path, Path]) -> None:
    for source, path in files.items():
        with explained(source):
            content = source.read_bytes()
        write_atomic(path, content)
