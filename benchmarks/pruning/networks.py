"""Two networks that know nothing of pruning, written by hand as anybody would.

ResNet-20 for CIFAR is that of He et al. (arXiv 1512.03385, section 4.2), with 1x1 convolutions where the width changes
(their option B). The other has the inverted residuals of MobileNetV2 (arXiv 1801.04381) for images of 32 pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of so many blocks."""

    def __init__(self, blocks: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        layers: list[nn.Module] = []
        width_in = 16
        for width in (16, 32, 64):
            for number in range(blocks):
                layers.append(BasicBlock(width_in, width, 2 if number == 0 and width > 16 else 1))
                width_in = width
        self.blocks = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(relu(self.bn(self.conv(x))))
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection."""

    def __init__(self, width_in: int, width: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = width_in * expand
        self.residual = stride == 1 and width_in == width
        self.layers = nn.Sequential(
            nn.Conv2d(width_in, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class MobileNet(nn.Module):
    """Stages of ``(width, blocks, stride)``."""

    STAGES = ((24, 2, 1), (32, 2, 2), (64, 3, 2), (96, 2, 1))

    def __init__(self, channels: int, classes: int, expand: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        layers: list[nn.Module] = []
        width_in = 16
        for width, blocks, stride in self.STAGES:
            for number in range(blocks):
                layers.append(InvertedResidual(width_in, width, stride if number == 0 else 1, expand))
                width_in = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Conv2d(width_in, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits


def resnet20(channels: int = 3, classes: int = 10) -> nn.Module:
    """0.27M weights; 41M MACs for an image of 32 pixels."""
    return ResNet(3, channels, classes)


def mobilenet(channels: int = 3, classes: int = 10) -> nn.Module:
    """0.26M weights; 30M MACs for an image of 32 pixels."""
    return MobileNet(channels, classes)
