"""JSON of others: no name twice."""

from __future__ import annotations

import json
from typing import Any

from latency_tables.errors import ImportFileError
from latency_tables.importers.base import Source


def parse_json(source: Source) -> Any:
    """What the file holds, NaN as such, which no latency is; raises ``ImportFileError``."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(found)
        if len(content) < len(found):
            names = [name for name, _ in found]
            twice = next(name for name in names if names.count(name) > 1)
            raise source.error(f"an object of {len(found)} names", twice, "is given twice")
        return content

    try:
        return json.loads(source.text, object_pairs_hook=pairs)
    except ImportFileError:
        raise
    except json.JSONDecodeError as error:
        seen = source.text[error.pos : error.pos + 40]
        raise source.error(f"line {error.lineno}", seen, f"is no JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise source.error("somewhere", type(error).__name__, "says JSON: too deep, or a number too long") from error
