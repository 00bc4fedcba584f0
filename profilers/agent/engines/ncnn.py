"""ncnn on the CPU, one image at a time."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from profilers.agent.engine import Array, Engine

INPUT, OUTPUT = "in0", "out0"
"""As pnnx names them."""


def load(path: str, threads: int, precision: str, options: Sequence[str]) -> NcnnEngine:
    """The network in this archive; 16 bits are used for storage and arithmetic only where they were asked for."""
    del options
    ncnn = library()
    net = ncnn.Net()
    net.opt.num_threads = threads
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, precision == "float16" and name != "use_bf16_storage")
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        (param,) = [name for name in archive.namelist() if name.endswith(".param")]
        (weights,) = [name for name in archive.namelist() if name.endswith(".bin")]
        archive.extractall(folder)
        if net.load_param(os.path.join(folder, param)) or net.load_model(os.path.join(folder, weights)):
            raise RuntimeError("ncnn cannot read the network")
    return NcnnEngine(net)


def library() -> Any:
    """The package, whose type stubs lack what its compiled part brings."""
    return import_module("ncnn")


class NcnnEngine(Engine):
    """One network; every call makes an extractor, which is how ncnn is used."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def bind(self, x: Array) -> Callable[[], Any]:
        image = library().Mat(np.ascontiguousarray(x[0])).clone()
        create = self.net.create_extractor

        def call() -> Any:
            extractor = create()
            extractor.input(INPUT, image)
            return extractor.extract(OUTPUT)

        return call

    def run(self, x: Array) -> Array:
        outputs = []
        for image in x:
            failed, output = self.bind(image[None])()
            if failed:
                raise RuntimeError(f"ncnn gives no {OUTPUT}")
            outputs.append(np.array(output))
        return np.stack(outputs)
