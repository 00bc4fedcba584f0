"""Published architectures by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from unas_hw.errors import ArchitectureError
from unas_hw.space import Architecture

_MBCONV = {
    # UNAS (arXiv 1912.07651), what it found in the ProxylessNAS space
    "unas-mbconv": ("k5e3 k3e3 id id k7e3 id id id k7e3 k3e3 k3e3 k3e3 k5e3 k3e3 k3e3 k3e3 k7e6 k7e3 k7e3 k7e3 k7e6"),
    # ProxylessNAS-GPU (arXiv 1812.00332) in the same layout, which UNAS compares with
    "proxylessnas-gpu": ("k5e3 id id id k7e3 id id k3e3 k7e6 id id k5e3 k5e6 id k3e3 k5e3 k7e6 k7e6 k7e6 k5e6 k7e6"),
}
PUBLISHED: Mapping[str, Architecture] = MappingProxyType(
    {name: Architecture("mbconv", tuple(choices.split())) for name, choices in _MBCONV.items()}
)


def find_published_architecture(name: str) -> Architecture | None:
    """The architecture of that name; None where the text is none of the names.

    Raises:
        ArchitectureError: If it is almost one.
    """
    known = name in PUBLISHED or "." in name or os.path.isfile(name)  # a path is none, whatever it is like
    if not known and (near := get_close_matches(name, PUBLISHED, 1, 0.8)):
        raise ArchitectureError(f"no published architecture is called {name!r}", mend=f"did you mean {near[0]!r}?")
    return PUBLISHED.get(name)
