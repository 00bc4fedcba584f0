"""Errors of latency tables.

UnasError
├── TableError                a table that cannot be used
│   ├── DamagedTableError     a file that is not a table, or was damaged
│   ├── ForeignTableError     a table of another device, runtime or thread count
│   ├── MissingEntryError     an operation that the table does not have
│   └── NoisyTableError       a table whose noise floor is too high to be trusted
└── BusyTableError            another process writes it
"""

from __future__ import annotations

from profilers.errors import UnasError


class TableError(UnasError):
    """A table that cannot be used."""


class DamagedTableError(TableError, ValueError):
    """A file that is not a table, or was damaged in its middle."""


class ForeignTableError(TableError):
    """A table of another device, runtime or number of threads."""


class MissingEntryError(TableError, LookupError):
    """An operation that the table does not have. Never taken for zero."""


class NoisyTableError(TableError):
    """A table whose noise floor is too high to be trusted."""


class BusyTableError(UnasError):
    """Another process writes the same table."""
