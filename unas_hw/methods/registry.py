"""Methods by name; nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module, metadata
from types import MappingProxyType
from typing import cast

from profilers.errors import did_you_mean
from unas_hw.errors import MethodError
from unas_hw.search.method import MethodConfig, MethodJob, Preset
from unas_hw.settings import imported

ENTRY_POINTS = "unas_hw.methods"
"""Group under which other distributions add methods: ``name = package.config:Config``, ``package.job`` beside it."""
BUILTIN: Mapping[str, str] = MappingProxyType(
    {
        "unas": "unas_hw.methods.unas.config:UnasConfig",
        "darts": "unas_hw.methods.unas.config:darts",
        "snas": "unas_hw.methods.unas.config:snas",
        "gdas": "unas_hw.methods.unas.config:gdas",
        "reinforce": "unas_hw.methods.unas.config:reinforce",
        "proxylessnas": "unas_hw.methods.unas.config:proxylessnas",
        "fbnet": "unas_hw.methods.unas.config:fbnet",
        "freenas": "unas_hw.methods.freenas.config:FreenasConfig",
        "monas": "unas_hw.methods.monas.config:MonasConfig",
        "radars": "unas_hw.methods.radars.config:RadarsConfig",
        "rl_darts": "unas_hw.methods.rl_darts.config:RlDartsConfig",
    }
)
"""What makes the default configuration of each."""
PRESETS: Mapping[str, str] = MappingProxyType(
    {
        "unas-cifar": "unas_hw.methods.unas.presets:unas_cifar",
        "unas-imagenet": "unas_hw.methods.unas.presets:unas_imagenet",
        "unas-imagenet-mbconv": "unas_hw.methods.unas.presets:unas_imagenet_mbconv",
    }
)
"""What makes each ``Preset``."""
PLAYING = "rl_darts"
"""The method for tasks."""


@dataclass(frozen=True)
class Method:
    """A method that was found.

    Attributes:
        name: As users call it.
        target: ``package.config:name`` of what makes its default configuration.
    """

    name: str
    target: str

    def config(self) -> MethodConfig:
        """Its defaults."""
        made: MethodConfig = imported(self.target)()
        return made

    @property
    def job(self) -> MethodJob:
        """Its ``job.py``; this imports the algorithm."""
        package = self.target.partition(":")[0].rpartition(".")[0]
        return cast(MethodJob, import_module(f"{package}.job"))


@cache
def methods() -> dict[str, Method]:
    """All there are: ours, then those of other distributions, which cannot replace ours."""
    others = {each.name: each.value for each in metadata.entry_points(group=ENTRY_POINTS)}
    return {name: Method(name, target) for name, target in (others | dict(BUILTIN)).items()}


def find_method(name: str) -> Method:
    """The method of that name; raises ``MethodError``."""
    known = methods()
    if name not in known:
        near = get_close_matches(name, known)
        raise MethodError(
            f"no method is called {name!r}",
            mend=f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}",
        )
    return known[name]


def find_preset(name: str) -> Preset:
    """The published search of that name; raises ``MethodError``."""
    if name not in PRESETS:
        raise MethodError(f"no preset is called {name!r}", mend=did_you_mean(name, PRESETS))
    made: Preset = imported(PRESETS[name])()
    return made


@cache
def sections() -> dict[str, type[MethodConfig]]:
    """Configurations by the key under which files have them."""
    configs = [type(each.config()) for each in methods().values()]
    return {each.section: each for each in configs}
