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
        if value is None or value == ():
            return
        from profilers.files import read_text
        from unas_hw.configuration import read_assignments, read_settings
        from unas_hw.settings import refuse_unknown

        if parameter.name == "config":
            name, found = value, read_settings(read_text(Path(value)), value)
        else:
            name, found = "--set", read_assignments(value)
        told[str(parameter.name)] = found
        options = {
            option.lstrip("-").replace("-", "_"): each
            for each in context.command.params
            if isinstance(each, click.Option) and each.expose_value and not each.is_eager
            for option in each.opts
        }
        inner = [f"{key}.{each.name}" for key, config in sections().items() for each in fields(config)]
        same = _options_of(sections()) | {key: key.rpartition(".")[2] for key in also}
        for key, each in found.items():
            refuse_unknown(key, [*options, *inner, *also])
            if key in options and each is not None:
                found[key] = _checked(context, options[key], each, f"{name}: {key.replace('_', '-')}")
            elif (option := same.get(key, "")) in options and found.get(option) not in (None, str(each)):
                raise _error(f"{name} says {found[option]} as {option} and {each} as {key}", "leave one of them out")
        for key in same.keys() & told["set"].keys():  # which counts more than the file, under either of its names
            told["config"].pop(same[key], None)
        context.default_map = {
            str(options[key].name): each
            for key, each in _merged(context).items()
            if key in options and each is not None
        }

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


def _options_of(sections: Mapping[str, type]) -> dict[str, str]:
    """Of hyper-parameters that have an option too its name, by ``section.name``."""
    from unas_hw.search.settings import options_of

    names = {key: [*options_of(config).values()] for key, config in sections.items()}
    if "training" in sections:  # a recipe, all of which options change
        names["training"] = [each.name for each in fields(sections["training"])]
    return {f"{key}.{name}": name for key, each in names.items() for name in each}


def _checked(context: click.Context, option: click.Option, value: Any, name: str) -> Any:
    """The text of an option, or those of one that may be repeated; click would cut 2.7 to 2, and fail at a list."""
    texts = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not option.multiple:
        raise _error(f"{name} is a list", "give it one value")
    for text in texts:
        try:
            option.type.convert(text, option, context)
        except click.BadParameter as error:
            raise _error(f"{name}: {error.message.rstrip('.')}", f"write what {option.opts[0]} takes") from error
    return texts if option.multiple else value


def _merged(context: click.Context) -> dict[str, Any]:
    """What ``--set`` says, and where it says nothing the file."""
    told: dict[str, dict[str, Any]] = context.meta.get(_TOLD, {"config": {}, "set": {}})
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


def _error(what: str, mend: str) -> Exception:
    from unas_hw.errors import ConfigurationError

    return ConfigurationError(what, mend=mend)
