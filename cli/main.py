"""``unas-hw``: finds the command, turns our errors into short messages and exit codes.

Exit codes: 0 done, 1 failed, 2 misused, 3 budget not met, 128 and the number of the signal that ended it.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any

import click

from profilers.errors import UnasError
from profilers.files import explained_error

from .streams import attend, echo, nobody_reads, silence

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


STOPPED = {
    128 + signal.SIGINT: "interrupted",
    128 + signal.SIGTERM: "terminated",
    128 + signal.SIGHUP: "the terminal was closed",
}
CLOSED = 128 + signal.SIGPIPE
"""As a shell calls the end of a program whose output nobody reads any more, as ``| head`` after its last line."""
_HOME = re.compile(r"^(--[\w-]+=)(~[^/]*)")


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

    def main(self, *args: Any, **more: Any) -> Any:
        attend()
        try:
            return super().main(*args, **more)
        except OSError:  # of click's own message
            code = CLOSED if nobody_reads() else 1
            silence()
            raise SystemExit(code) from None

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        with _told():  # of --help
            return super().make_context(*args, **more)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A shell does so for --table ~/x, but --table=~/x would be a folder that is called ~.
        whole = [_HOME.sub(lambda found: found[1] + os.path.expanduser(found[2]), word) for word in args]
        return super().parse_args(ctx, whole)

    def invoke(self, ctx: click.Context) -> Any:
        with _told():
            return super().invoke(ctx)


@contextmanager
def _told() -> Iterator[None]:
    """Turns what went wrong into a message and an exit code."""
    try:
        yield
    except UnasError as error:
        raise _failure(error) from error
    except KeyboardInterrupt:
        raise _stopped(128 + signal.SIGINT) from None
    except SystemExit as end:
        if end.code in STOPPED:
            raise _stopped(int(end.code)) from None
        raise
    except MemoryError as error:
        raise _failure(explained_error(OSError(errno.ENOMEM, "Cannot allocate memory"))) from error
    except OSError as error:
        closed = isinstance(error, BrokenPipeError) and nobody_reads()
        silence()
        if closed:
            raise click.exceptions.Exit(CLOSED) from None
        raise _failure(explained_error(error)) from error


class Failure(click.ClickException):
    """One of our errors, or a signal, on its way to the terminal."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class

    def show(self, file: IO[Any] | None = None) -> None:
        echo(f"Error: {self.format_message()}", err=True)


def _failure(error: UnasError) -> Failure:
    return Failure(str(error), 2 if error.misuse else 1)


def _stopped(exit_code: int) -> Failure:
    mend = "give the same command again, it goes on with what was kept"
    return Failure(f"{STOPPED[exit_code]}\n  mend: {mend}", exit_code)


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
