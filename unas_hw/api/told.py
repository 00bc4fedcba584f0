"""What a call was told by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from unas_hw.settings import refuse_unknown


def shared_out(told: Mapping[str, Any], *kinds: Any) -> list[dict[str, Any]]:
    """Those settings that are fields of each of these dataclasses; raises ``ConfigurationError`` for any other."""
    names = [[field.name for field in fields(kind)] for kind in kinds]
    for name in told:
        refuse_unknown(name, [each for mine in names for each in mine])
    return [{name: value for name, value in told.items() if name in mine} for mine in names]
