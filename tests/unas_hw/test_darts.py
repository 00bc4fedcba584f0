"""The operations of a DARTS cell: their shapes and sizes, and that each computes what its name says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

from unas_hw.ops.darts import LISTS, OPS, FactorizedReduce, build

CHANNELS = 16
PARAMETERS = {  # of 16 channels: depthwise + 1x1 + two of each normalised channel
    "skip_connect": (0, 2 * 16 * 8 + 2 * 16),  # at stride 2 two 1x1 convolutions of 8 outputs
    "sep_conv_3x3": (2 * (16 * 9 + 16 * 16 + 2 * 16),) * 2,
    "max_pool_3x3": (0, 0),
    "dil_conv_3x3": (16 * 9 + 16 * 16 + 2 * 16,) * 2,
    "sep_conv_5x5": (2 * (16 * 25 + 16 * 16 + 2 * 16),) * 2,
    "avg_pool_3x3": (0, 0),
    "sep_conv_7x7": (2 * (16 * 49 + 16 * 16 + 2 * 16),) * 2,
    "dil_conv_5x5": (16 * 25 + 16 * 16 + 2 * 16,) * 2,
    "conv_7x1_1x7": (2 * 7 * 16 * 16 + 2 * 16,) * 2,
}
ALL = tuple(PARAMETERS)


def _input(size: int = 8) -> Tensor:
    return torch.randn(2, CHANNELS, size, size, generator=torch.Generator().manual_seed(0))


def test_the_order_is_the_published_one() -> None:
    assert ALL[:7] == OPS == LISTS["7"]
    assert ALL[:5] == LISTS["5"]
    assert LISTS["all"] == ALL
    assert set(LISTS["darts"]) == set(ALL) - {"sep_conv_7x7", "conv_7x1_1x7"}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", ALL)
def test_an_operation_keeps_the_width_and_divides_the_size_by_its_stride(op: str, stride: int) -> None:
    assert build(op, CHANNELS, stride)(_input()).shape == (2, CHANNELS, 8 // stride, 8 // stride)
    assert build(op, CHANNELS, stride)(_input(9)).shape == (
        2,
        CHANNELS,
        9 // stride + stride - 1,
        9 // stride + stride - 1,
    )


@pytest.mark.parametrize("op", ALL)
def test_an_operation_has_as_many_parameters_as_counted_by_hand(op: str) -> None:
    counts = [sum(each.numel() for each in build(op, CHANNELS, stride).parameters()) for stride in (1, 2)]
    assert counts == list(PARAMETERS[op])


def test_a_skip_changes_nothing_at_stride_1() -> None:
    x = _input()
    assert torch.equal(build("skip_connect", CHANNELS, 1)(x), x)


def test_a_factorized_reduction_sees_even_positions_with_one_half_and_odd_ones_with_the_other() -> None:
    module = FactorizedReduce(CHANNELS, 6).eval()
    x = _input()
    relu = x.clamp(min=0)
    expected = torch.cat(
        [conv2d(relu[:, :, ::2, ::2], module.even.weight), conv2d(relu[:, :, 1::2, 1::2], module.odd.weight)], 1
    )
    torch.testing.assert_close(module(x), expected / (1 + module.bn.eps) ** 0.5)


def test_a_factorized_reduction_of_an_odd_size_sees_nothing_beyond_the_border() -> None:
    module = FactorizedReduce(CHANNELS, 6).eval()
    x = _input(7)
    even = module(nn.functional.pad(x, (0, 1, 0, 1)))
    torch.testing.assert_close(module(x), even)
    assert even.shape == (2, 6, 4, 4)


def test_a_factorized_reduction_of_odd_width_leaves_no_channel_out() -> None:
    assert FactorizedReduce(CHANNELS, 5)(_input()).shape == (2, 5, 4, 4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", [op for op in ALL if "_conv" in op])
def test_a_separable_convolution_is_relu_depthwise_pointwise_and_normalisation(op: str, stride: int) -> None:
    module = build(op, CHANNELS, stride).eval()
    kernel, dilation = int(op[-1]), 2 if op.startswith("dil") else 1
    weights = [each.weight for each in module.modules() if isinstance(each, nn.Conv2d)]
    assert len(weights) == (2 if dilation == 2 else 4)
    expected, padding = _input(), kernel // 2 * dilation
    for depthwise, pointwise in zip(weights[::2], weights[1::2], strict=True):
        seen = conv2d(expected.clamp(min=0), depthwise, None, stride, padding, dilation, CHANNELS)
        expected, stride = conv2d(seen, pointwise) / (1 + 1e-5) ** 0.5, 1
    torch.testing.assert_close(module(_input()), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_crossed_convolution_goes_along_rows_and_then_along_columns(stride: int) -> None:
    module = build("conv_7x1_1x7", CHANNELS, stride).eval()
    row, column = (each.weight for each in module.modules() if isinstance(each, nn.Conv2d))
    assert (row.shape[2:], column.shape[2:]) == ((1, 7), (7, 1))
    full = torch.einsum("mjx,omy->ojyx", row[:, :, 0], column[..., 0])  # one 7x7 convolution that does the same
    expected = conv2d(_input().clamp(min=0), full, None, stride, 3) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(module(_input()), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pooling_is_normalised_without_parameters(stride: int) -> None:
    x = _input()
    pooled = {
        "max_pool_3x3": max_pool2d(x, 3, stride, 1),
        "avg_pool_3x3": avg_pool2d(x, 3, stride, 1, count_include_pad=False),
    }
    for op, expected in pooled.items():
        mean, variance = expected.mean((0, 2, 3), keepdim=True), expected.var((0, 2, 3), keepdim=True, correction=0)
        out = build(op, CHANNELS, stride).train()(x)
        torch.testing.assert_close(out, (expected - mean) / (variance + 1e-5) ** 0.5, atol=1e-5, rtol=1e-4)
