"""A TensorRT engine of an ONNX file, and whether it computes in what was asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profilers.errors import MissingDependencyError
from profilers.files import explained, write_atomic
from profilers.home import home
from unas_hw.errors import ExportError

AHEAD_OF_TIME = ("SM86", "SM89", "SM120")
"""GeForce RTX 30, 40 and 50, which TensorRT-RTX builds for where no GPU is."""
AT_HAND = "the GPU at hand"
INSPECTED, PARSED = "engine inspector", "parsed network (strongly typed)"
INSTALL = "pip install 'unas-hw[tensorrt]' (or 'unas-hw[tensorrt-rtx]', which needs no GPU to build)"


def write_engine(
    onnx: Path, path: Path, *, precision: str, batches: tuple[int, int, int], capabilities: Sequence[str] = ()
) -> dict[str, Any]:
    """Builds an engine of an ONNX file and writes it, whole or not at all.

    Args:
        onnx: The file; it says what types are computed in.
        path: Of the engine.
        precision: Of the file; ``tf32`` lets float32 be rounded.
        batches: The least, the one that is tuned for, and the most, where the file takes any.
        capabilities: Of GPUs to build for, in place of the one at hand or of ``AHEAD_OF_TIME``; TensorRT-RTX only.

    Returns:
        ``library`` with its version, ``built_for`` (capabilities, or ``the GPU at hand``), ``timing_cache`` (its path
        or None), ``layers`` (how many of a kind compute in a type), ``layers_from`` (whether that was read from the
        engine, or from the network that it was built of), and ``runs_here``.

    Raises:
        MissingDependencyError: If there is neither TensorRT nor TensorRT-RTX.
        ExportError: If TensorRT has no GPU, or the library refuses the file.
    """
    from profilers.agent.engines.tensorrt_build import build, deserialize
    from profilers.agent.engines.tensorrt_types import inspected_types, parsed_types

    trt, missing = _library()
    targets = tuple(capabilities) or (AHEAD_OF_TIME if missing else ())
    here = () if trt.__name__ == "tensorrt" else ("CURRENT",)  # which TensorRT always builds for
    cache = _timing_cache(trt) if trt.__name__ == "tensorrt" else None
    timings, engine = bytearray(), None
    if cache is not None and cache.exists():
        with explained(cache):
            timings[:] = cache.read_bytes()
    try:
        with explained(onnx):
            layers = parsed_types(str(onnx))
            plan = build(
                str(onnx), precision, capabilities=targets or here, batches=batches, timing_cache=timings, detailed=True
            )
        if not (missing or targets):  # what is for other GPUs need not run on this one
            engine = deserialize(plan)
    except RuntimeError as error:
        raise ExportError(
            f"TensorRT builds no engine in {precision}: {error}",
            mend="unas-hw export --format onnx writes the network for other runtimes",
        ) from error
    if cache is not None:
        write_atomic(cache, bytes(timings))
    write_atomic(path, plan)
    inspected = {} if engine is None else inspected_types(engine)
    told = any(_compute(inspected).values())
    return {
        "library": f"{trt.__name__} {trt.__version__}",
        "built_for": list(targets) or [AT_HAND],
        "timing_cache": None if cache is None else str(cache),
        "layers": inspected if told else layers,
        "layers_from": INSPECTED if told else PARSED,
        "runs_here": engine is not None,
    }


def precision_faults(layers: Mapping[str, Mapping[str, int]], precision: str) -> int:
    """How many layers that convolve or multiply matrices compute in another precision than the one asked for.

    Layers are as ``write_engine`` returns them. Where no kind says that it does so, all are judged, except those on
    integers; a layer whose type the engine does not tell is not counted. ``tf32`` is a way to compute on float32.
    """
    asked = "float32" if precision == "tf32" else precision
    return sum(count for name, count in _compute(layers).items() if name != asked)


def _compute(layers: Mapping[str, Mapping[str, int]]) -> Counter[str]:
    """Of how many layers that compute which type is known."""
    from profilers.agent.engines.tensorrt_types import COMPUTES, UNCOUNTED

    judged = {kind: types for kind, types in layers.items() if COMPUTES.search(kind)} or layers
    found: Counter[str] = Counter()
    for types in judged.values():
        found.update({name: count for name, count in types.items() if name not in UNCOUNTED})
    return found


def _library() -> tuple[Any, str]:
    """TensorRT or TensorRT-RTX, and what is missing of a GPU here, which only the latter can do without."""
    from profilers.agent.engines.tensorrt import require_gpu
    from profilers.agent.engines.tensorrt_build import library

    try:
        trt = library()
    except RuntimeError as error:
        raise MissingDependencyError(str(error), mend=INSTALL) from error
    try:
        require_gpu()
    except RuntimeError as error:
        if trt.__name__ == "tensorrt":
            raise ExportError(
                f"TensorRT builds for the GPU at hand only: {error}",
                mend="run it where the GPU is; TensorRT-RTX needs none: pip uninstall tensorrt, "
                "pip install 'unas-hw[tensorrt-rtx]'",
            ) from error
        return trt, str(error)
    return trt, ""


def _timing_cache(trt: Any) -> Path:
    """Of this version on this GPU: what another found out does not hold."""
    import torch

    name = re.sub(r"[^\w.]+", "-", f"{trt.__name__} {trt.__version__} {torch.cuda.get_device_name()}")
    return home() / "tensorrt" / f"{name}.timing"
