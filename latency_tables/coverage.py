"""What a table prices: published tables lack kinds of operation that their publishers never measured on their own."""

from __future__ import annotations

from collections.abc import Iterable

from latency_tables.errors import PublishedTableError
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers.profiler import Profiler
from profilers.registry import open_profiler


def not_covered(table: LatencyTable, keys: Iterable[str]) -> tuple[str, ...]:
    """The keys without a row whose kind the header lists as ``not_priced``; in order, repeated as given."""
    kinds = table.header.get("not_priced", ())
    rows = set(table.keys(OP)) if kinds else set()
    return tuple(key for key in keys if key.partition("[")[0] in kinds and key not in rows)


def priced(table: LatencyTable, keys: Iterable[str]) -> tuple[str, ...]:
    """The keys that have to have a row: all but those ``not_covered``."""
    keys = tuple(keys)
    left = set(not_covered(table, keys))
    return tuple(key for key in keys if key not in left)


def profiler_of(table: LatencyTable) -> Profiler:
    """The profiler of the table's device; raises ``PublishedTableError`` where no device is there to measure."""
    header = table.header
    if table.is_published:
        raise PublishedTableError(
            f"{table.path.name} is a published table: there is no {header['fingerprint']['name']} here to measure",
            mend="measure a device that is here: unas-hw profile --device cpu; unas-hw devices lists them",
        )
    return open_profiler(header["device"], runtime=header["runtime"], threads=header["threads"])
