"""Files that survive a kill: whole or not there, and errors that name the mend."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from profilers.errors import FileError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an operating system's error about a file into ours."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise explained_error(error, path) from error


def explained_error(error: OSError, path: Path | None = None) -> FileError:
    """Our error for an operating system's, with the file's path where that does not name it."""
    path = path or Path(error.filename or ".")
    if error.errno in _FULL:
        what, mend = "the disk is full", f"free some space under {path.parent} and run the same command again"
    elif isinstance(error, FileNotFoundError):
        what, mend = "there is no such file", "check the path"
    else:
        what = (error.strerror or str(error)).lower()
        mend = f"choose a folder that you may write to (UNAS_HW_HOME moves tables and caches): ls -ld {path.parent}"
    return FileError(f"{path}: {what}", mend=mend)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes the file whole or leaves what was there; raises ``FileError``."""
    with whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes its place when all is written, and leaves what was there where it is not."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def read_text(path: Path) -> str:
    """The file's text; raises ``FileError``."""
    with explained(path):
        return path.read_text(encoding="utf-8", errors="replace")


def as_plain(value: Any) -> Any:
    """The same as JSON has it: no NaN and no infinity, which become null, and paths as text."""
    if isinstance(value, Mapping):
        return {key: as_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
