"""TensorRT, or TensorRT-RTX in its place: what builds an engine of an ONNX file, and reads one back.

Networks are strongly typed: what is computed in 16 or 8 bits stands in the file, not in settings of the builder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

LIBRARIES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")


def library() -> Any:
    """The first of ``LIBRARIES`` that can be imported; raises RuntimeError with the reasons where none can."""
    reasons = []
    for name in LIBRARIES:
        try:
            return import_module(name)
        except (ImportError, OSError) as error:  # the Python part installs alone, without the libraries that it loads
            reasons.append(str(error))
    raise RuntimeError("TensorRT cannot be imported ({})".format("; ".join(reasons)))


def build(
    path: str,
    precision: str,
    *,
    capabilities: Sequence[str] = (),
    batches: tuple[int, int, int] = (1, 1, 1),
    timing_cache: bytearray | None = None,
    detailed: bool = False,
) -> bytes:
    """A serialized engine of an ONNX file.

    Args:
        path: Of the file.
        precision: As in ``load_engine``. Types are those of the file; this only says whether float32 may be rounded to
            TF32, which is the library's default.
        capabilities: Of GPUs to build for, without one at hand: ``("SM86", "SM120")``; TensorRT-RTX only. By default
            the GPU at hand; with TensorRT-RTX all from ``SM80`` on.
        batches: The least, the one that is tuned for, and the most, where the file takes any.
        timing_cache: What earlier builds found out, and this one will be added to; what is damaged, or of another GPU,
            is replaced. Of no use to TensorRT-RTX.
        detailed: Whether the engine can name the types of its layers.

    Raises:
        RuntimeError: With the library's own words.
    """
    with open(path, "rb") as file:
        return build_model(file.read(), precision, capabilities, batches, timing_cache, detailed)


def build_model(
    model: bytes,
    precision: str,
    capabilities: Sequence[str],
    batches: tuple[int, int, int],
    timing_cache: bytearray | None,
    detailed: bool,
) -> bytes:
    """As ``build``, of what is in the file."""
    trt = library()
    builder, network, _parser = parsed(model)  # the parser owns the weights
    config = builder.create_builder_config()
    (config.set_flag if precision == "tf32" else config.clear_flag)(trt.BuilderFlag.TF32)
    if detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _aim(trt, config, capabilities)
    shape = tuple(network.get_input(0).shape)
    if -1 in shape:
        profile = builder.create_optimization_profile()
        profile.set_shape(network.get_input(0).name, *((batch, *shape[1:]) for batch in batches))
        config.add_optimization_profile(profile)
    cache = None
    if timing_cache is not None and trt.__name__ == "tensorrt":
        cache = config.create_timing_cache(bytes(timing_cache))
        if cache is None or not config.set_timing_cache(cache, False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        del logger(trt).errors[:]  # about a cache that is not used
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError(said(trt))
    if timing_cache is not None and cache is not None:
        timing_cache[:] = bytes(cache.serialize())
    return bytes(plan)


def parsed(model: bytes) -> tuple[Any, Any, Any]:
    """The library's builder, network and parser of an ONNX file's content; all three are needed while one is used."""
    trt = library()
    del logger(trt).errors[:]
    builder = trt.Builder(logger(trt))
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # all networks are from 11 on
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger(trt))
    if not parser.parse(model):
        raise RuntimeError(_refusal(parser) if parser.num_errors else said(trt))
    if not network.num_outputs:  # bytes that are no network at all are parsed without an error
        raise RuntimeError("there is no network in the file")
    return builder, network, parser


def deserialize(plan: bytes) -> Any:
    """The library's engine of a serialized one; raises RuntimeError where it is damaged, or not for this machine."""
    trt = library()
    del logger(trt).errors[:]
    engine = trt.Runtime(logger(trt)).deserialize_cuda_engine(plan)
    if engine is None:
        raise RuntimeError(said(trt))
    return engine


def _aim(trt: Any, config: Any, capabilities: Sequence[str]) -> None:
    if not capabilities:
        return
    if not hasattr(config, "num_compute_capabilities"):
        raise RuntimeError("TensorRT builds for the GPU at hand only; TensorRT-RTX builds for others")
    config.num_compute_capabilities = len(capabilities)
    known = trt.ComputeCapability.__members__
    for index, name in enumerate(capabilities):
        if name not in known or not config.set_compute_capability(known[name], index):
            raise RuntimeError("TensorRT-RTX does not build for {}, only for {}".format(name, ", ".join(known)))


@lru_cache
def logger(trt: Any) -> Any:
    """Keeps errors; one for the process, because the library goes on using the first that it was given."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(msg)

    return Logger()


def said(trt: Any) -> str:
    """The first error, without the name of the call that it stands for."""
    errors = logger(trt).errors or [f"{trt.__name__} gives no reason"]
    return _plain(errors[0])


def _plain(error: str) -> str:
    return re.sub(r"^\w+::\w+: Error Code \d+: ", "", error)


def _refusal(parser: Any) -> str:
    """The node and the reason; the lines below it are what followed from it."""
    error = parser.get_error(0)
    lines = [line for line in error.desc().splitlines() if not line.startswith("Invalid Node")]
    reason = _plain(lines[0]) if lines and lines[0] != "false" else "is not supported"
    return f"node {error.node_name()} ({error.node_operator()}): {reason}"
