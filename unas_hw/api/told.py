"""What a call was told by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from unas_hw.errors import ConfigurationError


def shared_out(told: Mapping[str, Any], *kinds: Any) -> list[dict[str, Any]]:
    """Those settings that are fields of each of these dataclasses.

    Raises:
        ConfigurationError: For a name that none of them has, with the nearest that one has.
    """
    names = [{field.name for field in fields(kind)} for kind in kinds]
    known = set().union(*names)
    for name in told.keys() - known:
        near = get_close_matches(name, known, n=1)
        raise ConfigurationError(
            f"no setting is called {name!r}",
            mend=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}",
        )
    return [{name: value for name, value in told.items() if name in mine} for mine in names]
