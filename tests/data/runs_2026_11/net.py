"""A small network to prune."""

from torch import nn

IMAGE_SHAPE, CLASSES = (1, 8, 8), 10


def build(classes: int = CLASSES, channels: int = 1) -> nn.Module:
    """Three convolutions and a linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()),
        *(nn.Conv2d(24, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes)),
    )
