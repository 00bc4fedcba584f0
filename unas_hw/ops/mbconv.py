"""Blocks of the MobileNet family: convolution, inverted residual, classifier (FACTS of ProxylessNAS and UNAS)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from unas_hw.ops.depthwise import DepthwiseConv2d, is_quick
from unas_hw.ops.drop_path import DropPath
from unas_hw.ops.fused_mbconv import expand_to_project

BN_EPS = 1e-3


def conv_bn(in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution, batch normalisation and, with ``act``, ReLU6; padded so that stride 1 keeps the size."""
    return _bn_act(nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False), act)


def _bn_act(conv: nn.Conv2d, act: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=conv,
        bn=nn.BatchNorm2d(conv.out_channels, eps=BN_EPS),
    )
    if act:
        layers["act"] = nn.ReLU6()
    return nn.Sequential(layers)


class MBConv(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise ``kernel``, 1x1 projection (MobileNetV2, section 3).

    The input is added to the output where both have the same shape; there training can drop the rest.
    """

    nests = True

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, expand: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expand
        self.expand = conv_bn(in_channels, hidden, kernel=1) if expand > 1 else nn.Identity()
        self.depthwise = _bn_act(DepthwiseConv2d(hidden, kernel, stride), act=True)
        self.project = conv_bn(hidden, out_channels, kernel=1, act=False)
        self.residual = stride == 1 and in_channels == out_channels
        self.drop = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._fused(x) if self._can_be_fused(x) else self.project(self.depthwise(self.expand(x)))
        return x + self.drop(out) if self.residual else out

    def _can_be_fused(self, x: Tensor) -> bool:
        """Whether it expands, and normalises by its batch always, as in supernets; what is deployed never does."""
        norm: Any = self.project.bn
        return isinstance(self.expand, nn.Sequential) and norm.running_mean is None and is_quick(x)

    def _fused(self, x: Tensor) -> Tensor:
        expand: Any = self.expand
        depthwise: Any = self.depthwise
        project: Any = self.project  # parameters may be others for a pass: they are asked for by name
        norms = [(part.conv.weight, part.bn.weight, part.bn.bias) for part in (expand, depthwise)]
        out: Tensor = expand_to_project(x, depthwise.conv.stride[0], BN_EPS, *norms[0], *norms[1], project.conv.weight)
        out = project.bn(out)
        return out


class Classifier(nn.Module):
    """Global average pooling and one linear layer: ``(N, C, H, W)`` to ``(N, classes)``."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(in_channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits


def flat_linear(in_channels: int, classes: int) -> nn.Sequential:
    """The linear layer alone: ``(N, C, 1, 1)`` to ``(N, classes)``."""
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), linear=nn.Linear(in_channels, classes)))
