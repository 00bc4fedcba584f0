"""Where tables lie, and which was profiled last."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from latency_tables.errors import TableError
from latency_tables.table import LatencyTable


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


def find_table(name: str) -> Path:
    """A table by path, or by file name or its beginning in the tables' folder."""
    path = Path(name)
    if path.is_file():
        return path
    files = table_files()
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


def last_tables() -> Iterator[LatencyTable]:
    """All tables, read, the last profiled first."""
    return map(LatencyTable.load, table_files())


def open_table(name: str | None) -> LatencyTable:
    """A table by path or name; the last profiled without one."""
    if name is not None:
        return LatencyTable.load(find_table(name))
    files = table_files()
    if not files:
        raise TableError(f"there is no table in {tables_folder()}", mend="unas-hw profile makes one")
    return LatencyTable.load(files[0])
