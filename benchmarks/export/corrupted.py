"""Damaged artifacts: does verify fail every one, and by which check?

    python -m benchmarks.export.corrupted [--count 200] [--formats onnx,openvino,ncnn,torch,torch-export,tensorrt]

A network is searched for a simulated phone and exported in every format. Each artifact is then damaged in ways of its
own (bits, bytes, weights of another network, weights that are no numbers, another opset ...), verified, and brought
back. No other check looks at the hashes, so what else failed says whether the damage would have been found without.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors.torch
import torch

from benchmarks.commands import unas_hw
from benchmarks.report import keep
from profilers.timing import TimingRule
from unas_hw.export import FORMATS
from unas_hw.export.manifest import Manifest, find_manifest
from unas_hw.jobs.verify import verify
from unas_hw.progress import finish

HASHES = "files changed since the export (SHA-256)"
QUICK = TimingRule(min_rounds=4, max_rounds=4, min_time_s=0, warmup_s=0, warmup_calls=1)


def main() -> None:
    """Exports once, then damages and verifies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--formats", default="onnx,openvino,ncnn,torch,torch-export,tensorrt")
    told = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UNAS_HW_HOME"] = f"{folder}/home"
        os.chdir(folder)
        here = Path(folder)
        unas_hw(here, "profile", "--device", "sim:phone")
        short = ("--epochs", "2", "--warmup-epochs", "2", "--finals", "none", "--export")
        unas_hw(here, "search", "--device", "sim:phone", "--latency-budget", "60%", *short)
        unas_hw(here, "search", "--device", "sim:phone", "--latency-budget", "30%", "--run", "other", *short)
        (run,) = [path for path in Path("runs").iterdir() if path.is_dir() and path.name != "other"]
        kinds = [(name, kind) for name in told.formats.split(",") for kind in _kinds(name)]
        for name in told.formats.split(","):
            for each in (run.name, "other"):
                unas_hw(here, "export", "--run", each, "--format", name, "--no-repair")
        for number in range(told.count):
            rows.append(_one(run, *kinds[number % len(kinds)], number))
            print(json.dumps(rows[-1]), flush=True)
    failed, others = sum(not row["passed"] for row in rows), sum(bool(row["other_checks"]) for row in rows)
    checks = Counter(check for row in rows for check in (HASHES, *row["other_checks"]))
    left = Counter(f"{row['format']}: {row['kind']}" for row in rows if not row["other_checks"])
    print(f"{failed} of {len(rows)} fail; {others} by other checks than the hash; left to the hash: {dict(left)}")
    keep(
        "export_corrupted",
        {
            "artifacts": len(rows),
            "failed": failed,
            "failed_by_other_checks_than_the_hash": others,
            "left_to_the_hash": dict(left),
            "checks": dict(checks),
            "rows": rows,
        },
    )


def _one(run: Path, name: str, kind: str, seed: int) -> dict[str, Any]:
    """One damage, verified."""
    manifest_path = next(path for path in run.glob("export/*.manifest.json") if Manifest.load(path).format == name)
    artifact = find_manifest(manifest_path)[0]
    files, rng = FORMATS[name].files(artifact), random.Random(seed)
    kept = {path: path.read_bytes() for path in files}
    try:
        KINDS[kind](files, rng)
        found = finish(verify(str(artifact), rule=QUICK))
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    failed = [check["name"] for check in found["checks"] if not check["passed"]]
    return {
        "format": name,
        "kind": kind,
        "passed": found["passed"],
        "by_hash": HASHES in failed,
        "other_checks": [each for each in failed if each != HASHES],
    }


Damage = Callable[[list[Path], random.Random], None]


def _largest(files: list[Path]) -> Path:
    return max(files, key=lambda path: path.stat().st_size)


def _bit(files: list[Path], rng: random.Random) -> None:
    path = _largest(files)
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))


def _bytes(files: list[Path], rng: random.Random) -> None:
    path = _largest(files)
    content = bytearray(path.read_bytes())
    for _ in range(max(64, len(content) // 50)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(bytes(content))


def _truncated(files: list[Path], rng: random.Random) -> None:
    path = _largest(files)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * rng.uniform(0.1, 0.99))])


def _empty(files: list[Path], rng: random.Random) -> None:
    _largest(files).write_bytes(b"")


def _missing(files: list[Path], rng: random.Random) -> None:
    files[-1].unlink()


def _swapped(files: list[Path], rng: random.Random) -> None:
    other = Path("runs/other/export")
    for path in files:
        shutil.copy(other / path.name, path)


def _onnx(files: list[Path], change: Callable[[Any], None]) -> None:
    path = next(path for path in files if path.suffix == ".onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def _weights(files: list[Path], rng: random.Random, change: Callable[[Any], Any]) -> None:
    """Changes one tensor of an ONNX or safetensors file."""
    stored = [path for path in files if path.suffix == ".safetensors"]
    if stored:
        tensors = safetensors.torch.load_file(stored[0])
        name = rng.choice(sorted(key for key, each in tensors.items() if each.ndim == 4))
        tensors[name] = torch.from_numpy(change(tensors[name].numpy()).copy())
        safetensors.torch.save_file(tensors, stored[0])
        return

    def edit(model: Any) -> None:
        tensor = rng.choice([each for each in model.graph.initializer if len(each.dims) == 4])
        values = change(onnx.numpy_helper.to_array(tensor)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    _onnx(files, edit)


def _nan(files: list[Path], rng: random.Random) -> None:
    _weights(files, rng, lambda values: np.where(values == values.max(), np.float32(np.nan), values))


def _shuffled(files: list[Path], rng: random.Random) -> None:
    _weights(files, rng, lambda values: np.random.default_rng(0).permutation(values.ravel()).reshape(values.shape))


def _opset(files: list[Path], rng: random.Random) -> None:
    _onnx(files, lambda model: setattr(model.opset_import[0], "version", rng.choice([13, 17, 18, 19, 21, 22])))


def _no_metadata(files: list[Path], rng: random.Random) -> None:
    _onnx(files, lambda model: model.ClearField("metadata_props"))


def _renamed(files: list[Path], rng: random.Random) -> None:
    def change(model: Any) -> None:
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                if name == "input":
                    node.input[index] = "image"
        model.graph.input[0].name = "image"

    _onnx(files, change)


KINDS: dict[str, Damage] = {
    "one bit": _bit,
    "many bytes": _bytes,
    "truncated": _truncated,
    "empty": _empty,
    "file missing": _missing,
    "weights of another network": _swapped,
    "weight NaN": _nan,
    "weights shuffled": _shuffled,
    "another opset": _opset,
    "no metadata": _no_metadata,
    "input renamed": _renamed,
}


def _kinds(name: str) -> list[str]:
    every = list(KINDS)
    editable = {"onnx": every, "tensorrt": every, "torch": every[:8]}
    return editable.get(name, every[:6])


if __name__ == "__main__":
    main()
