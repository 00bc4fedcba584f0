"""The user's own space by the path of its file: described in YAML, or programmed in Python."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from unas_hw.errors import SpaceError, UnknownSpaceError
from unas_hw.space import SearchSpace
from unas_hw.spaces import FILES, SPACES
from unas_hw.spaces.described import NAME, described, read_description
from unas_hw.spaces.user_code import blamed, load_module, said_of

SETTINGS = ("image_size", "channels", "classes", "batch", "precision")


def open_space(
    path: Path, *, image_shape: tuple[int, int, int] | None, classes: int | None, batch: int, precision: str
) -> SearchSpace:
    """The space of a file, for these images; as ``find_space``.

    Raises:
        UnknownSpaceError: If there is no such file.
        FileError: If it cannot be read.
        SpaceError: If it is no space, naming the line.
    """
    if not path.is_file():
        folder = path.parent
        near = get_close_matches(path.name, [each.name for each in folder.glob("*") if each.suffix in FILES])
        raise UnknownSpaceError(
            f"there is no file {path}", mend=f"did you mean {folder / near[0]}?" if near else "check the path"
        )
    if path.suffix == ".py":
        space = _programmed(path.resolve(), image_shape, classes, batch, precision)
    else:
        found = read_description(path)
        channels, size, _ = image_shape or found.image_shape
        space = described(
            found,
            image_size=size,
            channels=channels,
            classes=classes or found.classes,
            batch=batch,
            precision=precision,
        )
    if not NAME.fullmatch(space.name):
        raise SpaceError(
            f"{path}: {space.name!r} is no name for a space",
            mend="call it by letters, digits, - and _, such as my-space",
        )
    if space.name in SPACES:
        raise SpaceError(
            f"{path}: {space.name} is a built-in space", mend=f"call it otherwise, such as my-{space.name}"
        )
    space.came_from(path)
    return space


def _programmed(
    path: Path, image_shape: tuple[int, int, int] | None, classes: int | None, batch: int, precision: str
) -> SearchSpace:
    module = load_module(path)
    build: Any = getattr(module, "space", None)
    if build is None:
        own = [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, SearchSpace) and value.__module__ == module.__name__
        ]
        if len(own) != 1:
            raise SpaceError(
                f"{path} has {len(own) or 'no'} subclass{'es' * (len(own) > 1)} of SearchSpace and no function space",
                mend=f"write def space(name, *, {', '.join(SETTINGS)}): ... as docs/spaces.md shows",
            )
        (build,) = own
    with blamed(path):
        shape, usual_classes = said_of(module)
        channels, size, _ = image_shape or shape
        space = build(
            path.stem,
            image_size=size,
            channels=channels,
            classes=classes or usual_classes,
            batch=batch,
            precision=precision,
        )
    if not isinstance(space, SearchSpace):
        raise SpaceError(
            f"{path}: space gives {type(space).__name__}, no SearchSpace", mend="return chain.space(classes)"
        )
    return space
