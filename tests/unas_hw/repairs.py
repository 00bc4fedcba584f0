"""What the tests of a repair share: a device that is slower than its table says."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import torch
from torch import nn

from unas_hw.latency_model import LatencyModel
from unas_hw.meter import Reading
from unas_hw.progress import Job, Step, finish
from unas_hw.repair.job import Repaired, repair
from unas_hw.space import Architecture
from unas_hw.verify.artifact import Context

SLOWER = 1 / 0.6
LABEL = "onnx float32"


class Device:
    """Slower than the table says, by a factor that is not the same for all networks; remembers what it measured."""

    def __init__(self, context: Context, slower: float = SLOWER, margin: float = 0.01, offset_ms: float = 0.0) -> None:
        self.model = LatencyModel(context.space, context.table)
        self.offset_ms = offset_ms
        self.slower, self.margin, self.measured = slower, margin, list[Architecture]()

    def reading(self, architecture: Architecture) -> Reading:
        predicted_ms = self.model.latency_ms(self.model.space.indices(architecture))
        odd = 1 + 0.02 * (crc32(str(architecture).encode()) / 2**31 - 1)
        ms = odd * (self.slower * predicted_ms + self.offset_ms)
        return Reading(raw_ms=ms, scaled_ms=ms, margin=self.margin, anchor_scale=1.0)

    def measure(self, architecture: Architecture, network: nn.Module) -> Job[Reading]:
        assert not network.training
        with torch.inference_mode():
            assert bool(torch.isfinite(network(torch.randn(self.model.space.input_shape))).all())
        self.measured.append(architecture)
        yield Step("measure", 0, 1)
        return self.reading(architecture)


def repaired(context: Context, device: Device, budget_ms: float, **settings: Any) -> Repaired:
    first = device.reading(context.architecture)
    return finish(repair(context, budget_ms, first, device.measure, label=LABEL, **settings))


def between(device: Device, context: Context, share: float) -> float:
    """A budget so far of the way from what the fastest network takes to what the run's takes."""
    model = device.model
    least = device.reading(model.space.architecture(model.smallest)).upper_ms
    return least + share * (device.reading(context.architecture).judged_ms - least)
