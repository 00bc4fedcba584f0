"""The user's own network by what makes it: a function in a file or in an installed module."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from unas_hw.errors import SpaceError, UnknownSpaceError
from unas_hw.spaces import SPACES
from unas_hw.spaces.arguments import CHANNELS, CLASSES, SIZE, Told, arguments
from unas_hw.spaces.user_code import blamed, load_module, said_of

FUNCTION = "build"
"""Of a file, where no other is named."""
WRITE_IT = f"write def {FUNCTION}(classes, channels): ... that returns the network"


@dataclass(frozen=True)
class Factory:
    """Makes networks of one kind.

    Attributes:
        origin: Names it again: the absolute path of a file, or ``package.module:function``.
        name: Of the file or function: letters, digits, - and _.
        file: That it is from; its content decides which networks it makes.
        image_shape: ``(C, H, W)`` that it says its networks are for.
        classes: Outputs, likewise.
    """

    origin: str
    name: str
    file: Path
    image_shape: tuple[int, int, int]
    classes: int
    _function: Callable[..., Any] = field(repr=False)

    def told(self, *, classes: int, channels: int, size: int | None = None) -> Told:
        """What the function is told of images of so many channels and pixels; see ``unas_hw.spaces.arguments``.

        Raises:
            SpaceError: If nothing says what it has to be told.
        """
        given = {CLASSES: classes, CHANNELS: channels, SIZE: size or self.image_shape[1]}
        with blamed(self.file):
            return arguments(self._function, self.function, given)

    @property
    def function(self) -> str:
        """What the file calls it."""
        return FUNCTION if self.origin.endswith(".py") else self.origin.rpartition(":")[2]

    def __call__(self, *, classes: int, channels: int, size: int | None = None) -> nn.Module:
        """A network; the function is told what ``told`` says.

        Raises:
            SpaceError: If the function fails, naming the line, or gives anything else.
        """
        told = self.told(classes=classes, channels=channels, size=size)
        with blamed(self.file):
            network = told.call(self._function)
        if not isinstance(network, nn.Module):
            raise SpaceError(
                f"{self.origin} gives {type(network).__name__}, no network", mend="return a torch.nn.Module"
            )
        return network


def load_factory(target: str) -> Factory:
    """What ``file.py`` (its function ``build``), ``file.py:function`` or ``package.module:function`` names.

    Raises:
        UnknownSpaceError: If there is no such file.
        FileError: If it cannot be read.
        SpaceError: If it cannot be executed or imported, or has no such function.
    """
    place, colon, function = target.rpartition(":")
    if not colon or target.endswith(".py"):
        place, function = target, FUNCTION
    if place.endswith(".py"):
        path = Path(place).resolve()
        if not path.is_file():
            raise UnknownSpaceError(f"there is no file {place}", mend="check the path")
        module = load_module(path)
        origin = str(path) if function == FUNCTION else f"{path}:{function}"
        name = path.stem
    else:
        module = _imported(place, target)
        origin, name = f"{place}:{function}", function
        path = Path(module.__file__ or ".")
    name = re.sub(r"[^\w-]+", "-", name)
    found = getattr(module, function, None)
    if isinstance(found, nn.Module):
        raise SpaceError(f"{function} of {place} is a network, not a function that makes one", mend=WRITE_IT)
    if not callable(found):
        raise SpaceError(f"{place} has no function {function!r}", mend=WRITE_IT)
    with blamed(path):
        shape, classes = said_of(module)
    return Factory(origin, f"my-{name}" if name in SPACES else name, path, shape, classes, found)


def _imported(name: str, target: str) -> ModuleType:
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise SpaceError(f"{target!r} names no function", mend="write my_net.py:build or package.module:build")
    try:
        return import_module(name)
    except Exception as error:
        raise SpaceError(
            f"{name!r} cannot be imported: {error}", mend="give the path of the file, such as my_net.py:build"
        ) from error
