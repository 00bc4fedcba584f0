"""Errors of the ground floor, and the base of every error that the project raises on purpose.

UnasError
├── UnitError                 a quantity without a unit, or with an unknown one
├── OpSpecError               a key that cannot be read
├── UnknownNameError          no device or runtime of that name
├── DeviceNameError           a name that no device can be given
├── MissingDependencyError    a library that is not installed
├── MissingDeviceError        a device that is not there
├── DeviceLostError           a device that went away while measuring
├── DeviceCommandError        a command that failed on a device that is well
├── ToolOutputError           a benchmark tool that printed no result
├── PowerError                a meter whose readings cannot be used
├── ConversionError           a module that a runtime cannot take
└── FileError                 a file that cannot be read or written
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class UnasError(Exception):
    """Base of every error that this project raises on purpose.

    Args:
        what: What is wrong, in one sentence, with the value that was seen.
        mend: What the reader can do about it, preferably a command to paste.

    Attributes:
        misuse: Whether the words of the call are wrong (exit code 2), rather than the world (exit code 1).
    """

    misuse: ClassVar[bool] = False

    def __init__(self, what: str, *, mend: str) -> None:
        super().__init__(f"{what}\n  mend: {mend}")
        self.what = what
        self.mend = mend


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """How to mend a word that is none of the known ones: the one nearest to it, or all of them."""
    known = tuple(known)
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else otherwise or f"choose one of {', '.join(known)}"


class UnitError(UnasError, ValueError):
    """A quantity without a unit, or with one that is not known."""

    misuse = True


class OpSpecError(UnasError, ValueError):
    """A key that does not have the form of an operation's key."""

    misuse = True


class UnknownNameError(UnasError, LookupError):
    """No device or runtime has that name."""

    misuse = True


class DeviceNameError(UnasError, ValueError):
    """A name that is taken, or that no device can have."""

    misuse = True


class MissingDependencyError(UnasError, ImportError):
    """A library that is needed is not installed."""


class MissingDeviceError(UnasError):
    """The device that was asked for is not there."""


class DeviceLostError(UnasError, ConnectionError):
    """The device went away while it was being measured; what was measured is kept."""


class DeviceCommandError(UnasError):
    """A command on the device that failed, or a file that could not be copied, while the device itself is well.

    Attributes:
        status: The exit status of the command, or of the client.
    """

    def __init__(self, what: str, *, mend: str, status: int) -> None:
        super().__init__(what, mend=mend)
        self.status = status


class ToolOutputError(UnasError):
    """A benchmark tool that printed no result that can be read."""


class PowerError(UnasError):
    """A meter whose readings cannot be used."""


class ConversionError(UnasError):
    """A runtime cannot take this module."""


class FileError(UnasError, OSError):
    """A file that cannot be read or written: a full disk, a folder without permission."""
