"""A block of one's own for tiny.yaml: any torch module that takes these three arguments, and those of the file."""

from torch import Tensor, nn


class Gated(nn.Module):
    """One convolution decides how much of another passes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.value = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.gate = nn.Conv2d(in_channels, out_channels, 1, stride)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.value(x) * self.gate(x).sigmoid())
        return out
