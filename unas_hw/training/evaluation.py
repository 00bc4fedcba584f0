"""What a network is worth on images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unas_hw.data import Split, in_order
from unas_hw.training.hardware import Hardware

BATCH_SIZE = 256
CONFIDENCE = 0.95
TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """Of one network on one set of images.

    Attributes:
        images: How many there are.
        right, of_class: Per class, of how many the highest logit is right, and how many there are.
        top5: Share whose label is among the five highest logits, 0 to 1; None where there are fewer than ten classes.
        loss: Mean cross-entropy.
        images_per_s: From the images as they lie to the logits.
    """

    images: int
    right: tuple[int, ...]
    of_class: tuple[int, ...]
    top5: float | None
    loss: float
    images_per_s: float

    @property
    def top1(self) -> float:
        """Share whose highest logit is right, 0 to 1."""
        return sum(self.right) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Of ``top1``, at 95% confidence."""
        return wilson(sum(self.right), self.images)

    def worst(self, count: int) -> tuple[int, ...]:
        """The classes of the lowest accuracy, worst first; those without images are none of them."""
        there = [label for label, number in enumerate(self.of_class) if number]
        return tuple(sorted(there, key=lambda label: self.right[label] / self.of_class[label])[:count])


def wilson(right: int, count: int) -> tuple[float, float]:
    """The score interval of a share (Wilson, JASA 1927), at 95%: it stays within 0 to 1, and is right near them too."""
    from scipy.stats import binomtest  # takes a second to import

    found = binomtest(right, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def accuracy(network: nn.Module, split: Split) -> float:
    """Share of images whose highest logit is right, 0 to 1; where the network is, which is then in evaluation mode."""
    hits = [(logits.argmax(1) == y).sum() for logits, y in _logits(network, split)]
    return float(sum(map(int, hits)) / len(split))


def evaluate(network: nn.Module, split: Split, device: str | None = None) -> Evaluation:
    """Runs the network in float32 and evaluation mode on all images, on a device; by default where it is."""
    begin, losses, sure, labels, hits = time.monotonic(), [], [], [], []
    classes = 0
    with Hardware(device or Hardware.of(network).device).holding(network):
        for logits, y in _logits(network, split):
            classes = logits.shape[1]
            losses.append(cross_entropy(logits, y, reduction="sum"))
            hits.append(logits.argmax(1) == y)
            sure.append((logits.topk(min(TOP, classes)).indices == y[:, None]).any(1).sum())
            labels.append(y)
        of_class = torch.cat(labels).bincount(minlength=classes).tolist()  # waits for the device
        right = torch.cat(labels)[torch.cat(hits)].bincount(minlength=classes).tolist()
    seconds, images = time.monotonic() - begin, len(split)
    top5 = sum(map(int, sure)) / images if classes >= 2 * TOP else None
    loss = sum(map(float, losses)) / images
    return Evaluation(images, tuple(right), tuple(of_class), top5, loss, images / seconds)


@torch.inference_mode()
def _logits(network: nn.Module, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Per batch, and the labels."""
    network.eval()
    hardware = Hardware.of(network)
    for part in in_order(split, BATCH_SIZE, hardware.is_gpu or not split.in_memory, hardware.device):
        yield network(part.x), part.y
