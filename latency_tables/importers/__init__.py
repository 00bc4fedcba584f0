"""Importers of published latency tables by name; nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, metadata
from types import MappingProxyType
from typing import TYPE_CHECKING

from latency_tables.errors import ImportFileError, UnknownFormatError
from profilers.errors import did_you_mean

if TYPE_CHECKING:
    from latency_tables.importers.base import Importer, Source

ENTRY_POINTS = "unas_hw.importers"
"""Group under which other distributions add importers: ``name = module:Class``, called without arguments."""
IMPORTERS: Mapping[str, str] = MappingProxyType(
    {
        "proxylessnas": "latency_tables.importers.proxylessnas:ProxylessNas",
        "onceforall": "latency_tables.importers.onceforall:OnceForAll",
        "fbnet": "latency_tables.importers.fbnet:FBNet",
        "single-path-nas": "latency_tables.importers.single_path:SinglePathNas",
        "csv": "latency_tables.importers.csv_file:CsvFile",
    }
)
"""The order in which a file is shown to them: the most particular first."""


def importer_names() -> tuple[str, ...]:
    """Ours, then those that other distributions add."""
    added = (point.name for point in metadata.entry_points(group=ENTRY_POINTS))
    return tuple(dict.fromkeys((*IMPORTERS, *added)))


def find_importer(name: str) -> Importer:
    """The importer of that name; raises ``UnknownFormatError``."""
    if name in IMPORTERS:
        module, _, attribute = IMPORTERS[name].partition(":")
        ours: Importer = getattr(import_module(module), attribute)()
        return ours
    for point in metadata.entry_points(group=ENTRY_POINTS):
        if point.name == name:
            added: Importer = point.load()()
            return added
    raise UnknownFormatError(f"no format of tables is called {name!r}", mend=did_you_mean(name, importer_names()))


def recognise(source: Source) -> Importer:
    """The first importer that knows the file's format; raises ``ImportFileError`` if none does."""
    if source.columns:  # which only CSV has; what it lacks it says
        return find_importer("csv")
    for name in importer_names():
        importer = find_importer(name)
        if importer.recognises(source):
            return importer
    if source.text.startswith('{"record":"header"'):
        raise ImportFileError(
            f"{source.path} is a latency table of ours already", mend=f"use it as it is: --table {source.path}"
        )
    raise ImportFileError(
        f"{source.path} is in no format that is known",
        mend=f"say which: --format {'|'.join(importer_names())}; for other tables write CSV: --column key=... "
        "--column ms=...",
    )
