"""``--config FILE`` and ``--set KEY=VALUE``: every option of a command, and its hyper-parameters, from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
_TOLD = "unas_hw.configuration"


def configurable(
    sections: Callable[[], Mapping[str, type]] = dict, *, also: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """Adds both options. What the command line says itself counts more than ``--set``, and that more than the file.

    Args:
        sections: Dataclasses of hyper-parameters by the key under which a file has them, such as ``unas``;
            ``section_of`` then gives what was told, checked.
        also: Keys that older files have.
    """

    def read(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        told = context.meta.setdefault(_TOLD, {"config": {}, "set": {}})
        if parameter.name == "config" and value is not None:
            told["config"] = _flat(_read(value), value)
        elif parameter.name == "set" and value:
            told["set"] = dict(_assignment(text) for text in value)
        merged = _merged(context)
        if not merged:
            return
        from unas_hw.settings import refuse_unknown

        names = {
            option.lstrip("-").replace("-", "_"): each.name
            for each in context.command.params
            if isinstance(each, click.Option) and each.expose_value and not each.is_eager
            for option in each.opts
        }
        inner = [f"{key}.{each.name}" for key, config in sections().items() for each in fields(config)]
        for key in merged:
            refuse_unknown(key, [*names, *inner, *also])
        context.default_map = {names[key]: each for key, each in merged.items() if key in names and each is not None}

    def decorate(command: Command) -> Command:
        options = (
            click.option(
                "--set", multiple=True, metavar="KEY=VALUE", is_eager=True, expose_value=False, callback=read,
                help="One setting, as it would stand in such a file.",
            ),
            click.option(
                "--config", type=click.Path(), metavar="FILE", is_eager=True, expose_value=False, callback=read,
                help="YAML of these options and of hyper-parameters: docs/configuration.md.",
            ),
        )  # fmt: skip
        for option in options:
            command = option(command)
        return command

    return decorate


def _merged(context: click.Context) -> dict[str, Any]:
    """What ``--set`` says, and where it says nothing the file."""
    told = context.meta.get(_TOLD, {"config": {}, "set": {}})
    return {**told["config"], **told["set"]}


def told_sections(context: click.Context) -> dict[str, dict[str, Any]]:
    """What file and ``--set`` say of hyper-parameters, by section."""
    found = dict[str, dict[str, Any]]()
    for key, value in _merged(context).items():
        section, dot, name = key.partition(".")
        if dot:
            found.setdefault(section, {})[name] = value
    return found


def section_of(context: click.Context, section: str, hyper_parameters: type) -> dict[str, Any]:
    """The hyper-parameters that file and ``--set`` name, of their types; raises ``ConfigurationError``."""
    from unas_hw.settings import typed

    told = told_sections(context).get(section, {})
    return {name: typed(hyper_parameters, name, value, f"{section}.{name}") for name, value in told.items()}


def _read(name: str) -> Any:
    import yaml

    from profilers.files import read_text

    try:
        return yaml.safe_load(read_text(Path(name)))
    except yaml.YAMLError as error:
        raise _error(f"{name} is not YAML: {error}", "write lines such as latency-budget: 80ms") from error


def _flat(content: Any, name: str) -> dict[str, Any]:
    """``{"unas": {"tau": 1}}`` as ``{"unas.tau": 1}``; options as Python writes them."""
    if not isinstance(content, Mapping):
        raise _error(f"{name} holds no settings", "write lines such as latency-budget: 80ms")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": each for inner, each in value.items()}
        else:
            flat[str(key).replace("-", "_")] = value
    return flat


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals:
        raise _error(f"--set {text} has no value", f"write --set {text}=VALUE")
    try:
        return key if "." in key else key.replace("-", "_"), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise _error(f"--set {text}: {value!r} is not YAML: {error}", f"quote it: --set '{key}=\"...\"'") from error


def _error(what: str, mend: str) -> Exception:
    from unas_hw.errors import ConfigurationError

    return ConfigurationError(what, mend=mend)
