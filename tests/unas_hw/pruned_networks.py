"""Networks written to be pruned: each has something that a careless pruning would break."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHAPE = (3, 12, 12)
CLASSES = 5


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Head(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return out


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    """Identity shortcuts and projected ones, as ResNet-20 has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.blocks = nn.Sequential(*(BasicBlock(*each) for each in ((8, 8, 1), (8, 8, 1), (8, 12, 2), (12, 12, 1))))
        self.head = Head(12)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out


class DenseLayer(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class DenseNet(nn.Module):
    """Concatenation, and normalisation of what was concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layers = nn.Sequential(DenseLayer(6), DenseLayer(10), DenseLayer(14))
        self.transition = nn.Sequential(nn.BatchNorm2d(18), nn.ReLU(), nn.Conv2d(18, 8, 1), nn.AvgPool2d(2))
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.transition(self.layers(self.stem(x))))
        return out


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = 3 * inputs
        layers = (conv_bn(inputs, wide, 1), conv_bn(wide, wide, 3, stride, groups=wide), conv_bn(wide, outputs, 1)[:2])
        self.layers = nn.Sequential(*layers)
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.adds else out


class MobileNet(nn.Module):
    """Depthwise convolutions within inverted residuals, and one with two filters a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 6, stride=2)
        self.blocks = nn.Sequential(*(InvertedResidual(*each) for each in ((6, 6, 1), (6, 8, 2), (8, 8, 1))))
        self.twice = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.dropout = nn.Dropout(0.2)
        self.head = Head(16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.dropout(F.hardswish(self.twice(self.blocks(self.stem(x))))))
        return out


class SqueezeExcitation(nn.Module):
    """Channels that multiply others, and a place that multiplies all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv_bn(3, 8)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.where = nn.Conv2d(8, 1, 3, padding=1)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        out: Tensor = self.head(x * self.where(x).sigmoid())
        return out


class SharedLayer(nn.Module):
    """One convolution at two places, with a normalisation of its own at each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 6, 1)
        self.head = Head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(self.shared(F.relu(self.stem(x)))))
        out: Tensor = self.head(F.relu(self.last(F.relu(self.second(self.shared(x))))))
        return out


class Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out


