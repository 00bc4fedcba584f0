"""From what a user said, by name, to the settings of a search; the command line and Python both come through here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from numbers import Integral
from typing import Any

from profilers.units import parse_bytes
from unas_hw.budget import Budget, parse_limit
from unas_hw.errors import BudgetError, ConfigurationError, MethodError
from unas_hw.finals.plan import NONE, Finals
from unas_hw.methods.registry import PLAYING, find_method, find_preset, sections
from unas_hw.search.method import MethodConfig
from unas_hw.search.settings import SearchSettings, as_told, options_of, replaced
from unas_hw.settings import refuse_unknown, typed_option

DEFAULT = "unas"
"""The method of a search that was told none."""
ALSO = ("seed", "method")
"""Of every search; also accepted under ``unas:``."""
OF_MONAS = ("workers", "ray")
"""Of every search; in 2026 only MONAS had them."""


def settings_of(*, task: str | None = None, **told: Any) -> SearchSettings:
    """The settings of a search; everything that can be told is checked before anything slow.

    Args:
        task: What is played instead of a data set, such as ``minatar:breakout``.
        told: By name: fields of ``SearchSettings``, options of the method such as ``epochs``, and all of its settings
            under its section, such as ``unas={"tau": 0.5}``; sections of other methods do nothing. None says nothing.

    Raises:
        BudgetError: If a budget is missing or cannot be read.
        ConfigurationError: If there is no such setting, or a value is of another type.
        MethodError: If there is no such method, or it has no such option.
    """
    under = {name: dict(told.pop(name) or {}) for name in [*told] if name in sections()}
    told = {name: value for name, value in told.items() if value is not None}
    for section, names in ((DEFAULT, ALSO), ("monas", OF_MONAS)):  # where files had them in 2026
        for name in names:
            told.setdefault(name, under.get(section, {}).pop(name, None))
    if task is not None:
        told |= _playing(task, told)
    method = find_method(told.pop("method") or DEFAULT)
    own = {each.name for each in fields(SearchSettings)}
    common = {name: _common(name, told.pop(name)) for name in [*told] if name in own and told[name] is not None}
    begun = SearchSettings(method=method.name, config=method.config(), **common)
    begun, config = _as_published(begun)
    configs = [config]
    if configs[0].ends_with is not None:
        configs.append(find_method(configs[0].ends_with).config().suited(begun))
    flat = {name: value for name, value in told.items() if value is not None}
    _refuse_others(begun, configs, flat)
    configs = [replaced(each, under.get(each.section, {}), flat) for each in configs]
    settings = replace(begun, config=configs[0], ending=configs[1] if len(configs) > 1 else None)
    _check(settings)
    return replace(settings, told=as_told(settings, *configs))


@cache
def owners() -> dict[str, str]:
    """The first section that has the option, by the name of its field."""
    found: dict[str, str] = {}
    for section, config in sections().items():
        for name in options_of(config).values():
            found.setdefault(name, section)
    return found


def _common(name: str, value: Any) -> Any:
    if name in ("config", "ending", "told"):
        raise ConfigurationError(f"{name} is made of the other settings", mend=f"leave out {name}")
    if name == "finals" and isinstance(value, Integral) and not isinstance(value, bool):  # networks, in Python
        value = str(value)
    return typed_option(SearchSettings, name, value)


def _playing(task: str, told: Mapping[str, Any]) -> dict[str, str]:
    """What stands for the data set, and the method."""
    if "dataset" in told:
        raise ConfigurationError("--dataset and --task both say what is learnt", mend="leave out one of them")
    if (method := told["method"]) not in (None, DEFAULT, PLAYING):
        raise MethodError(f"--method {method} learns from images, not from a task", mend="leave out --method")
    from unas_hw.tasks import find_task

    return {"dataset": find_task(task).name, "method": PLAYING}


def _as_published(begun: SearchSettings) -> tuple[SearchSettings, MethodConfig]:
    """The settings with the preset's space, and the defaults that the user's words come after."""
    if begun.preset is None:
        return begun, begun.config.suited(begun)
    preset = find_preset(begun.preset)
    if preset.method != begun.method:
        raise MethodError(
            f"--preset {begun.preset} is of --method {preset.method}, not of {begun.method}",
            mend=f"leave out --preset, or search with --method {preset.method}",
        )
    return replace(begun, space=begun.space or preset.space), preset.config


def _refuse_others(begun: SearchSettings, configs: list[MethodConfig], flat: Mapping[str, Any]) -> None:
    """Options of other methods than this one."""
    known = {name for each in configs for name in options_of(each).values()}
    idle = [name for name in flat if name not in known]
    if not any(each.shares_weights for each in configs):
        idle += [name for name in ("memory_budget", "sampled_paths") if getattr(begun, name)]
    if begun.finals not in (None, NONE) and not any(each.has_finals for each in configs):
        idle.append("finals")
    for name in idle:
        refuse_unknown(name, [*options_of(SearchSettings).values(), *owners()])
        shown, owner = name.replace("_", "-"), owners().get(name, DEFAULT)
        where = "a search with --task" if sections()[owner].plays else f"--method {owner}"
        raise MethodError(
            f"--{shown} does nothing with --method {begun.method}", mend=f"leave out --{shown}, which is for {where}"
        )


def _check(settings: SearchSettings) -> None:
    """What can be said before data and tables are read."""
    if settings.budget is not None:
        Budget.parse(settings.budget, settings.confidence)
    elif settings.config.needs_budget:
        mend = "add --latency-budget 80ms, or 50% of the way from the fastest to the slowest"
        raise BudgetError("there is no budget", mend=mend)
    for name, text in settings.limits.items():
        parse_limit(name, text)
    Finals.parse(settings.ends)
    if settings.memory_budget is not None:
        parse_bytes(settings.memory_budget)
    elif settings.sampled_paths:
        raise ConfigurationError("--sampled-paths is for a search with --memory-budget", mend="add --memory-budget 2GB")
