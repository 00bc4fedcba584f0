"""Random networks of each space in every format that installs here: written, checked, run, compared.

    python -m benchmarks.export.formats [--networks 100] [--spaces mbconv,darts,nas_bench_201] [--formats onnx,...]

Batch normalisation gets the statistics of random images, so that outputs are of the size of a trained network's. The
formats that are made of ONNX share one run of PyTorch's exporter a network, which is most of their time. What is done
is journaled in ``--folder``: the same command goes on there.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.report import keep
from profilers.agent.engine import Array
from profilers.errors import UnasError
from profilers.registry import find_runtime
from profilers.runtimes import onnx_file
from unas_hw.export import FORMATS, Format, Options
from unas_hw.export.batches import Batches
from unas_hw.export.manifest import loadable
from unas_hw.export.tensorrt import precision_faults
from unas_hw.network import recalibrate
from unas_hw.spaces import find_space
from unas_hw.verify.onnx_file import onnx_checks

SPACES: dict[str, tuple[str, tuple[int, int, int], int]] = {
    "mbconv": ("mbconv", (3, 224, 224), 1000),
    "darts": ("darts?layers=8&width=16", (3, 32, 32), 10),
    "nas_bench_201": ("nas_bench_201", (3, 32, 32), 10),
}
DYNAMIC, FIXED = Batches(1, 64), Batches(1, 1)
GPUS = ("SM86", "SM89", "SM120")
MAX_ERROR = 1e-4


def main() -> None:
    """Runs what is asked for, then keeps what the journal has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--spaces", default=",".join(SPACES))
    parser.add_argument("--formats", default="onnx,openvino,tensorrt,torch,torch-export,ncnn")
    parser.add_argument("--folder", type=Path, default=Path("runs/formats"))
    parser.add_argument("--report", action="store_true", help="only report what was done")
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    _share_exports()
    if not told.report:
        for space in told.spaces.split(","):
            _space(space, told.networks, told.formats.split(","), told.folder / f"{space}.jsonl")
    lines = [json.loads(line) for path in sorted(told.folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    keep("export_formats", {"max_error_allowed": MAX_ERROR, "spaces": SPACES, "rows": _rows(lines)})


def _share_exports() -> None:
    """The exporter's model of a network is made once."""
    made: dict[tuple[int, Any], Any] = {}
    export = onnx_file._exported

    def shared(module: nn.Module, shape: tuple[int, ...], opset: int, batches: tuple[int, int], final: bool) -> Any:
        key = (id(module), (shape, opset, batches, final))
        if key not in made:
            if not any(known[0] == id(module) for known in made):
                made.clear()
            made[key] = export(module, shape, opset, batches, final)
        return copy.deepcopy(made[key])

    onnx_file._exported = shared


def _space(name: str, count: int, formats: list[str], journal: Path) -> None:
    origin, image, classes = SPACES[name]
    space = find_space(origin, image_shape=image, classes=classes)
    done = {(line["number"], line["format"]) for line in map(json.loads, _lines(journal))}
    for number in range(count):
        wanted = [each for each in formats if (number, each) not in done]
        if not wanted:
            continue
        torch.manual_seed(number)
        network = space.network(space.draw(random.Random(number))).eval()
        images = torch.randn(16, *image)
        with torch.no_grad():
            recalibrate(network, images)
            expected = network(images[:4]).numpy()
        for each in wanted:
            found = _one(network, FORMATS[each], (1, *image), images[:4], expected)
            line = {"space": name, "number": number, "format": each, **found}
            with journal.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _one(
    network: nn.Module, fmt: Format, shape: tuple[int, ...], images: torch.Tensor, expected: Array
) -> dict[str, Any]:
    """What became of one network in one format."""
    begin = time.monotonic()
    found: dict[str, Any] = {"exported": False, "checked": False, "max_error": None, "reason": ""}
    batches = DYNAMIC if fmt.takes_any_batch else FIXED
    options = Options(precision="float32", batches=batches, images=lambda: iter(()), capabilities=GPUS)
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        path = Path(folder) / f"model{fmt.suffix}"
        try:
            facts = fmt.write(network, shape, path, options)
            found["exported"] = True
            if fmt.name == "tensorrt":
                found["checked"] = precision_faults(facts["layers"], "float32") == 0
            elif fmt.name == "onnx":
                failed = [check.name for check in _checks(network, shape, path) if not check.passed]
                found |= {"checked": not failed, "reason": ", ".join(failed)}
            else:
                found["checked"] = all(each.is_file() for each in fmt.files(path))
            if run := _runner(fmt, path, Path(folder)):
                seen = np.concatenate(list(run(images, batches)))
                found["max_error"] = float(np.abs(seen - expected).max() / max(1.0, np.abs(expected).max()))
        except UnasError as error:
            found["reason"] = error.what
    return {**found, "seconds": round(time.monotonic() - begin, 2)}


def _checks(network: nn.Module, shape: tuple[int, ...], path: Path) -> Iterator[Any]:
    profiled = path.with_name("profiled.onnx")
    find_runtime("onnxruntime").convert(network, shape, profiled)
    opset = onnx_file.opset_of(onnx.load(path))
    assert opset == onnx_file.OPSET
    return onnx_checks(path, profiled, opset=opset, batches=DYNAMIC, precision="float32", properties={})


def _runner(fmt: Format, path: Path, folder: Path) -> Callable[[torch.Tensor, Batches], Iterator[Array]] | None:
    """How the file is run: by its runtime, or as what it is; an engine for other GPUs is not."""
    if fmt.name == "tensorrt":
        return None
    if fmt.name == "torch":
        spec = importlib.util.spec_from_file_location("standalone", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.load()

        def plain(images: torch.Tensor, batches: Batches) -> Iterator[Array]:
            with torch.no_grad():
                yield model(images).numpy()

        return plain
    engine = find_runtime(fmt.runtimes[0]).load(loadable(fmt, path, folder), 1)

    def run(images: torch.Tensor, batches: Batches) -> Iterator[Array]:
        sizes = [1, len(images) - 1] if batches.dynamic else [1] * len(images)
        return (engine.run(part.numpy()) for part in images.split(sizes))

    return run


def _rows(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each space and format."""
    rows = []
    for space, name in sorted({(line["space"], line["format"]) for line in lines}):
        part = [line for line in lines if (line["space"], line["format"]) == (space, name)]
        errors = [line["max_error"] for line in part if line["max_error"] is not None]
        row = {
            "space": space,
            "format": name,
            "networks": len(part),
            "exported": sum(line["exported"] for line in part),
            "checked": sum(line["checked"] for line in part),
            "within_1e-4": sum(error <= MAX_ERROR for error in errors) if name != "tensorrt" else None,
            "max_error": max(errors, default=None),
            "seconds_median": float(np.median([line["seconds"] for line in part])),
            "reasons": sorted({line["reason"] for line in part if line["reason"]}),
        }
        rows.append(row)
        print(f"{space:14} {name:13} {row['exported']}/{row['checked']}/{row['within_1e-4']} of {row['networks']}, "
              f"largest error {row['max_error']}, {row['seconds_median']:.1f} s {row['reasons'] or ''}")  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
