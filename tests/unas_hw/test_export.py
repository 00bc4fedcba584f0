"""A format is exported only where its latency is the one that was promised; all else is refused with the way round."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from profilers.errors import UnknownNameError
from profilers.runtimes.torch import TorchRuntime
from unas_hw.errors import ExportError
from unas_hw.export import FORMATS, find_format
from unas_hw.spaces.chain import ChainSpace


@pytest.mark.parametrize(("runtime", "name"), [("onnxruntime", "onnx"), ("torch", "torch"), ("simulated", "onnx")])
def test_without_a_name_the_format_is_the_one_that_the_tables_runtime_runs(runtime: str, name: str) -> None:
    assert find_format(None, runtime).name == name


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_simulated_device_takes_every_format(name: str) -> None:
    assert find_format(name, "simulated") is FORMATS[name]
    assert find_format(name, FORMATS[name].runtimes[0]) is FORMATS[name]


@pytest.mark.parametrize(("name", "runtime", "fitting"), [("torch", "onnxruntime", "onnx"), ("onnx", "torch", "torch")])
def test_a_format_that_another_runtime_runs_is_refused_with_both_ways_out(
    name: str, runtime: str, fitting: str
) -> None:
    with pytest.raises(ExportError, match=f"table is of {runtime}") as caught:
        find_format(name, runtime)
    assert f"--format {fitting}" in caught.value.mend
    assert f"--runtime {FORMATS[name].runtimes[0]}" in caught.value.mend


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="no format is called 'caffe'") as caught:
        find_format("caffe", "onnxruntime")
    assert all(name in caught.value.mend for name in FORMATS)


def test_tensorrt_is_refused_with_the_way_to_an_engine() -> None:
    with pytest.raises(ExportError, match="TensorRT") as caught:
        find_format("tensorrt", "onnxruntime")
    assert "--format onnx" in caught.value.mend
    assert "trtexec --onnx=" in caught.value.mend


def test_a_torch_file_gives_the_outputs_of_the_network(space: ChainSpace, tmp_path: Path) -> None:
    network = space.network(space.architecture((1, 0, 1))).eval()
    path = tmp_path / f"model{FORMATS['torch'].suffix}"
    FORMATS["torch"].write(network, space.input_shape, path, "float32", ())
    x = torch.randn(space.input_shape)
    seen = TorchRuntime().load(path, torch.get_num_threads()).run(x.numpy())
    torch.testing.assert_close(torch.from_numpy(seen), network(x).detach(), atol=1e-5, rtol=1e-5)
