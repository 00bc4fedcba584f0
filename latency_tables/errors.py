"""Errors of latency tables.

UnasError
├── TableError                a table that cannot be used
│   ├── DamagedTableError     a file that is not a table, or was damaged
│   ├── ForeignTableError     a table of another device, runtime or thread count
│   ├── MissingEntryError     an operation that the table does not have
│   ├── NoisyTableError       a table whose noise floor is too high to be trusted
│   ├── PublishedTableError   a table of a device that is not here to measure
│   ├── ImportFileError       a published file that cannot be taken over
│   ├── ConflictError         two tables that say different things of one operation
│   └── DownloadError         a table that could not be fetched
│       └── UnreachableError  its server did not answer
├── AddressError              no address that a table could be fetched from
├── UnknownFormatError        no format of published files of that name
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


class PublishedTableError(TableError):
    """A published table, asked for something that only a device can answer."""


class ImportFileError(TableError, ValueError):
    """A published file that is in no known format, or has a row that cannot be a latency."""


class ConflictError(TableError, ValueError):
    """Two tables that say different things of one operation, so that they cannot become one."""


class DownloadError(TableError):
    """A table that could not be fetched."""


class UnreachableError(DownloadError):
    """The server of a table did not answer, or not to its end; what was fetched before will do."""


class AddressError(UnasError, ValueError):
    """No address that a table could be fetched from."""

    misuse = True


class UnknownFormatError(UnasError, LookupError):
    """No format of published files has that name."""

    misuse = True


class BusyTableError(UnasError):
    """Another process writes the same table."""
