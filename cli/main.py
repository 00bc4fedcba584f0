"""``unas-hw``: finds the command, turns our errors into short messages and exit codes.

Exit codes: 0 done, 1 failed, 2 misused, 3 budget not met.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from profilers.errors import UnasError
from profilers.files import explained_error

COMMANDS = {
    "profile": "Measure the operations of a search space into a latency table.",
    "search": "Find a network that meets a latency budget.",
    "prune": "Make a network of your own smaller, within a budget.",
    "train": "Retrain a run's network from scratch.",
    "evaluate": "Accuracy of a run's network on images.",
    "export": "Write a run's network as a file, verify and measure it.",
    "verify": "Verify an exported file again.",
    "predict": "Latency, parameters and MACs of one network.",
    "score": "Score networks without training: FreeFlow and other zero-cost proxies.",
    "tables": "List, show, compare, merge, validate, import, export and share latency tables.",
    "spaces": "List the search spaces; check one, such as your own.",
    "devices": "List the devices that can be profiled from here, and give them names.",
    "doctor": "Say what works here, what is missing, and what disturbs timing.",
}
"""Kept here, so that ``--help`` imports none of them."""


INTERRUPTED = "interrupted\n  mend: give the same command again, it goes on with what was kept"


class LazyGroup(click.Group):
    """Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f".commands.{cmd_name}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UnasError as error:
            raise Failure(error) from error
        except KeyboardInterrupt:
            raise click.ClickException(INTERRUPTED) from None
        except OSError as error:  # of a file that we did not open through profilers.files
            raise Failure(explained_error(error)) from error


class Failure(click.ClickException):
    """One of our errors on its way to the terminal."""

    def __init__(self, error: UnasError) -> None:
        super().__init__(str(error))
        self.exit_code = 2 if error.misuse else 1  # type: ignore[misc]  # click declares it for the class


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unas-hw")
def main() -> None:
    """Hardware-aware neural architecture search.

    \b
    unas-hw profile                        measure this CPU
    unas-hw search --latency-budget 50%    halfway between the fastest and the slowest network; or 80ms
    unas-hw train                          retrain what was found
    unas-hw export                         write it, verify it, measure it
    """  # noqa: D301 - click's mark for "leave these lines as they are"
    from profilers.environment import spin_briefly

    spin_briefly()


if __name__ == "__main__":
    main()
