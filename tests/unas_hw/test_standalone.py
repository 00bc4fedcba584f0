"""A standalone file gives what the network gives, anywhere that torch and safetensors are, or is not written."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import random
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from packaging.requirements import Requirement
from torch import Tensor, nn
from torch.nn import functional

from unas_hw.errors import ExportError
from unas_hw.export.standalone import run_standalone, write_standalone
from unas_hw.ops.drop_path import DropPath, set_drop_path
from unas_hw.spaces import find_space

SPACES = {
    "mbconv-small": (1, 8, 8),
    "nas_bench_201?cells=1": (3, 8, 8),
    "darts?width=4&layers=3&ops=all": (3, 15, 15),
    "mbconv?width=0.25": (3, 32, 32),
}
OURS = ("unas_hw", "profilers", "latency_tables", "unas_hw_cli", "cli")


def drawn(name: str, seed: int = 0) -> nn.Module:
    """A random network of the space, with statistics as if it had seen images."""
    space = find_space(name, image_shape=SPACES[name])
    return settled(space.network(space.draw(random.Random(seed))))


def settled(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def loaded(path: Path) -> nn.Module:
    spec = importlib.util.spec_from_file_location("standalone_under_test", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model: nn.Module = module.load()
    return model


def written(
    network: nn.Module, shape: tuple[int, ...], precision: str = "float32", metadata: dict[str, str] | None = None
) -> Path:
    path = Path("model.py").resolve()
    write_standalone(network, (1, *shape), path, precision=precision, metadata=metadata or {})
    return path


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        out: Tensor = network(x)
    return out


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment with torch, safetensors, numpy and what they need, and nothing else."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    needed, done = ["torch", "safetensors", "numpy"], set[str]()
    while needed:
        name = needed.pop()
        if name in done:
            continue
        done.add(name)
        found = distribution(name)
        requirements = map(Requirement, found.requires or [])
        needed += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(found.locate_file(top))))
    return str(folder / "bin" / "python")


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_networks_of_every_space_give_the_same_outputs(name: str, seed: int) -> None:
    network = drawn(name, seed)
    model = loaded(written(network, SPACES[name]))
    x = torch.randn(5, *SPACES[name])
    expected = outputs(network, x)
    torch.testing.assert_close(outputs(model, x), expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    assert not model.training


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(
    ("precision", "allowed"), [("float16", 0.01), pytest.param("bfloat16", 0.05, marks=pytest.mark.slow)]
)
def test_half_the_bits_inside_take_and_give_float32(name: str, precision: str, allowed: float) -> None:
    network = drawn(name)
    model = loaded(written(network, SPACES[name], precision=precision))
    assert {each.dtype for each in model.parameters()} == {getattr(torch, precision)}
    x = torch.randn(5, *SPACES[name])
    expected, seen = outputs(network, x), outputs(model, x)
    assert seen.dtype == torch.float32
    assert 0 < float((seen - expected).abs().max()) <= allowed * float(expected.abs().max())
    torch.testing.assert_close(
        seen, outputs(network.to(getattr(torch, precision)), x.to(getattr(torch, precision))).float()
    )


def test_spaces_of_ones_own_can_be_written() -> None:
    for example in ("tiny.yaml", "bottlenecks.py"):
        space = find_space(str(Path(__file__).parents[2] / "examples" / example))
        for seed in range(3):
            network = settled(space.network(space.draw(random.Random(seed))))
            x = torch.randn(5, *space.input_shape[1:])
            model = loaded(written(network, space.input_shape[1:]))
            torch.testing.assert_close(outputs(model, x), outputs(network, x), rtol=1e-6, atol=1e-6)


@pytest.mark.slow  # six processes, half of which import PyTorch
def test_it_runs_where_nothing_of_ours_is_installed(elsewhere: str, tmp_path: Path) -> None:
    for name in OURS:
        done = subprocess.run([elsewhere, "-I", "-c", f"import {name}"], capture_output=True, text=True)
        assert f"ModuleNotFoundError: No module named '{name}'" in done.stderr
    network = drawn("mbconv-small")
    path = written(network, SPACES["mbconv-small"])
    x = torch.randn(5, *SPACES["mbconv-small"])
    seen = run_standalone(path, x.numpy(), python=elsewhere)
    assert seen.dtype == "float32"
    assert abs(seen - outputs(network, x).numpy()).max() <= 1e-6
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    check = subprocess.run([elsewhere, path], capture_output=True, text=True, check=True, cwd=tmp_path, env=clean)
    assert check.stdout == "(1, 10)\n"


def test_a_process_of_its_own_refuses_what_is_ours_and_says_its_last_line() -> None:
    Path("needs.py").write_text(
        f"refused = []\nfor name in {OURS[:-1]}:\n    try:\n        __import__(name)\n"
        "    except ModuleNotFoundError as error:\n        refused.append(error.name)\n"
        "raise SystemExit(f'lacks {refused}')\n"
    )
    with pytest.raises(ExportError) as caught:
        run_standalone(Path("needs.py"), torch.zeros(1).numpy())
    assert caught.value.what == f"needs.py does not run by itself: lacks {list(OURS[:-1])}"


def test_an_interpreter_that_is_not_there_is_said() -> None:
    with pytest.raises(ExportError, match="nowhere/python cannot be started"):
        run_standalone(Path("model.py"), torch.zeros(1).numpy(), python="nowhere/python")


def test_the_file_is_readable_tidy_and_nothing_but_torch() -> None:
    path = written(drawn("mbconv-small"), SPACES["mbconv-small"], metadata={"architecture": "mbconv-small:k3e3"})
    text = path.read_text()
    py_compile.compile(str(path), doraise=True)
    imports = [line for line in text.splitlines() if line.startswith(("import", "from"))]
    assert imports == [
        "from __future__ import annotations",
        "from pathlib import Path",
        "import torch",
        "from safetensors.torch import load_file",
        "from torch import Tensor, nn",
    ]
    assert "        self.layer0_conv = nn.Conv2d(1, 16, kernel_size=3, padding=1, bias=False)\n" in text
    assert "        self.layer0_bn = nn.BatchNorm2d(16, eps=0.001)\n" in text
    assert "architecture: mbconv-small:k3e3\ninput: float32 (N, 1, 8, 8)\n" in text
    assert all(len(line) <= 88 for line in text.splitlines())
    keys = safetensors.torch.load_file(path.with_suffix(".safetensors")).keys()
    assert {"layer0_conv.weight", "layer1_depthwise_bn.running_var"} <= keys


@pytest.mark.skipif(shutil.which("ruff") is None, reason="ruff is not installed")
@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_a_formatter_and_a_linter_find_nothing_to_do(precision: str) -> None:
    for network, shape in [(drawn(name), shape) for name, shape in SPACES.items()] + [(Everything(), (4, 8, 8))]:
        path = written(network, shape, precision=precision)
        for command in (("format", "--diff"), ("check",)):
            done = subprocess.run(["ruff", *command, "--isolated", "--no-cache", path], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout


def test_the_same_network_makes_the_same_files_and_is_left_as_it_was() -> None:
    network = drawn("darts?width=4&layers=3&ops=all").train()
    before, state = torch.get_rng_state(), {key: value.clone() for key, value in network.state_dict().items()}
    made = []
    for _ in range(2):
        path = written(network, (3, 15, 15))
        made.append([each.read_bytes() for each in (path, path.with_suffix(".safetensors"))])
    assert made[0] == made[1]
    assert network.training and torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_what_is_there_only_in_training_is_left_out_and_normalisation_learns() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5), DropPath(), nn.Identity(), nn.BatchNorm2d(4))
    set_drop_path(network, 0.5)
    path = written(network, (3, 4, 4))
    text = path.read_text()
    assert all(word not in text for word in ("rop", "Identity")), text
    model = loaded(path).train()
    model(torch.randn(8, 3, 4, 4)).square().sum().backward()
    assert model.get_buffer("layer4.num_batches_tracked") == 1
    assert all(each.grad is not None for each in model.parameters())


class Everything(nn.Module):
    """Parameters and buffers of its own, sizes, functions, operators, slices, unpacking, a shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.register_buffer("mean", torch.rand(1, 4, 1, 1))
        self.register_buffer("order", torch.tensor([2, 0, 3, 1]))
        self.act = nn.GELU(approximate="tanh")
        self.inplace = nn.Hardswish(inplace=True)
        self.norm = nn.LayerNorm([8, 8])
        self.pool = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        images, channels, height, width = x.size()
        if height % 2:
            x = x[:, :, 1:]
        x = (x - self.get_buffer("mean")) * self.scale
        gate = self.gate(self.gate(x.mean((2, 3)))).view(images, channels, 1, 1).sigmoid()
        one, other = self.act(x * gate).chunk(2, 1)
        x = torch.cat([one, -other], dim=1)[:, self.get_buffer("order")]
        x = x.reshape(images, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)
        x = functional.dropout(self.norm(x), 0.2, training=self.training)
        y = functional.pad(self.inplace(x + 1) ** 2, (0, 1, 0, 1), value=float("-inf"))
        x = self.pool(x) + functional.max_pool2d(y, 3, 2) * torch.ones(4, 1, 1)
        out: Tensor = (2 - x[..., -1]).flatten(1) + self.gate.weight.sum()
        return out


