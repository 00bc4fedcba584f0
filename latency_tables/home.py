"""Where tables lie, and which was profiled last."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

from latency_tables.errors import TableError
from latency_tables.table import OP, LatencyTable


def home() -> Path:
    """The folder of tables and caches; ``UNAS_HW_HOME`` moves it."""
    return Path(os.environ.get("UNAS_HW_HOME") or platformdirs.user_data_dir("unas-hw"))


def tables_folder() -> Path:
    """The folder of tables."""
    return home() / "tables"


def default_path(subject: str, device: str, runtime: str, threads: int) -> Path:
    """The file for what is measured, where and how."""
    stem = f"{device}-{runtime}-{threads}t-{subject}"
    return tables_folder() / (re.sub(r"[^\w.@=-]+", "_", stem) + ".jsonl")


def find_table(name: str | Path) -> Path:
    """A table by path, or by file name or its beginning in the tables' folder."""
    path = Path(name)
    if path.is_file():
        return path
    name, files = str(name), table_files()
    matching = [file for file in files if name in (file.name, file.stem)]
    if not matching:
        if path.suffix == ".jsonl":
            return path  # may be about to be made
        matching = [file for file in files if file.stem.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    raise TableError(
        f"{'no' if not matching else len(matching)} tables match {name!r}",
        mend="unas-hw tables list names them all" if files else "measure one: unas-hw profile",
    )


def table_files() -> list[Path]:
    """All tables, the last profiled first."""
    return sorted(tables_folder().glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a table has to be of, as the user named it; None says any."""

    device: str | None = None
    runtime: str | None = None
    threads: int | None = None

    def differing(self, table: LatencyTable) -> dict[str, Any]:
        """What this table is not of."""
        return {name: value for name, value in asdict(self).items() if value not in (None, table.header[name])}

    def __str__(self) -> str:
        return " ".join(f"--{name} {value}" for name, value in asdict(self).items() if value is not None)


ANY = Target()


def last_table(target: Target, needed: Iterable[str] = ()) -> LatencyTable | None:
    """The table of this target that was profiled last, of those that have these operations."""
    needed = set(needed)
    tables = map(LatencyTable.load, table_files())
    return next((each for each in tables if not target.differing(each) and needed <= set(each.keys(OP))), None)


def open_table(name: str | Path | None = None, target: Target = ANY) -> LatencyTable:
    """A table by path or name; without one the last profiled of the target.

    Raises:
        TableError: If there is none, or it is of another target.
    """
    if name is not None:
        table = LatencyTable.load(find_table(name))
        for field, wanted in target.differing(table).items():
            raise TableError(
                f"{table.path} is of {field} {table.header[field]}, not {wanted}",
                mend=f"leave --{field} out, or choose another of unas-hw tables list",
            )
        return table
    found = last_table(target)
    if found is None:
        raise TableError(
            f"there is no table in {tables_folder()}" + (f" for {target}" if str(target) else ""),
            mend=f"unas-hw profile {target}".strip() + " makes one",
        )
    return found
