"""A network as one file of plain PyTorch and one of weights, which need torch and safetensors and nothing of ours.

The file is readable: layers of ``torch.nn`` as their constructors, all else as functions of torch. It is built and
compared with the network before it is kept.
"""

from __future__ import annotations

import copy
import keyword
import math
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from profilers.agent.engine import Array
from profilers.files import write_atomic
from unas_hw.errors import ExportError
from unas_hw.export.spelling import INDENT, WIDTH, Spelling
from unas_hw.export.tracing import blamed, refused, trace

TOLERANCES = {"float32": 1e-6, "float16": 4e-3, "bfloat16": 3e-2}
"""By precision, of an output, as a share of the largest one if that is above 1: constants are rounded too."""
TRACED, COMPARED = 2, 3
"""Images at a time: two numbers, so that one that was taken for a constant is found out."""
_HEADER = '''"""{doc}
"""

from __future__ import annotations

from pathlib import Path

import torch
{functional}from safetensors.torch import load_file
from torch import Tensor, nn
{dtype}

class Model(nn.Module):
    """Takes float32 images and gives float32 outputs."""

    def __init__(self) -> None:
        super().__init__()
'''
_FOOTER = '''

def load(path: str | Path | None = None) -> Model:
    """The model in evaluation mode, with these weights or those of the file beside."""
    model = Model()
    state = load_file(path or Path(__file__).with_suffix(".safetensors"))
    model.load_state_dict(state)
    return model.eval()


if __name__ == "__main__":
    with torch.no_grad():
        print(tuple(load()(torch.zeros({shape})).shape))
'''
_RUNNER = """
import importlib.util, sys
sys.modules.update(dict.fromkeys(("unas_hw", "profilers", "latency_tables", "unas_hw_cli")))  # which refuses to import
import numpy, torch
_, path, x, y = sys.argv
spec = importlib.util.spec_from_file_location("standalone", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with torch.inference_mode():
    out = module.load()(torch.from_numpy(numpy.load(x, allow_pickle=False)))
numpy.save(y, out.numpy(), allow_pickle=False)
"""


def write_standalone(
    network: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    *,
    precision: str = "float32",
    metadata: Mapping[str, str],
) -> None:
    """Writes ``path`` and, beside it, ``.safetensors``: the network in evaluation mode, for any number of images.

    The network takes one tensor and returns one, and is left as it is; the Python file is imported by its name, and
    says the metadata of itself, a line each. The precision is that of the weights and inside; input and output are
    float32.

    Raises:
        ExportError: If a layer cannot be written down, naming it, or gives other outputs when it is.
        FileError: If a file cannot be written.
    """
    if path.suffix != ".py" or not path.stem.isidentifier() or keyword.iskeyword(path.stem):
        raise ExportError(f"{path.name} cannot be imported", mend="call it by letters, digits and _, such as model.py")
    if precision not in TOLERANCES:
        raise ExportError(
            f"a standalone model is {', '.join(TOLERANCES)}, not {precision}", mend="unas-hw export --format onnx"
        )
    dtype = getattr(torch, precision)
    network = copy.deepcopy(network).to("cpu", dtype).eval()
    generator = torch.Generator().manual_seed(0)
    traced, compared = (torch.randn(count, *shape[1:], generator=generator) for count in (TRACED, COMPARED))
    with torch.no_grad(), torch.random.fork_rng(devices=()), blamed(network, ""):
        spelling = Spelling(network, trace(network, traced.to(dtype)))
        source = _source(spelling, shape, path.stem, precision, metadata)
        error = _error(source, spelling.weights, compared, network(compared.to(dtype)).float())
    if not error <= TOLERANCES[precision]:  # NaN is no match
        raise refused(network, "", f"the outputs of what was written differ by {error:.3g}")
    write_atomic(path.with_suffix(".safetensors"), safetensors.torch.save(spelling.weights, {"format": "pt"}))
    write_atomic(path, source)


def run_standalone(path: Path, x: Array, *, python: str | None = None) -> Array:
    """The output of a standalone file in a process of its own in which nothing of ours can be imported.

    Images are float32; ``python`` is an interpreter with torch, safetensors and numpy, this one by default.

    Raises:
        ExportError: If it fails there, with the last line of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as name:
        given, made = Path(name) / "x.npy", Path(name) / "y.npy"
        np.save(given, np.asarray(x, np.float32), allow_pickle=False)
        command = [python or sys.executable, "-I", "-B", "-c", _RUNNER, str(path.resolve()), str(given), str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise ExportError(f"{command[0]} cannot be started: {error.strerror}", mend="check its path") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ExportError(f"{path} does not run by itself: {last}", mend=f"python {path} shows all of it")
        return np.load(made, allow_pickle=False)


def _source(spelling: Spelling, shape: tuple[int, ...], name: str, precision: str, metadata: Mapping[str, str]) -> str:
    """The whole file."""
    layers, steps, output, dtype = spelling.layers, spelling.steps, spelling.output, ""
    if precision != "float32":
        layers, output = [*layers, "", f"{INDENT}self.to(DTYPE)"], f"{output}.float()"
        steps = [f"{INDENT}x = x.to(DTYPE)", "", *steps]
        dtype = f"\nDTYPE = torch.{precision}\n"
    body = "\n".join([*layers, "", "    def forward(self, x: Tensor) -> Tensor:", *steps, f"{INDENT}return {output}"])
    functional = "import torch.nn.functional as F\n" if "F." in body else ""
    header = _HEADER.format(doc=_doc(shape, name, metadata), functional=functional, dtype=dtype)
    return header + body + "\n" + _FOOTER.format(shape=", ".join(map(str, (1, *shape[1:]))))


def _doc(shape: tuple[int, ...], name: str, metadata: Mapping[str, str]) -> str:
    """What the file says of itself."""
    images = ", ".join(map(str, ("N", *shape[1:])))
    facts = {**metadata, "input": f"float32 ({images})"}
    lines = []
    for key, value in facts.items():
        printable = "".join(each if each.isprintable() else " " for each in f"{key.replace('_', ' ')}: {value}")
        escaped = printable.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        lines.append(
            textwrap.fill(escaped, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        )
    usage = [f"    from {name} import load", "", "    model = load()", "    logits = model(images)"]
    return "\n".join(
        ["A network that unas-hw found, as plain PyTorch; its weights are in the file beside.", "", *lines, "", *usage]
    )


def _error(source: str, weights: Mapping[str, Tensor], x: Tensor, expected: Tensor) -> float:
    """How far the outputs of what was written are off, as a share of the largest one if that is above 1."""
    names: dict[str, Any] = {"__name__": "standalone"}
    exec(compile(source, "standalone.py", "exec", dont_inherit=True), names)
    model = names["Model"]().eval()
    model.load_state_dict(weights)
    made = model(x)
    if made.shape != expected.shape:
        return math.inf
    return float((made - expected).abs().max() / expected.abs().max().clamp_min(1))
