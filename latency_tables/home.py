"""Where tables lie, and which was profiled last."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latency_tables import foreign, remote
from latency_tables.coverage import priced
from latency_tables.errors import AddressError, TableError
from latency_tables.published import find_published
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers.home import home as home  # part of this module too
from profilers.precision import PRECISIONS


def tables_folder() -> Path:
    """The folder of tables."""
    return home() / "tables"


def cache_folder() -> Path:
    """The folder of tables that came from elsewhere."""
    return home() / "cache" / "tables"


def is_fetched(path: Path) -> bool:
    """Whether the table is a copy of somebody else's, which nothing is added to."""
    return cache_folder().resolve() in path.resolve().parents


def shown(device: str) -> str:
    """A device as people read it: how to get to a host is no part of its name."""
    return device.partition("?")[0] if device.startswith("ssh://") else device


def default_path(subject: str, device: str, runtime: str, threads: int) -> Path:
    """The file for what is measured, where and how."""
    name = shown(device)
    if name.startswith("adb://") and not re.fullmatch(r"[\w.:/-]+", name):  # "a (2)" and "a_2_" are two phones
        name += f"-{hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"
    stem = f"{name}-{runtime}-{threads}t-{subject}"
    return tables_folder() / (re.sub(r"[^\w.@=-]+", "_", stem) + ".jsonl")


def own_path(name: str | Path) -> Path:
    """Where a table is written to; raises ``AddressError`` for an address."""
    if remote.is_address(str(name)):
        raise AddressError(f"{name} cannot be written to", mend="give a path")
    return Path(os.path.expanduser(name))


def imported_path(name: str) -> Path:
    """Where an imported table goes: a path, or a bare name in the tables' folder."""
    bare = Path(name).name == name and not name.endswith(".jsonl")
    return tables_folder() / f"{name}.jsonl" if bare else own_path(name)


def find_table(name: str | Path) -> Path:
    """A table by path, by file name or its beginning in the tables' folder, or one that ships by its name or device.

    What is packed, or at an address (``latency_tables.remote``), is checked first and lies in the cache then.
    """
    if remote.is_address(str(name)):
        return remote.fetch(str(name), cache_folder())
    path = Path(os.path.expanduser(name))
    if path.is_file():
        return foreign.local(path, cache_folder())
    name, files = str(name), table_files()
    matching = [file for file in files if name in (file.name, file.stem)]
    if not matching:
        if path.suffix == ".jsonl":
            return path  # may be about to be made
        matching = [file for file in files if file.stem.startswith(name)] or find_published(name)
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
    precision: str | None = None

    def differing(self, table: LatencyTable) -> dict[str, Any]:
        """What this table is not of."""
        return {name: value for name, value in asdict(self).items() if value not in (None, table.header[name])}

    def __str__(self) -> str:
        return " ".join(
            f"--{name} {shlex.quote(str(value))}" for name, value in asdict(self).items() if value is not None
        )


ANY = Target()


def last_table(target: Target, needed: Iterable[str] = (), subject: str | None = None) -> LatencyTable | None:
    """The table of this target that was profiled last, of those that have these operations.

    A table that ships comes after all of the user's, and only where its device is asked for by name. Where none has
    them all, it is the last that was begun for this subject, if one is given. Without a precision in the target, tables
    of all precisions are meant: their operations are the same but for it.
    """
    needed = tuple(needed)
    files = [*table_files(), *(find_published(target.device) if target.device else ())]
    tables = [each for each in map(LatencyTable.load, files) if not target.differing(each)]
    whole = (each for each in tables if set(priced(each, _keys_of(each, needed))) <= set(each.keys(OP)))
    begun = (each for each in tables if subject and _bare(each.header["subject"]) == _bare(subject) and each.keys(OP))
    return next(whole, None) or next(begun, None)


def _keys_of(table: LatencyTable, keys: Iterable[str]) -> list[str]:
    return [f"{_bare(key)}:{table.header['precision']}" for key in keys]


def _bare(name: str) -> str:
    """A key or subject without its precision."""
    stem, _, precision = name.rpartition(":")
    return stem if precision in PRECISIONS else name


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
    several = find_published(target.device or "")
    if found is not None and found.path in several[1:] + several[:-1]:
        raise TableError(
            f"{len(several)} published tables are of {target.device}",
            mend=f"say which: --table {' or --table '.join(path.stem for path in several)}",
        )
    if found is None:
        raise TableError(
            f"there is no table in {tables_folder()}" + (f" for {target}" if str(target) else ""),
            mend=f"unas-hw profile {target}".strip() + " makes one",
        )
    return found
