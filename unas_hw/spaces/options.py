"""What can be added to the name of a space: ``mbconv?width=0.75&stem=cifar``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl

from profilers.errors import did_you_mean
from unas_hw.errors import UnknownSpaceError


@dataclass(frozen=True)
class Option(ABC):
    """What a value may be; ``read`` raises ``ValueError`` for any other."""

    default: Any

    @property
    @abstractmethod
    def allowed(self) -> str:
        """In words: ``write KEY=`` goes before them."""

    @abstractmethod
    def read(self, text: str) -> Any:
        """The value of a text."""

    def write(self, value: Any) -> str:
        """The shortest text of a value; equal values have equal texts."""
        return str(value)


@dataclass(frozen=True)
class Number(Option):
    """From ``low`` to ``high``."""

    default: float
    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def read(self, text: str) -> float:
        value = float(text)
        if not self.low <= value <= self.high:  # false for NaN too
            raise ValueError(text)
        return value

    def write(self, value: float) -> str:
        return repr(value).removesuffix(".0")


@dataclass(frozen=True)
class Whole(Option):
    """From ``low`` to ``high``."""

    default: int
    low: int
    high: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def read(self, text: str) -> int:
        if int(text) not in range(self.low, self.high + 1):
            raise ValueError(text)
        return int(text)


@dataclass(frozen=True)
class Word(Option):
    """One of ``words``."""

    default: str
    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return " or ".join(self.words)

    def read(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(text)
        return text


def read_options(text: str, options: Mapping[str, Option], space: str) -> tuple[str, dict[str, Any]]:
    """What is after the ``?`` of a space's name.

    Returns:
        The name with its options in their order, without those that say the default, so that equal spaces have equal
        names; and the value of every option.

    Raises:
        UnknownSpaceError: For an option that the space does not have, one given twice, and a value that is none.
    """
    given: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key not in options:
            takes = f"{space} takes {', '.join(options) or 'none'}"
            raise UnknownSpaceError(f"{space} has no option {key!r}", mend=did_you_mean(key, options, takes))
        if key in given:
            raise UnknownSpaceError(f"{key} is given twice in {space}?{text}", mend="leave one of them out")
        try:
            given[key] = options[key].read(value)
        except (ValueError, OverflowError):
            near = get_close_matches(value, getattr(options[key], "words", ()), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UnknownSpaceError(
                f"{key}={value} is no value for {space}", mend=f"{hint}write {key}= and {options[key].allowed}"
            ) from None
    values = {key: given.get(key, option.default) for key, option in options.items()}
    said = [f"{key}={options[key].write(value)}" for key, value in values.items() if value != options[key].default]
    return "?".join([space, "&".join(said)]) if said else space, values