class Transformer(nn.Module):
    """Attention, of which the stream stays whole and the hidden features are free."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.position = nn.Parameter(0.1 * torch.randn(1, 9, 8))
        self.encoder = Encoder(8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        out: Tensor = self.fc(self.encoder(x).mean(1))
        return out


class HandwrittenAttention(nn.Module):
    """Queries, keys and values of one layer, cut into heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, stride=2)
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.hidden = nn.Linear(8, 10)
        self.fc = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).permute(0, 2, 1)
        count, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(count, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        heads = torch.softmax(q @ k.transpose(-2, -1) * (width // 2) ** -0.5, -1) @ v
        x = self.out(heads.transpose(1, 2).reshape(count, tokens, width))
        out: Tensor = self.fc(F.relu(self.hidden(x.mean(1))))
        return out


class GroupedConvolution(nn.Module):
    """Convolutions in groups, of which each keeps as many channels as the others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.middle = conv_bn(8, 16, groups=4)
        self.last = conv_bn(16, 6)
        self.head = Head(6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.last(self.middle(self.stem(x))))
        return out


class ShuffleNet(nn.Module):
    """Groups, whose channels are shuffled among them, and a split in halves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 12)
        self.first = conv_bn(12, 12, 1, groups=3)
        self.second = conv_bn(12, 12, 1, groups=3)
        self.right = conv_bn(6, 6)
        self.last = conv_bn(12, 8, 1)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        count, channels, height, width = x.shape
        x = x.view(count, 3, channels // 3, height, width).transpose(1, 2).reshape(count, -1, height, width)
        one, other = self.second(x).chunk(2, 1)
        out: Tensor = self.head(self.last(torch.cat([one, self.right(other)], 1)))
        return out


class GatedUnit(nn.Module):
    """Halves of a layer of which one multiplies the other: both lose the same channels, and chunk still halves."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Conv2d(3, 12, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 8, 2, 2)
        self.own = nn.ConvTranspose2d(8, 8, 2, 2, groups=8)
        self.norm = nn.GroupNorm(8, 8)
        self.slope = nn.PReLU(8)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(x).chunk(2, dim=1)
        out: Tensor = self.head(self.slope(self.norm(self.own(self.up(value * gate.sigmoid())))))
        return out


class NormedInGroups(nn.Module):
    """Statistics over several channels, which would be others without some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.second = nn.Conv2d(8, 6, 3, padding=1)
        self.head = Head(6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.second(F.relu(self.norm(self.first(x))))))
        return out


class Vgg(nn.Module):
    """A linear layer on a flattened image: each channel has several places there."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_bn(3, 6), nn.MaxPool2d(2), conv_bn(6, 8), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Linear(72, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        out: Tensor = self.classifier(x.view(x.size(0), -1))
        return out


class HardCoded(nn.Module):
    """Numbers of channels in the code: a view and a slice of them; the layer between them is free."""

    def __init__(self) -> None:
        super().__init__()
        self.viewed = nn.Conv2d(3, 8, 3, padding=1)
        self.free = nn.Conv2d(8, 10, 3, padding=1)
        self.sliced = nn.Conv2d(10, 8, 3, padding=1)
        self.head = Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.viewed(x)
        x = x.view(x.size(0), 8, -1).relu().view(-1, 8, 12, 12)
        out: Tensor = self.head(self.sliced(F.relu(self.free(x)))[:, :5])
        return out


class CountsChannels(nn.Module):
    """The number of channels is part of what is computed, and of what is decided."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled = nn.Conv2d(3, 8, 3, padding=1)
        self.decides = nn.Conv2d(8, 8, 3, padding=1)
        self.free = nn.Conv2d(8, 6, 3, padding=1)
        self.head = Head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.scaled(x)
        x = self.decides(F.relu(x / x.shape[1]))
        if x.shape[1] == 8 and x.shape[-1] > 4:
            x = F.max_pool2d(x, 2)
        out: Tensor = self.head(F.relu(self.free(x)))
        return out


class PreActivation(nn.Module):
    """What is added is normalised after the sum, and an activation in place changes what goes around the branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.inner = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1))
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.branch(self.relu(self.norm(x)))
        out: Tensor = self.head(x + self.inner(x))
        return out


class TiedWeights(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.other = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.other.weight = self.one.weight
        self.free = nn.Conv2d(8, 6, 3)
        self.head = Head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(F.relu(self.first(x))))
        out: Tensor = self.head(F.relu(self.free(F.relu(self.other(x)))))
        return out


class Chain(nn.Module):
    """Nothing special: options of the layers, a buffer, an argument with a default."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding="valid")
        self.second = nn.Conv2d(8, 10, (3, 2), padding="same", dilation=2, padding_mode="reflect")
        self.norm = nn.BatchNorm2d(10, affine=False)
        self.register_buffer("scale", torch.tensor(0.5))
        self.head = Head(10)

    def forward(self, x: Tensor, logits: bool = True) -> Tensor:
        x = F.leaky_relu(self.first(x), 0.1) * self.scale
        x = self.head(torch.tanh(self.norm(self.second(F.pad(x, (1, 1, 0, 1))))))
        return x if logits else x.softmax(1)


PRUNED: tuple[Callable[[], nn.Module], ...] = (
    *(Chain, ResNet, DenseNet, MobileNet, SqueezeExcitation, SharedLayer, Transformer, HandwrittenAttention),
    *(GroupedConvolution, ShuffleNet, GatedUnit, NormedInGroups, Vgg, HardCoded, CountsChannels, PreActivation),
    TiedWeights,
)
