"""The user's own Python: executed because the user named it, and only then."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from profilers.errors import UnasError
from profilers.files import explained
from unas_hw.errors import SpaceError

MOST_CHANNELS = 4
"""Of an image."""


def load_module(path: Path) -> ModuleType:
    """The module of a file, executed once for each content; files of one name in two folders are two modules.

    Raises:
        FileError: If it cannot be read.
        SpaceError: If it cannot be executed, naming the line.
    """
    path = path.resolve()
    with explained(path):
        content = path.read_bytes()
    name = f"unas_hw_user_{path.stem}_{hashlib.sha256(os.fsencode(path) + b'|' + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # before it is executed: dataclasses look themselves up there
    try:
        with blamed(path):
            exec(compile(content, str(path), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def said_of(module: ModuleType) -> tuple[tuple[int, int, int], int]:
    """``IMAGE_SHAPE`` and ``CLASSES`` of the user's own file; those of CIFAR-10 where it does not say them.

    Raises:
        SpaceError: If they are no such numbers.
    """
    shape, classes = getattr(module, "IMAGE_SHAPE", (3, 32, 32)), getattr(module, "CLASSES", 10)
    listed = isinstance(shape, tuple | list)
    if listed and (len(shape) != 3 or not all(map(_is_count, shape)) or _ends_with_channels(*shape)):
        raise SpaceError(
            f"IMAGE_SHAPE is {shape!r}, not channels, height and width", mend="write IMAGE_SHAPE = (3, 32, 32)"
        )
    channels, height, width = shape
    classes = len(classes) if isinstance(classes, list | tuple | dict) else classes  # their names
    if not _is_count(classes):
        raise SpaceError(f"CLASSES is {classes!r}, no number", mend="write CLASSES = 10")
    return (channels, height, width), classes


def _ends_with_channels(first: int, second: int, third: int) -> bool:
    return first == second > MOST_CHANNELS >= third


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@contextmanager
def blamed(path: Path) -> Iterator[None]:
    """Turns what the user's code raises into a ``SpaceError`` that names the line of the file it came from."""
    try:
        yield
    except (Exception, SystemExit) as error:  # a script that is executed ends itself, or reads other arguments
        at = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else _line(error, path)
        where = f"{path}, line {at}" if at else str(path)
        if isinstance(error, UnasError):
            raise SpaceError(f"{where}: {error.what}", mend=error.mend) from error
        what = error.msg if isinstance(error, SyntaxError) else next(iter(str(error).splitlines()), "")
        if isinstance(error, ModuleNotFoundError):
            mend = f"put it into {path.name} itself, or install it: pip install -e FOLDER"
        elif isinstance(error, SystemExit):
            mend = "put what is only for running the file below if __name__ == '__main__':"
        else:
            mend = f"python -c 'import runpy; runpy.run_path(\"{path}\")' shows all of it"
        raise SpaceError(f"{where}: {type(error).__name__}: {what}", mend=mend) from error


def _line(error: BaseException, path: Path) -> int | None:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


def find_class(target: str, folder: Path) -> tuple[type, str]:
    """The class that ``module:Class`` names: of ``module.py`` in the folder, or else of an installed module.

    Returns:
        The class, and eight digits that change with the file it is from.

    Raises:
        SpaceError: If there is none.
    """
    name, _, attribute = target.partition(":")
    path = folder / f"{name}.py"
    if not all(part.isidentifier() for part in name.split(".")):
        raise SpaceError(f"{target!r} names no class", mend="write module:Class, such as my_blocks:MyBlock")
    if path.is_file():
        module = load_module(path)
    else:
        try:
            module = import_module(name)
        except Exception as error:
            raise SpaceError(
                f"there is no {path.name} in {folder}, and {name!r} cannot be imported: {error}",
                mend=f"write module:Class, the module a file in {folder}",
            ) from error
    found = getattr(module, attribute, None)
    if not inspect.isclass(found):
        classes = [each for each, value in vars(module).items() if inspect.isclass(value)]
        raise SpaceError(f"{name} has no class {attribute!r}", mend=f"it has {', '.join(classes) or 'none'}")
    file = getattr(module, "__file__", None)
    source = Path(file).read_bytes() if file and file.endswith(".py") else target.encode()
    return found, hashlib.sha256(source).hexdigest()[:8]
