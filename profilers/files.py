"""Files that survive a kill: whole or not there, and errors that name the mend."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shlex
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from profilers.errors import FileError

_FREE = "free some space under {folder} and run the same command again: df -h {folder}"
_WRITABLE = "choose a folder that you may write to (UNAS_HW_HOME moves tables and caches): ls -ld {folder}"
_WHOSE = "see who may read and write it: ls -ld {folder} {path} (UNAS_HW_HOME moves tables and caches)"
_AGAIN = "see what the system says of it (dmesg), and run the same command again"
_KINDS = {
    errno.ENOENT: ("there is no such file", "check the path"),
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("the disk is full for you: your quota is used up", _FREE),
    errno.EFBIG: ("the disk is full, or no file may grow so large", _FREE + "; ulimit -f"),
    errno.EACCES: ("permission denied", _WHOSE),
    errno.EPERM: ("it is not permitted", _WHOSE),
    errno.EROFS: ("this file system can be read only", _WRITABLE),
    errno.ENOTDIR: ("a file lies where a folder has to be", _WRITABLE),
    errno.EEXIST: ("a file lies where a folder has to be", _WRITABLE),
    errno.EISDIR: ("it is a directory, not a file", "give a file: ls {path}"),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "give a shorter name or path"),
    errno.ELOOP: ("its links lead in a circle", "check the path: ls -ld {path}"),
    errno.EMFILE: ("too many files are open", "allow more and run the same command again: ulimit -n 4096"),
    errno.ENFILE: ("too many files are open", "close other programs and run the same command again"),
    errno.ENOMEM: ("there is no memory left", "close other programs and run the same command again"),
    errno.EIO: ("the disk cannot be read or written (input/output error)", _AGAIN),
    errno.ESTALE: ("the file system that it lies on has gone away", "mount it again: df {folder}"),
    errno.ENOTCONN: ("the file system that it lies on has gone away", "mount it again: df {folder}"),
    errno.ENOEXEC: ("it is no program for this machine", "file {path}"),
}
"""What the system says of a file, and how that is mended."""
TEMPORARY = "usable temporary directory"
"""What ``tempfile`` says that there is none of."""


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
    """Our error for an operating system's, with the file's path where that does not name it, or one above it."""
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    path = named if named and (path is None or path in named.parents) else path
    if isinstance(error, FileNotFoundError) and not (path and path.is_absolute()) and _is_lost():
        return FileError("the folder that you are in is no longer there", mend="go to one that is: cd")
    if path is None or TEMPORARY in (error.strerror or ""):
        return _unnamed(error)
    what, mend = _KINDS.get(error.errno or 0, ((error.strerror or str(error)).lower(), _WRITABLE))
    return FileError(
        f"{path}: {what}", mend=mend.format(path=shlex.quote(str(path)), folder=shlex.quote(str(path.parent)))
    )


def _unnamed(error: OSError) -> FileError:
    """Of no file that is known: the system does not always say which."""
    what = error.strerror or str(error) or type(error).__name__
    if TEMPORARY in what:  # and the folders that were tried
        return FileError(f"{what[0].lower()}{what[1:]}", mend="name one that you may write to: export TMPDIR=FOLDER")
    said, mend = _KINDS.get(error.errno or 0, (what, "run the same command again"))
    if error.errno is None or isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        said, mend = what, "check the network, and run the same command again"
    return FileError(f"{said}; the system does not say where", mend=mend.format(path=".", folder="."))


def _is_lost() -> bool:
    """Whether the current folder was removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes the file whole or leaves what was there; raises ``FileError``."""
    with whole(path) as file:
        # What is no text, as a file's name of other bytes, becomes the escape that JSON and Python read back.
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes its place when all is written, and leaves what was there where it is not."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
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


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for ``object_pairs_hook``; raises ``ValueError`` where it has a name twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return content


def as_plain(value: Any) -> Any:
    """The same as JSON has it: no NaN and no infinity, which become null, and paths as text."""
    if isinstance(value, Mapping):
        return {key: as_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
