"""Architecture: one network of a space, by the names of its choices; and how one is read."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from profilers.files import once
from unas_hw.errors import ArchitectureError

ALIASES = {"id": ("identity", "skip")}


@dataclass(frozen=True)
class Decision:
    """One independent categorical choice, a letter ``z_g`` of the paper."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
    """One network of a space: the name of a choice per decision."""

    space: str
    choices: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.space}:{','.join(self.choices)}"


def parse(
    text: str, names: tuple[str, str], decisions: Sequence[Decision], split: Callable[[str], Sequence[str]]
) -> Architecture:
    """Reads an architecture; raises ``ArchitectureError``.

    Args:
        text: Choices, with or without ``space:`` before them, JSON, or the path of a JSON file.
        names: Of the space: what it is called, and its origin.
        decisions: Of the space.
        split: Finds the choices in a text.
    """
    if text.lstrip().startswith("{") or text.endswith(".json") or os.path.isfile(text):  # the text may be long
        space, choices = _read_json(text)
    else:
        name, colon, body = text.rpartition(":")
        space, choices = name if colon else names[0], list(split(body))
    if space not in names:
        raise ArchitectureError(
            f"the architecture is of space {space!r}, not of {names[0]!r}", mend=f"add --space {shlex.quote(space)}"
        )
    if len(choices) != len(decisions):
        raise ArchitectureError(
            f"{names[0]} has {len(decisions)} decisions, the architecture has {len(choices)} choices",
            mend=f"give one choice per decision, such as {','.join(d.choices[0] for d in decisions)}",
        )
    pairs = zip(decisions, choices, strict=True)
    return Architecture(names[0], tuple(_choice(decision, choice) for decision, choice in pairs))


def _choice(decision: Decision, choice: str) -> str:
    names = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
    if choice not in decision.choices:  # which may have a word that elsewhere stands for another
        choice = names.get(choice, choice)
    if choice not in decision.choices:
        near = get_close_matches(choice, decision.choices)
        raise ArchitectureError(
            f"decision {decision.name} has no choice {choice!r}",
            mend=(f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(decision.choices)}",
        )
    return choice


def _read_json(text: str) -> tuple[str, list[str]]:
    source = "the architecture" if text.lstrip().startswith("{") else text
    mend = 'give a file that search wrote, or {"space": NAME, "choices": [NAME, ...]}'
    try:
        content: Any = json.loads(
            text if source != text else Path(text).read_text(encoding="utf-8"), object_pairs_hook=once
        )
    except FileNotFoundError:
        raise ArchitectureError(f"there is no file {text}", mend=mend) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArchitectureError(f"{source} is not JSON: {error}", mend=mend) from error
    except ValueError as error:
        raise ArchitectureError(f"{source}: {error}", mend="leave one of them out") from error
    if isinstance(content, dict) and isinstance(content.get("architecture"), str):  # what `search --json` prints
        space, _, body = content["architecture"].rpartition(":")
        content = {"space": space, "choices": body.split(",")}
    choices = content.get("choices") if isinstance(content, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise ArchitectureError(f"{source} has no list of choices", mend=mend)
    return str(content.get("space", "")), choices
