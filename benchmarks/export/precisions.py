"""What shorter types cost a trained network: top-1 before and after on all test images of Fashion-MNIST.

    python -m benchmarks.export.precisions --data DIR [--space mbconv-small] [--images 20000] [--epochs 8]

``DIR`` has the four idx files. One network, the middle of the space by multiply-accumulates, is trained; then it is
written in every format and precision that installs here, and the file classifies the 10,000 test images. ``int8`` is
calibrated with 256 training images. TensorRT's file is run by onnxruntime, and built for three generations of GPUs by
TensorRT-RTX. In ``--folder`` lie the trained weights; the same command goes on there.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.report import keep
from profilers.agent.engine import Array
from profilers.errors import UnasError
from profilers.registry import find_runtime
from unas_hw.data import Dataset, in_order, load_dataset
from unas_hw.export import FORMATS, Options
from unas_hw.export.batches import Batches
from unas_hw.export.manifest import loadable
from unas_hw.export.tensorrt import precision_faults
from unas_hw.extremes import spread
from unas_hw.network import load_network, save_network
from unas_hw.runs import Run
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.training import Recipe, train
from unas_hw.verify import LOST_POINTS, accuracy_check

ASKED = (
    ("onnx", "float32"), ("onnx", "float16"), ("onnx", "bfloat16"), ("onnx", "int8"),
    ("tensorrt", "float16"), ("tensorrt", "bfloat16"), ("tensorrt", "int8"),
    ("openvino", "float16"), ("openvino", "int8"), ("ncnn", "float16"), ("torch", "float16"), ("litert", "int8"),
)  # fmt: skip
GPUS = ("SM86", "SM89", "SM120")
BATCHES = Batches(1, 64)


def main() -> None:
    """Trains once, then writes and runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--space", default="mbconv-small")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path("runs/precisions"))
    told = parser.parse_args()
    data = load_dataset(told.data)
    space = find_space(told.space, image_shape=data.image_shape, classes=data.classes)
    network = _trained(space, data, told.images, told.epochs, told.folder / told.space)
    right = _right(np.concatenate(list(_outputs(network, data))), data)
    print(f"float32: {right.mean():.2%}")
    rows = [_row(network, space, data, right, *each) for each in ASKED]
    result = {"space": space.title, "images": told.images, "epochs": told.epochs, "float32": float(right.mean())}
    keep("export_precisions", {**result, "points_allowed": dict(LOST_POINTS), "rows": rows})


def _trained(space: SearchSpace, data: Dataset, images: int, epochs: int, folder: Path) -> nn.Module:
    architecture = spread(space, 3, random.Random(0))[-1]
    run = Run.begin(folder, {"architecture": str(architecture), "images": images, "epochs": epochs})
    run.write_json("architecture.json", {"space": space.name, "choices": list(architecture.choices)})
    if not (folder / "weights.safetensors").exists():
        torch.manual_seed(0)
        network, recipe = space.network(architecture), Recipe(epochs=epochs, seed=0)
        for metrics in train(network, data.train.first(images), recipe, run, "train"):
            print(f"epoch {metrics['epoch']} of {epochs}", flush=True)
        save_network(run, "weights.safetensors", network)
    return load_network(run, space)


@torch.no_grad()
def _outputs(network: nn.Module, data: Dataset) -> Iterator[Array]:
    for batch in in_order(data.test, BATCHES.most):
        yield network(batch.x).numpy()


def _right(outputs: Array, data: Dataset) -> Array:
    return outputs.argmax(1) == data.test.y.numpy()


def _row(
    network: nn.Module, space: SearchSpace, data: Dataset, right: Array, name: str, precision: str
) -> dict[str, Any]:
    fmt, begin = FORMATS[name], time.monotonic()
    batches = BATCHES if fmt.takes_any_batch else Batches(1, 1)
    options = Options(
        precision=precision,
        batches=batches,
        images=lambda: (batch.x.numpy() for batch in in_order(data.train.first(256), 64)),
        capabilities=GPUS,
    )
    row: dict[str, Any] = {"format": name, "precision": precision}
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        path = Path(folder) / f"model{fmt.suffix}"
        try:
            facts = fmt.write(network, space.input_shape, path, options)
            if name == "tensorrt":
                row |= {"built_for": facts["built_for"], "layers_wrong": precision_faults(facts["layers"], precision)}
            row["bytes"] = sum(each.stat().st_size for each in fmt.files(path))
            seen = np.concatenate(list(_run(name, precision, path, Path(folder), data, batches)))
        except UnasError as error:
            row["reason"] = error.what
            print(f"{name} {precision}: {error.what}", flush=True)
            return row
    check = accuracy_check(right, _right(seen, data), precision if precision in LOST_POINTS else "float16")
    row |= {"top1": float(_right(seen, data).mean()), "points_lost": check.seen, "seconds": time.monotonic() - begin}
    if precision != "float32":
        row["within"] = check.seen <= LOST_POINTS[precision]
    print(row, flush=True)
    return row


def _run(name: str, precision: str, path: Path, folder: Path, data: Dataset, batches: Batches) -> Iterator[Array]:
    if name == "torch":
        from unas_hw.export.standalone import run_standalone

        yield run_standalone(path, np.concatenate([batch.x.numpy() for batch in in_order(data.test, 500)]))
        return
    fmt = FORMATS[name]
    if name == "tensorrt":
        fmt, path = FORMATS["onnx"], fmt.files(path)[1]
    short = "openvino" if fmt.name == "onnx" and precision == "bfloat16" else fmt.runtimes[0]
    computed = "float32" if short == "openvino" else precision
    engine = find_runtime(short).load(loadable(fmt, path, folder), 1, computed)
    for batch in in_order(data.test, batches.most):
        yield engine.run(batch.x.numpy())


if __name__ == "__main__":
    main()
