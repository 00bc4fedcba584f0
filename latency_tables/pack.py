"""A table as one file to share: gzip-compressed JSON lines with the hash of their content in the header."""

from __future__ import annotations

import hashlib
import json
import zlib

from latency_tables import storage
from latency_tables.errors import DamagedTableError
from latency_tables.table import LatencyTable

FIELD = "content_sha256"
"""Of the header: SHA-256 of the table's file without this field, that is, of what ``unpack`` gives."""
MAX_BYTES = 64 * 2**20
"""Of a packed table, or of one that is fetched."""
MAX_PLAIN_BYTES = 256 * 2**20
"""Of what a packed table becomes, so that a small file cannot fill the memory."""
_GZIP = 31
"""Of zlib: with the header of gzip, in which neither a name nor a time is written."""
_MAGIC = b"\x1f\x8b"


def pack(table: LatencyTable) -> bytes:
    """The same bytes for the same table, wherever and whenever (with one version of zlib)."""
    records = table.records()
    header = {name: value for name, value in table.header.items() if name != FIELD}
    digest = sha256(storage.text(header, records).encode())
    text = storage.text({**header, FIELD: digest}, records)
    compressor = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    return compressor.compress(text.encode()) + compressor.flush()


def is_packed(data: bytes) -> bool:
    """Whether this begins as a packed table does."""
    return data.startswith(_MAGIC)


def unpack(data: bytes, name: str) -> bytes:
    """The plain file of a packed table, which messages call ``name``.

    Raises:
        DamagedTableError: If it is cut off, too large, no table, or not what its hash says.
    """
    head, newline, rest = _decompressed(data, name).partition(b"\n")
    try:
        header = json.loads(head)
        told = header.pop(FIELD)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refusal(name, f"its first line is no header with a {FIELD}") from error
    plain = storage.text(header, ()).encode() + rest
    if not newline or told != sha256(plain):
        raise refusal(name, f"its content is {sha256(plain)}, its header says {str(told)[:64]!r}")
    return plain


def _decompressed(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise refusal(name, f"it has {len(data):,} bytes, more than {MAX_BYTES:,}")
    decompressor = zlib.decompressobj(_GZIP)
    try:
        plain = decompressor.decompress(data, MAX_PLAIN_BYTES + 1)
    except zlib.error as error:
        raise refusal(name, f"it is not gzip: {error}") from error
    if len(plain) > MAX_PLAIN_BYTES:
        raise refusal(name, f"it unpacks to more than {MAX_PLAIN_BYTES:,} bytes")
    if not decompressor.eof:
        raise refusal(name, "it is cut off")
    if decompressor.unused_data:
        raise refusal(name, "something follows its end")
    return plain


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def refusal(name: str, why: str) -> DamagedTableError:
    """The error for a table of somebody else that is not what it should be."""
    return DamagedTableError(
        f"{name} cannot be used: {why}", mend="get it again, whole; its owner makes one by: unas-hw tables pack"
    )
