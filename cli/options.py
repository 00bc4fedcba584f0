"""Options of a command, made of the settings that they give a value, and its help: common ones first, then by group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from unas_hw.settings import COMMON, Setting, settings_in

Command = TypeVar("Command", bound=Callable[..., Any])


class Option(click.Option):
    """With the heading under which the help has it."""

    def __init__(self, *args: Any, group: str = COMMON, **more: Any) -> None:
        super().__init__(*args, **more)
        self.group = group


class WithExample(click.Command):
    """Ends its help with lines to type, as ``example``."""

    def __init__(self, *args: Any, example: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples" if "\n" in self.example else "Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class GroupWithExample(WithExample, click.Group):
    """The same for commands under one name."""

    command_class = WithExample


class GroupedCommand(WithExample):
    """Explains common options in ``--help`` and names the others by group; ``--help-all`` explains all.

    Args:
        groups: Of options that are shared among commands, by name.
    """

    def __init__(self, *args: Any, groups: Mapping[str, str], **more: Any) -> None:
        super().__init__(*args, **more)
        self.groups = groups
        self.params.append(
            click.Option(
                ["--help-all"], is_flag=True, is_eager=True, expose_value=False, callback=_explain,
                help="Explain every option and exit.",
            )
        )  # fmt: skip

    def _group(self, parameter: click.Parameter) -> str:
        group: str = getattr(parameter, "group", COMMON)
        return self.groups.get(str(parameter.name), group)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {COMMON: []}
        for each in self.get_params(ctx):
            if (record := each.get_help_record(ctx)) is not None:
                groups.setdefault(self._group(each), []).append(record)
        with formatter.section("Options"):
            formatter.write_dl(groups.pop(COMMON))
        if ctx.meta.get(_ALL):
            for title, records in groups.items():
                with formatter.section(title):
                    formatter.write_dl(records)
            return
        rest = {
            title: "  ".join(names.replace(" / ", "/").replace(" ", GLUE).replace("-", DASH) for names, _ in records)
            for title, records in groups.items()
        }
        with formatter.section("More, explained by --help-all"):
            buffer, formatter.buffer = formatter.buffer, []
            formatter.write_dl(list(rest.items()), col_max=18)
            formatter.buffer = [*buffer, formatter.getvalue().replace(GLUE, " ").replace(DASH, "-")]


_ALL = "unas_hw.help_all"
GLUE, DASH = "\u00a0", "\u2011"
"""Keep a name and what it takes on one line."""


def _explain(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_ALL] = True
        click.echo(context.get_help(), color=context.color)
        context.exit()


def options_from(*sources: tuple[type, str | None]) -> Callable[[Command], Command]:
    """Adds an option for every setting that has one, the first source first.

    None of them has a default here: what nobody said is left to the settings (see ``said``).

    Args:
        sources: A dataclass of settings and the heading of its options; None for the settings' own headings.
    """

    def decorate(command: Command) -> Command:
        made: dict[str, Callable[[Command], Command]] = {}
        for config, title in sources:
            hints = get_type_hints(config)
            for name, default, known in settings_in(config):
                if known.option is not None:
                    made.setdefault(name, _option(name, default, hints[name], known, title or known.group))
        for option in reversed(made.values()):
            command = option(command)
        return command

    return decorate


def _option(name: str, default: Any, hint: Any, known: Setting, group: str) -> Callable[[Command], Command]:
    shown = "" if default in (None, "") or isinstance(default, bool) else f"  [default: {default}]"
    more: dict[str, Any] = {"help": known.help + shown, "group": group, "cls": Option, "default": None}
    kinds = [each for each in get_args(hint) or (hint,) if each is not type(None)]
    if bool in kinds:
        more["is_flag"] = True
    elif get_origin(hint) is Literal:
        more["type"] = click.Choice(get_args(hint))
    elif known.read is None and kinds[0] in (int, float):
        more["type"] = kinds[0]
        more["metavar"] = known.metavar or "N"
    else:
        more["metavar"] = known.metavar
    assert known.option is not None
    return click.option(known.option, name, **more)


def said(context: click.Context, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The options that the command line or a file gave a value, by name."""
    default = click.core.ParameterSource.DEFAULT
    found = {name: value for name, value in context.params.items() if context.get_parameter_source(name) != default}
    return found if names is None else {name: value for name, value in found.items() if name in set(names)}
