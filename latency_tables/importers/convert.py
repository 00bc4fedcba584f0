"""A published file into a table: recognised, converted to milliseconds, with origin and licence in its header."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from latency_tables import storage
from latency_tables.errors import TableError
from latency_tables.importers import find_importer, recognise
from latency_tables.importers.base import read_source
from latency_tables.importers.known import KNOWN, NOT_STATED
from latency_tables.rows import PUBLISHED
from latency_tables.table import LatencyTable

RUNTIME = "published"
THREADS = 0
"""Published files do not say how many threads ran."""


def import_table(
    path: Path,
    output: Path,
    *,
    format_name: str | None = None,
    unit: str | None = None,
    columns: Mapping[str, str] | None = None,
    device: str | None = None,
    origin: str | None = None,
    licence: str | None = None,
    not_priced: Sequence[str] = (),
) -> LatencyTable:
    """Writes the table of a published file.

    Args:
        path: The published file.
        output: The table; one that was imported before is replaced, one that was measured is not.
        format_name: Of the importer; recognised by default.
        unit: ``ms``, ``us``, ``ns`` or ``s``; by default what the file or its format says.
        columns: Of CSV: our names of columns to the file's.
        device: As in ``--device``; by default that of a file whose content is known, else the file's name.
        origin: Who measured it; by default that of a file whose content is known, else ``not stated``.
        licence: Of the file; likewise.
        not_priced: Kinds of operation that the publisher prices nowhere, besides those that the format implies.

    Raises:
        FileError: If a file cannot be read or written.
        UnknownFormatError: If no format has that name.
        ImportFileError: If the file is in no known format, or a row cannot be a latency.
        UnitError: If nothing says which unit the latencies have, two say different ones, or they are no latencies.
        TableError: If ``output`` is a table that was measured.
    """
    source, content = read_source(path, columns or {}, unit)
    importer = find_importer(format_name) if format_name else recognise(source)
    values = importer.values(source)
    digest = hashlib.sha256(content).hexdigest()
    facts = KNOWN.get(digest)
    device = device or (facts.device if facts else re.sub(r"[^\w.-]+", "-", path.stem))
    kinds = {value.key.partition("[")[0] for value in values}
    header = {
        "record": "header",
        "schema": storage.SCHEMA,
        "subject": importer.name,
        "device": device,
        "fingerprint": {"kind": PUBLISHED, "name": facts.device_name if facts else device},
        "runtime": RUNTIME,
        "threads": THREADS,
        "precision": "float32",
        "units": {"time": "ms"},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {},
        "origin": origin or (facts.origin if facts else NOT_STATED),
        "licence": licence or (facts.licence if facts else NOT_STATED),
        "not_priced": [kind for kind in dict.fromkeys((*importer.lacks, *not_priced)) if kind not in kinds],
        "file": {"name": path.name, "sha256": digest},
    }
    _refuse_measured(output)
    storage.write(output, header, (value.to_record() for value in values))
    return LatencyTable.load(output)


def _refuse_measured(output: Path) -> None:
    if output.exists() and not LatencyTable.load(output).is_published:
        raise TableError(f"{output} is there and was measured", mend="give another --output TABLE")
