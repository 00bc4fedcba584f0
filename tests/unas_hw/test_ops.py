"""The blocks compute what their names say. The depthwise convolution has gradients of its own for training on
CPUs; nobody may notice them but the clock, and what ships has none of it.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from profilers.runtimes.onnx_file import write_onnx
from unas_hw.ops.depthwise import DepthwiseConv2d
from unas_hw.ops.mbconv import Classifier, MBConv, conv_bn


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 12])
def test_a_depthwise_convolution_in_training_equals_torchs_in_value_and_gradients(
    kernel: int, stride: int, size: int
) -> None:
    layer = DepthwiseConv2d(6, kernel, stride).train()
    x = torch.randn(3, 6, size, size, requires_grad=True)
    plain = conv2d(x, layer.weight, stride=stride, padding=kernel // 2, groups=6)
    ours = layer(x)
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)
    toward = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * toward).sum(), [x, layer.weight])
    seen = torch.autograd.grad((ours * toward).sum(), [x, layer.weight])
    torch.testing.assert_close(seen, expected, atol=1e-4, rtol=1e-4)


def test_gradients_of_its_own_are_for_training_in_single_precision_only() -> None:
    layer, x = DepthwiseConv2d(6, 3, 1), torch.randn(2, 6, 8, 8)

    def node(out: Tensor) -> str:
        assert out.grad_fn is not None
        return out.grad_fn.name()

    assert "_Depthwise" in node(layer.train()(x))
    assert "_Depthwise" not in node(layer.eval()(x))
    assert "_Depthwise" not in node(layer.double().train()(x.double()))


def test_an_export_has_a_plain_convolution(tmp_path: Path) -> None:
    write_onnx(DepthwiseConv2d(6, 5, 2).train(), (1, 6, 8, 8), tmp_path / "layer.onnx", final=False)
    model = onnx.load(tmp_path / "layer.onnx")
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    (attributes,) = [{each.name: onnx.helper.get_attribute_value(each) for each in model.graph.node[0].attribute}]
    assert (attributes["group"], attributes["strides"]) == (6, [2, 2])


@pytest.mark.parametrize(("stride", "out", "residual"), [(1, 8, True), (2, 8, False), (1, 12, False)])
def test_an_inverted_residual_adds_its_input_where_shapes_allow(stride: int, out: int, residual: bool) -> None:
    block = MBConv(8, out, kernel=3, expand=3, stride=stride).eval()
    x = torch.randn(2, 8, 8, 8)
    with torch.no_grad():
        for weight in block.project.parameters():
            weight.zero_()
        expected = x if residual else torch.zeros(2, out, 8 // stride, 8 // stride)
        torch.testing.assert_close(block(x), expected)


def test_expansion_is_the_hidden_width() -> None:
    for expand in (1, 3, 6):
        block = MBConv(8, 8, kernel=5, expand=expand, stride=1)
        hidden = [module for module in block.modules() if isinstance(module, DepthwiseConv2d)]
        assert [(layer.in_channels, layer.kernel_size) for layer in hidden] == [(8 * expand, (5, 5))]


def test_activations_are_cut_at_six() -> None:
    layer = conv_bn(3, 5, kernel=3).eval()
    out = layer(1000 * torch.randn(2, 3, 8, 8))
    assert (float(out.min()), float(out.max())) == (0.0, 6.0)
    assert float(conv_bn(3, 5, kernel=3, act=False).eval()(torch.randn(2, 3, 8, 8)).min()) < 0


def test_the_classifier_sees_the_mean_of_each_channel() -> None:
    layer = Classifier(4, 3)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(layer(x), layer.linear(x.mean((2, 3))))
