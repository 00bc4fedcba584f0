"""The blocks compute what their names say. The depthwise convolution has a form of its own for training on small
images; nobody may notice it but the clock, and what ships has none of it.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch.nn.functional import conv2d

from profilers.runtimes.onnx_file import write_onnx
from unas_hw.ops.depthwise import MAX_POSITIONS, DepthwiseConv2d
from unas_hw.ops.mbconv import Classifier, MBConv, conv_bn


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [2, 4, 5, 8])
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


def _nodes_that_ran(layer: DepthwiseConv2d, size: int) -> str:
    out = layer(torch.randn(2, 6, size, size))
    names, queue = [], [out.grad_fn]
    while queue:
        node = queue.pop()
        if node is not None:
            names.append(node.name())
            queue += [parent for parent, _ in node.next_functions]
    return " ".join(names)


def test_the_matrix_form_is_for_training_on_small_images_only() -> None:
    small, large = 8, 9
    assert small**2 <= MAX_POSITIONS < large**2
    layer = DepthwiseConv2d(6, 3, 1)
    assert "Bmm" in _nodes_that_ran(layer.train(), small)
    assert "Bmm" not in _nodes_that_ran(layer.train(), large)
    assert "Bmm" not in _nodes_that_ran(layer.eval(), small)


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
