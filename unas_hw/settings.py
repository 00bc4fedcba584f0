"""Setting: a field of a configuration that says what it means, what it may be, and which option of a command gives it.

Nothing here imports PyTorch: the help of a command is made of these fields.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from unas_hw.errors import ConfigurationError, MethodError

COMMON, RUN, BUDGETS, TABLE, TRAINING = "", "Run", "Budgets and data", "Device and table", "Training"
"""Groups of options in a command's help."""
DATASETS = (
    "digits, mnist, fashion-mnist, cifar10, cifar100, imagenet, hf://OWNER/NAME, an .npz file, CIFAR's or idx files, "
    "or a folder with one sub-folder of images a class"
)
"""What can be given for a data set, in a line of help; docs/data.md has the forms."""
AS_BEFORE: Mapping[str, Any] = MappingProxyType(
    {
        "supernet": "separate",
        "w_optimizer": "adam",
        "multiplier": "ascent",
        "tau_falls": "exponentially",
        "warmup_from": "choice",
        "compared": 6,
        "ranked_by": "loss",
        "compared_on": "valid",
        "finals": "none",
    }
)
"""What runs did that were begun before ``config.json`` had the setting."""
_KEY = "setting"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known of a field.

    Attributes:
        help: What it means; of a number its unit too.
        low, high: Least and highest value.
        option: ``--name`` on the command line, several with ``/`` for yes and no; None where only files and ``--set``
            have it.
        metavar: What stands for the value in the help.
        group: Heading of the help under which it stands.
        read: ``module:function`` that makes a value of a text, such as ``500k``.
    """

    help: str
    low: float = -math.inf
    high: float = math.inf
    option: str | None = None
    metavar: str | None = None
    group: str = COMMON
    read: str | None = None


def setting(default: Any, help: str, **more: Any) -> Any:
    """A field of a frozen dataclass with this default; see ``Setting`` for what else can be said of it."""
    return field(default=default, metadata={_KEY: Setting(help=help, **more)})


def settings_in(config: type | object) -> Iterator[tuple[str, Any, Setting]]:
    """Name, default and what is known of every field that is a setting."""
    for each in fields(config):  # type: ignore[arg-type]  # a dataclass or an object of one
        if _KEY in each.metadata:
            yield each.name, each.default, each.metadata[_KEY]


def imported(target: str) -> Any:
    """What ``module:name`` names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def check(section: str, config: object) -> None:
    """Raises ``MethodError`` where a setting lies outside its limits.

    Args:
        section: Under which configuration files have it.
        config: Of a method.
    """
    refuse_outside(section, config, {name: (known.low, known.high) for name, _, known in settings_in(config)})


def refuse_outside(section: str, config: object, limits: Mapping[str, tuple[float, float]]) -> None:
    """The same for these limits, lowest and highest by name; what is no number lies nowhere."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if isinstance(value, int | float) and not low <= value <= high:
            span = f"{low} or more" if high == math.inf else f"{low} to {high}"
            raise MethodError(
                f"{section} cannot have {name}={value}", mend=f"--set {section}.{name}={low}; it may be {span}"
            )


@cache
def _hints(config: type) -> dict[str, Any]:
    return get_type_hints(config)


def typed(config: type, name: str, value: Any, key: str) -> Any:
    """The value, where it is of the field's type; numbers such as 1e-3, which YAML takes for words, are read.

    Args:
        config: The dataclass.
        name: Of the field.
        value: As a file or an option has it.
        key: What users call it.

    Raises:
        ConfigurationError: If it is of another type.
    """
    hint, known = _hints(config)[name], {each: more for each, _, more in settings_in(config)}.get(name)
    choices = get_args(hint)
    if value is None and type(None) in choices:
        return None
    wanted = choices[0] if type(None) in choices else hint
    if known is not None and known.read is not None and isinstance(value, str):
        value = imported(known.read)(value)
        value = whole(value, key) if wanted is int else value
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise ConfigurationError(
                f"{key} is {value!r}", mend=f"choose one of {', '.join(map(str, get_args(wanted)))}"
            )
        return value
    if wanted is float and not _is_bool(value):
        with suppress(TypeError, ValueError, OverflowError):
            if math.isfinite(number := float(cast(Any, value))):
                return number
        raise ConfigurationError(f"{key} is {value!r}, not a number", mend=f"write {key}: 0.1")
    if wanted is int and not _is_bool(value):
        with suppress(TypeError):
            return operator.index(cast(Any, value))  # NumPy's integers too
    if isinstance(wanted, type) and type(value) is not wanted:
        raise ConfigurationError(f"{key} is {value!r}, not of type {wanted.__name__}", mend=f"give {key} another value")
    return value


def whole(value: float, key: str) -> int:
    """The whole number that is meant, such as 1100 by ``1.1k``; raises ``ConfigurationError``."""
    if not math.isclose(value, round(value), rel_tol=1e-12):
        raise ConfigurationError(f"{key} is {value:g}, not a whole number", mend=f"write {key}: {math.ceil(value)}")
    return round(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__.startswith("bool")  # NumPy's too, which is a number to float


def typed_number(config: type, name: str, value: Any) -> Any:
    """The value; of a field that is a number or a truth value as ``typed`` has it."""
    hint = _hints(config)[name]
    plain = {int, float, bool} & {hint, *get_args(hint)}
    return typed(config, name, value, name) if plain and value is not None else value


def typed_option(config: type, name: str, value: Any) -> Any:
    """The same for a field with an option, which names it; a number outside its limits is refused too."""
    shown = name.replace("_", "-")
    value = typed(config, name, value, shown)
    known = next((more for each, _, more in settings_in(config) if each == name), None)
    if known is not None and isinstance(value, int | float) and not known.low <= value <= known.high:
        raise ConfigurationError(f"--{shown} is {value}", mend=f"say --{shown} {known.low}, or more")
    return value


def refuse_unknown(name: str, known: Mapping[str, Any] | list[str]) -> None:
    """Raises ``ConfigurationError`` with the nearest name where a setting is not known; a dot shows a section."""
    if name in known:
        return
    near = get_close_matches(name, known)
    shown = [each if "." in each else each.replace("_", "-") for each in (name, *near)]
    raise ConfigurationError(
        f"no setting is called {shown[0] if '.' not in name else repr(name)}",
        mend=f"did you mean {shown[1]!r}?" if near else f"there are {', '.join(sorted(known))}",
    )
