"""Published files that are known by their content, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Facts:
    """Where a table comes from.

    Attributes:
        device: As in ``--device``.
        device_name: In words.
        origin: Who measured it, and who published the file.
        licence: Of that publication, as SPDX names it.
    """

    device: str
    device_name: str
    origin: str
    licence: str


_NOTE10 = Facts("note10", "Samsung Note 10", "Once-for-All, from github.com/gatech-sysml/CompOFA", "Apache-2.0")

KNOWN: Mapping[str, Facts] = MappingProxyType(
    {
        "4f59d150083ed33cce79925a03c7cb14198ff14cb4dd1da2868c973933267035": Facts(
            "pixel1", "Google Pixel 1", "ProxylessNAS, from github.com/itouchz/Neural-Predictor-Tensorflow", "MIT"
        ),
        "a2671a45e9400542679ed03de946b45d6a35010f9ab21834af3e7ba8341d36d1": _NOTE10,
        "0ff5ca0649e56ad34a42d6a8a6f20adb5121c8d12d135299397b310472db79e2": _NOTE10,
        "c13a9bcb3f4becae844bce4897129c4e42975984c1029cbd5acb48c970136530": _NOTE10,
        "55e04cb78d62755f7831dc8fa6220627ab3326c2d730405c0e9711fdea14b1a7": Facts(
            "raspi4", "Raspberry Pi 4", "github.com/jh88/fbnet", "MIT"
        ),
        "f5387425013949ae81d97cff1a0757b242fc204ca54bfd18fb3a346e76848fb8": Facts(
            "cpu-unnamed", "a CPU that its publisher does not name", "github.com/AnnaAraslanova/FBNet", "MIT"
        ),
        "59e0d2d1aea3a09b3e6d6fa9f3a0adb567b416e92cb093c769f557bea23b98f5": Facts(
            "pixel1", "Google Pixel 1", "github.com/dstamoulis/single-path-nas", "Apache-2.0"
        ),
    }
)
"""By the SHA-256 of the file."""
