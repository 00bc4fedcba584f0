"""Standard output and standard error, whatever they are connected to."""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress

import click

from profilers.text import visible


def echo(text: str | bytes, *, err: bool = False) -> None:
    """Lines for people; what the terminal cannot show, or would take for a command, becomes an escape. Bytes as is."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    if isinstance(text, str):
        text = f"{visible(text)}\n".encode(encoding, "backslashreplace").decode(encoding)
    try:
        click.echo(text, err=err, nl=False)
    except OSError as error:
        error.filename = f"standard {'error' if err else 'output'}"
        raise


def attend() -> None:
    """Opens what was closed, and lets a write wait where another program has said that it must not."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # the next file that is opened would take its place, and what is printed would go into it
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
        with suppress(OSError):
            os.set_blocking(number, True)


def nobody_reads() -> bool:
    """Whether standard output or standard error is a pipe whose other end was closed."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # no file, as in a test
            poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def silence() -> None:
    """Sends what could not be written nowhere, or Python would fail at it once more when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
