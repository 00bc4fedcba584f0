"""ImageSpace: what spaces of networks for square images have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NotRequired, TypedDict, Unpack

from torch import nn

from profilers.opspec import Attribute, OpSpec
from profilers.workload import Workload
from unas_hw.space import SearchSpace


class Images(TypedDict):
    """What networks are for.

    Attributes:
        image_size: Height and width in pixels.
        channels: Of the images.
        classes: Outputs.
        batch: Images at a time that latencies are for.
        precision: In which networks run; float32 by default.
    """

    image_size: int
    channels: int
    classes: int
    batch: int
    precision: NotRequired[str]


class ImageSpace(SearchSpace):
    """A space for images ``(channels, image_size, image_size)``; ``name`` is what architecture files and tables say."""

    def __init__(self, name: str, **images: Unpack[Images]) -> None:
        self.name, self.classes, self.precision = name, images["classes"], images.get("precision", "float32")
        size = images["image_size"]
        self.input_shape = (images["batch"], images["channels"], size, size)

    def block(
        self, kind: str, attrs: Mapping[str, Attribute], channels: int, size: int, build: Callable[[], nn.Module]
    ) -> Workload:
        """An operation on inputs of so many channels and pixels a side."""
        return Workload(OpSpec(kind, attrs, (self.input_shape[0], channels, size, size), self.precision), build)
