"""Errors of latency tables."""

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
