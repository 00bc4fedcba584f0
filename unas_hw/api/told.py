"""What a call was told by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral
from typing import Any

from unas_hw.errors import ConfigurationError
from unas_hw.settings import refuse_unknown, typed_number


def refuse_fractions(**told: Any) -> None:
    """Raises ``ConfigurationError`` for what is no whole number, such as 2.7 and True; None says nothing."""
    for name, value in told.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise ConfigurationError(f"{name} is {value!r}, not a whole number", mend=f"give {name} another value")


def shared_out(told: Mapping[str, Any], *kinds: Any) -> list[dict[str, Any]]:
    """Those settings that are fields of each of these dataclasses, numbers of their types.

    Raises ``ConfigurationError`` for any other, and for a number that is none or not whole.
    """
    names = [[field.name for field in fields(kind)] for kind in kinds]
    for name in told:
        refuse_unknown(name, [each for mine in names for each in mine])
    return [
        {name: typed_number(kind, name, value) for name, value in told.items() if name in mine}
        for kind, mine in zip(kinds, names, strict=True)
    ]