@pytest.mark.parametrize("inside", [False, True])
def test_parameters_functions_and_sizes_of_composite_modules_are_written(inside: bool) -> None:
    network = (nn.Sequential(nn.Conv2d(4, 4, 1), Everything()) if inside else Everything()).eval()
    model = loaded(written(network, (4, 8, 8)))
    for images in (1, 2, 7):
        x = torch.randn(images, 4, 8, 8)
        torch.testing.assert_close(outputs(model, x), outputs(network, x), rtol=1e-6, atol=1e-6)
    names = {name for name, _ in model.named_parameters()}
    assert len(names) == len(list(network.parameters())) and f"{'layer1_' * inside}scale" in names


class Chooses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        channels, images = x.transpose(0, 1).shape[:2]
        return x.transpose(0, 1).reshape(channels, images, -1).mean(2)


class Foreign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.special.expit(x)
        return out


class Both(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.encoder(x[:, 0])
        return out


@pytest.mark.parametrize(
    ("block", "what"),
    [
        (Chooses, r"Chooses \(1\) .* depends on the values"),
        (Counts, "Sequential .* outputs of what was written differ"),
        (Foreign, r"Foreign \(1\) .* special_expit is no public function"),
        (Both, "Sequential .* does not take one tensor and give one"),
        (Attends, r"TransformerEncoderLayer \(1.encoder\) .* do not say how it was made"),
        (
            lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)),
            r"ParametrizedConv2d \(1\) .* no such layer",
        ),
        (lambda: nn.Conv2d(2, 2, 1), r"Conv2d \(1\) .* to have 2 channels"),
    ],
)
def test_what_cannot_be_written_down_is_refused_by_name(block: Any, what: str) -> None:
    with pytest.raises(ExportError, match=f"{what}") as caught:
        written(nn.Sequential(nn.ReLU(), block()), (3, 4, 4))
    assert caught.value.mend == "unas-hw export --format torch-export"
    assert not Path("model.py").exists() and not Path("model.safetensors").exists()


@pytest.mark.parametrize("name", ["model-2.py", "class.py", "model.txt"])
def test_a_file_that_cannot_be_imported_is_refused(name: str) -> None:
    with pytest.raises(ExportError, match=f"{name} cannot be imported"):
        write_standalone(nn.ReLU(), (1, 3), Path(name), metadata={})


def test_a_precision_that_torch_files_do_not_have_is_refused() -> None:
    with pytest.raises(ExportError, match="not int8"):
        written(nn.ReLU(), (3,), precision="int8")


def test_whatever_the_metadata_says_stays_text() -> None:
    path = written(nn.ReLU(), (3,), metadata={"note": '"""\nimport os\\N{x}\x00 "'})
    assert torch.equal(outputs(loaded(path), torch.tensor([[-1.0, 0.0, 2.0]])), torch.tensor([[0.0, 0.0, 2.0]]))
    assert "\nimport os" not in path.read_text()
