"""Chain: builds a space of layers in a row, one layer after the other, and follows the shape.

chain = Chain("my-space", image_size=32, channels=3)
chain.fixed("stem", chain.conv(16, kernel=3))
chain.choose("layer", {"k3": chain.mbconv(16, kernel=3, expand=3), "id": None})
chain.fixed("classifier", chain.classifier(10))
space = chain.space(10)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from profilers.errors import OpSpecError
from profilers.opspec import Attribute, OpSpec
from profilers.workload import Workload
from unas_hw.errors import SpaceError
from unas_hw.ops.mbconv import Classifier, MBConv, conv_bn, flat_linear
from unas_hw.spaces.chain import ChainSpace, Layer

Shape = tuple[int, ...]


class Chain:
    """A chain that is being built, for images ``(batch, channels, image_size, image_size)``.

    Attributes:
        name: Of the space, as architecture files and table headers have it.
        shape: Of what the next layer gets, batch first; ``(N, C, H, W)`` until the classifier.
        layers: So far.
    """

    def __init__(
        self, name: str, *, image_size: int, channels: int, batch: int = 1, precision: str = "float32"
    ) -> None:
        self.name = name
        self.shape: Shape = (batch, channels, image_size, image_size)
        self.layers: list[Layer] = []
        self._input = (batch, channels, image_size, image_size)
        self._precision = precision
        self._after: dict[str, Shape] = {}

    @property
    def channels(self) -> int:
        """Of what the next layer gets."""
        return self.shape[1]

    def fixed(self, name: str, block: Workload) -> None:
        """Adds a layer that every network has."""
        self.layers.append(Layer(name, {name: block}))
        self.shape = self._after[block.key]

    def choose(self, name: str, candidates: Mapping[str, Workload | None]) -> None:
        """Adds a layer that is one of these blocks, made for this place of the chain; None leaves it out.

        Raises:
            SpaceError: If their outputs differ in shape: then shapes would depend on the choices.
        """
        if len(candidates) < 2:
            raise SpaceError(f"{name} has nothing to choose", mend="give two candidates or more, or use fixed")
        after = {label: self._after[block.key] if block else self.shape for label, block in candidates.items()}
        (first, shape), *others = after.items()
        for label, other in others:
            if other != shape:
                kept = next((each for each, block in candidates.items() if block is None), None)
                raise SpaceError(
                    f"{name}: {first!r} gives {_text(shape)} and {label!r} gives {_text(other)}",
                    mend=f"leave {kept!r} out where the shape of {_text(self.shape)} changes"
                    if kept
                    else "give all of them the same width and stride",
                )
        self.layers.append(Layer(name, dict(candidates)))
        self.shape = shape

    def changes(self, candidates: Mapping[str, Workload | None]) -> bool:
        """Whether one of these blocks changes the chain's shape."""
        return any(block is not None and self._after[block.key] != self.shape for block in candidates.values())

    def space(self, classes: int) -> ChainSpace:
        """The space; raises ``SpaceError`` where the chain does not end with so many classes."""
        if self.shape != (self._input[0], classes):
            raise SpaceError(
                f"the networks of {self.name} end with {_text(self.shape)}, not with {self._input[0]}x{classes}: "
                f"an output for each class",
                mend="end with the classifier",
            )
        return ChainSpace(self.name, self._input, classes, self.layers, self._precision)

    def conv(self, width: int, *, kernel: int, stride: int = 1, act: bool = True) -> Workload:
        """Convolution, batch normalisation and, with ``act``, ReLU6."""
        attrs: dict[str, Attribute] = {"kernel": kernel, "out": width, "stride": stride}
        if not act:
            attrs["act"] = "none"
        build = partial(conv_bn, self.channels, width, kernel=kernel, stride=stride, act=act)
        return self._known("conv", attrs, build, self._moved(width, stride))

    def mbconv(self, width: int, *, kernel: int, expand: int, stride: int = 1) -> Workload:
        """Inverted residual."""
        attrs = {"expand": expand, "kernel": kernel, "out": width, "stride": stride}
        build = partial(MBConv, self.channels, width, kernel=kernel, expand=expand, stride=stride)
        return self._known("mbconv", attrs, build, self._moved(width, stride))

    def classifier(self, classes: int) -> Workload:
        """Global average pooling and a linear layer."""
        self._refuse_vector()
        build = partial(Classifier, self.channels, classes)
        return self._known("classifier", {"classes": classes}, build, (self.shape[0], classes))

    def pool(self) -> Workload:
        """Global average pooling alone."""
        self._refuse_vector()
        return self._known("pool", {}, partial(nn.AdaptiveAvgPool2d, 1), (*self.shape[:2], 1, 1))

    def linear(self, classes: int) -> Workload:
        """The linear layer alone, after ``pool``."""
        if self.shape[2:] != (1, 1):
            raise SpaceError(f"linear takes 1x1 positions, here is {_text(self.shape)}", mend="put the pool before it")
        build = partial(flat_linear, self.channels, classes)
        return self._known("linear", {"classes": classes}, build, (self.shape[0], classes))

    def block(self, kind: str, attrs: Mapping[str, Attribute], build: Callable[[], nn.Module]) -> Workload:
        """Any module that takes the chain's shape and gives one tensor; its shape is found by running it on nothing.

        Args:
            kind: What tables call it, with ``attrs``: two blocks of one kind and equal attributes are one row there,
                so everything that the module depends on has to be in them; but not the shape that it gets.
            attrs: Numbers and words.
            build: Makes the module.

        Raises:
            SpaceError: If the module cannot be built, does not take this shape, or returns anything else.
        """
        return self._known(kind, attrs, build, None)

    def _known(
        self, kind: str, attrs: Mapping[str, Attribute], build: Callable[[], nn.Module], after: Shape | None
    ) -> Workload:
        try:
            block = Workload(OpSpec(kind, attrs, self.shape, self._precision), build)
        except OpSpecError as error:
            raise SpaceError(
                f"{kind} cannot be told apart in a table: {error.what}",
                mend="call it and its attributes by words without [ ] , = @",
            ) from error
        self._after[block.key] = output_shape(block) if after is None else after
        return block

    def _moved(self, width: int, stride: int) -> Shape:
        self._refuse_vector()
        batch, _, *sizes = self.shape
        return (batch, width, *((size - 1) // stride + 1 for size in sizes))

    def _refuse_vector(self) -> None:
        if len(self.shape) != 4:
            raise SpaceError(
                f"the chain has {_text(self.shape)} here, no image any more", mend="put what takes images before it"
            )


def output_shape(block: Workload) -> Shape:
    """What the block makes of its input, found without memory or arithmetic.

    Raises:
        SpaceError: If it cannot be built, does not take the input or returns no single tensor of float32.
    """
    kind, shape = block.op.kind, _text(block.op.shape)
    try:
        with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = block.build().eval()(torch.empty(block.op.shape))
    except SpaceError:
        raise
    except Exception as error:  # the user's own module may raise anything
        raise SpaceError(
            f"{kind} cannot take {shape}: {type(error).__name__}: {_line(error)}",
            mend="change its arguments, or what is before it",
        ) from error
    if not isinstance(out, Tensor) or out.dim() < 2 or out.shape[0] != block.op.shape[0]:
        got = _text(tuple(out.shape)) if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise SpaceError(f"{kind} makes {got} of {shape}", mend="return one tensor (N, C, H, W), or (N, classes)")
    return tuple(out.shape)


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _line(error: Exception) -> str:
    """The first line of what it says."""
    return next(iter(str(error).splitlines()), "")
