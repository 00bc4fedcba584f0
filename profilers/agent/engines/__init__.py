"""What runs artifacts; one file each, imported when an artifact of it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, util
from importlib import metadata as packages

from profilers.agent.engine import Engine

ENGINES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "ncnn": ("ncnn",),
    "litert": ("ai_edge_litert",),
    "torch": ("torch",),
    "tensorrt": ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Modules of which one has to be importable, by engine, in the order of preference on a board."""


def load_engine(engine: str, path: str, threads: int, precision: str, options: Sequence[str]) -> Engine:
    """Loads an artifact for an engine of ``ENGINES``.

    The precision is as in the key of what it holds: ``float32``, ``float16``, ``bfloat16``, ``tf32``, ``int8``; options
    are those of the runtime, as after the ``+`` of its name.
    """
    module = import_module("profilers.agent.engines." + engine.replace("-", "_"))
    loaded: Engine = module.load(path, threads, precision, options)
    return loaded


def is_installed(engine: str) -> bool:
    """Whether the library of an engine is here."""
    return any(util.find_spec(module) is not None for module in ENGINES[engine])


def installed() -> list[str]:
    """The engines whose library is here."""
    return [engine for engine in ENGINES if is_installed(engine)]


def version(package: str) -> str | None:
    """Of an installed package."""
    try:
        return packages.version(package)
    except packages.PackageNotFoundError:
        return None
