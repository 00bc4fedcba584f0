"""Text of others, as a terminal may be shown it."""

from __future__ import annotations

import os
import re

_MOVES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The same, with what would move the cursor, colour or reverse the text written as escapes; lines and tabs stay."""
    return _MOVES.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: object) -> str:
    """The same in one line, for a name or a value in a table."""
    return visible(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def name_of(file: str) -> str:
    """The name of a file as text that is the same under every locale: UTF-8 where its bytes are that."""
    try:
        return os.fsencode(file).decode()
    except UnicodeDecodeError:
        return file
