"""A network of one's own to prune: unas-hw prune examples/my_resnet.py. Any torch module will do."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_SHAPE, CLASSES = (1, 8, 8), 10


class Block(nn.Module):
    """Two convolutions, and what comes in is added: projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages, the second and third of half the size and twice the width."""

    def __init__(self, classes: int, channels: int, width: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        stages, inputs = [], width
        for stage in range(3):
            for place in range(blocks):
                stride = 2 if stage and not place else 1
                stages.append(Block(inputs, width << stage, stride))
                inputs = width << stage
        self.blocks = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        out: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return out


def build(classes: int = CLASSES, channels: int = 1) -> nn.Module:
    """What unas-hw calls, with the classes and channels of the data set."""
    return ResNet(classes, channels)
