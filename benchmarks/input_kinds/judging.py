"""What is right of an input, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from click.testing import CliRunner

from cli.main import main
from profilers.errors import UnasError

REFUSED = object()
"""What is right where nothing else is."""
Inputs = Iterator[tuple[str, Callable[[], Any], Any]]
"""Name; what is done with it, in a folder of its own; what is right, or a function that says so."""
OUTCOMES = "right", "refused", "refused though right", "wrong"


class RefusalError(Exception):
    """By the command line, with a mend."""


def said(*words: str) -> str:
    """Standard output of ``unas-hw``; raises ``RefusalError``."""
    done = CliRunner().invoke(main, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code == 0:
        return done.stdout
    message = done.stderr[done.stderr.rfind("Error: ") :]
    if not message.startswith("Error: ") or (done.exit_code != 2 and "\n  mend: " not in message):
        raise ValueError(f"a refusal without a mend: {done.stderr[-300:]!r}")
    raise RefusalError(message)


def judged(answer: Callable[[], Any], right: Any) -> tuple[str, str]:
    """One of ``OUTCOMES``, and what was answered."""
    try:
        found = answer()
    except (RefusalError, UnasError) as error:
        return ("refused" if right is REFUSED else "refused though right"), str(error)
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {error}"
    same = right(found) if callable(right) else right is not REFUSED and found == right
    return ("right" if same else "wrong"), repr(found)
