"""The space that a table is for, read off its whole networks."""

from __future__ import annotations

from urllib.parse import unquote

from latency_tables.errors import TableError
from latency_tables.rows import ANCHOR
from latency_tables.table import LatencyTable
from profilers.opspec import OpSpec
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space


def space_of(table: LatencyTable) -> SearchSpace:
    """Raises ``TableError`` for a table without anchors."""
    anchors = table.keys(ANCHOR)
    if not anchors:
        raise TableError(
            f"{table.path.name} has no anchor networks, so nothing says which space it is for",
            mend="add --space NAME" if table.is_published else f"unas-hw profile --table {table.path} adds them",
        )
    op = OpSpec.from_key(anchors[0])
    batch, channels, size, _ = op.shape
    return find_space(
        unquote(str(op.attrs["space"])),
        image_shape=(channels, size, size),
        classes=int(op.attrs["classes"]),
        batch=batch,
        precision=op.dtype,
    )
