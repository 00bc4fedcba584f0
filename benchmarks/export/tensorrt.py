"""Engines of TensorRT-RTX for GPUs that are not here: how many networks are built, and compute in what was asked for.

python -m benchmarks.export.tensorrt [SPACE ...]
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import keep
from profilers.errors import ConversionError
from profilers.runtimes.onnx_file import write_onnx
from profilers.runtimes.quantization import random_images
from unas_hw.errors import ExportError
from unas_hw.export.tensorrt import AHEAD_OF_TIME, precision_faults, write_engine
from unas_hw.spaces import find_space

NETWORKS = {"mbconv": 4, "darts?layers=3": 12, "nas_bench_201?cells=1": 12}
"""How many of each space; the cells of the last two are those of networks of any depth."""
PRECISIONS = ("float32", "float16", "bfloat16", "int8")
BATCHES = (1, 1, 8)


def built(space_name: str, precision: str) -> dict[str, Any]:
    """Random networks of a space, as they ship."""
    space = find_space(space_name)
    rng, refusals = random.Random(0), Counter[str]()
    seconds, megabytes, exact = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        onnx, engine = Path(folder) / "model.onnx", Path(folder) / "model.engine"
        for number in range(NETWORKS[space_name]):
            torch.manual_seed(number)
            network = space.network(space.draw(rng))
            try:
                images = random_images(space.input_shape)
                write_onnx(
                    network, space.input_shape, onnx, final=True, precision=precision, symmetric=True, images=images
                )
                begin = time.perf_counter()
                facts = write_engine(onnx, engine, precision=precision, batches=BATCHES, capabilities=AHEAD_OF_TIME)
            except (ConversionError, ExportError) as error:
                refusals[error.what] += 1
                continue
            seconds.append(time.perf_counter() - begin)
            megabytes.append(engine.stat().st_size / 1e6)
            exact += precision_faults(facts["layers"], precision) == 0
    return {
        "space": space_name,
        "precision": precision,
        "networks": NETWORKS[space_name],
        "built": len(seconds),
        "in_precision": exact,
        "seconds": float(np.median(seconds)) if seconds else None,
        "megabytes": float(np.median(megabytes)) if megabytes else None,
        "refusals": dict(refusals),
    }


def main(spaces: list[str]) -> None:
    """Every space in every precision."""
    rows = []
    for space in spaces:
        for precision in PRECISIONS:
            row = built(space, precision)
            rows.append(row)
            size = f"{row['seconds']:.2f} s, {row['megabytes']:.1f} MB" if row["built"] else "-"
            print(
                f"{space:<22} {precision:<9} {row['built']} of {row['networks']} built, {row['in_precision']} in it, "
                f"{size} {row['refusals'] or ''}",
                flush=True,
            )
    keep("export_tensorrt", {"capabilities": AHEAD_OF_TIME, "batches": BATCHES, "rows": rows})


if __name__ == "__main__":
    main(sys.argv[1:] or list(NETWORKS))
