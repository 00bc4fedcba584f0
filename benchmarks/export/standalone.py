"""Standalone files in an environment that pip has just made: do random networks give there what they give here?

python -m benchmarks.export.standalone
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.report import keep
from profilers.agent.engine import random_input
from unas_hw.export.standalone import run_standalone, write_standalone
from unas_hw.spaces import find_space

ROOT = Path(__file__).parents[2]
SPACES = ("mbconv", "darts?width=8&layers=5", "nas_bench_201")
IMAGE_SHAPE, NETWORKS, IMAGES = (3, 32, 32), 10, 16
NEEDED = ("torch", "safetensors", "numpy")
"""numpy carries images in and out; the files themselves need the other two."""
ALLOWED = 1e-6


def fresh(folder: Path) -> str:
    """The Python of a new environment in which pip has put what is needed; fails if ours is there."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*install, *NEEDED], check=True)
    if subprocess.run([python, "-I", "-c", "import unas_hw"], capture_output=True).returncode == 0:
        raise SystemExit("unas_hw is in the new environment: it proves nothing")
    return python


def versions(python: str) -> list[str]:
    """All that is installed there."""
    listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def trained(network: nn.Module) -> nn.Module:
    """With statistics as if it had seen images: those of a new network hide what normalisation does."""
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return network.eval()


def compared(name: str, seed: int, folder: Path, python: str) -> dict[str, Any]:
    """A random network, written here and run there."""
    space = find_space(name, image_shape=IMAGE_SHAPE)
    architecture = space.draw(random.Random(seed))
    torch.manual_seed(seed)
    network = trained(space.network(architecture))
    path, begin = folder / "model.py", time.perf_counter()
    write_standalone(network, space.input_shape, path, metadata={"architecture": str(architecture)})
    write_s = time.perf_counter() - begin
    x = random_input((IMAGES, *IMAGE_SHAPE))
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    return {
        "space": name,
        "architecture": str(architecture),
        "max_abs_error": float(np.abs(run_standalone(path, x, python=python) - expected).max()),
        "max_abs_output": float(np.abs(expected).max()),
        "lines": len(path.read_text(encoding="utf-8").splitlines()),
        "write_s": write_s,
    }


def main() -> None:
    """Ten networks of each space."""
    with tempfile.TemporaryDirectory() as name:
        python = fresh(Path(name) / "venv")
        installed = versions(python)
        print("installed:", *installed, flush=True)
        rows = [compared(space, seed, Path(name), python) for space in SPACES for seed in range(NETWORKS)]
    print(f"{'space':<24} networks  max error  max output  lines  seconds to write")
    for space in SPACES:
        own = [row for row in rows if row["space"] == space]
        error, output, lines, write_s = (
            max(row[key] for row in own) for key in ("max_abs_error", "max_abs_output", "lines", "write_s")
        )
        print(f"{space:<24} {len(own):>8} {error:>10.2g} {output:>11.3g} {lines:>6} {write_s:>17.2f}")
    worst = max(row["max_abs_error"] for row in rows)
    print(f"largest error {worst:.2g}, allowed {ALLOWED:.0e}: {'kept' if worst <= ALLOWED else 'NOT KEPT'}")
    keep(
        "export_standalone",
        {"installed": installed, "images": IMAGES, "allowed": ALLOWED, "max_abs_error": worst, "rows": rows},
    )


if __name__ == "__main__":
    main()
