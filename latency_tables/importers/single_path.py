"""single-path-nas: JSON ``{block: {option: latency}}``."""

from __future__ import annotations

import re
from typing import final

from latency_tables.importers.base import Entry, Importer, Source
from latency_tables.importers.json_file import parse_json
from profilers.opspec import OpSpec

_OBJECT = re.compile(r'\s*\{\s*"\d+"\s*:\s*\{\s*"\d+"\s*:', re.ASCII)
_INDEX = re.compile(r"\d{1,6}", re.ASCII)


@final
class SinglePathNas(Importer):
    """Only block and option are known of a row."""

    name = "single-path-nas"
    summary = "single-path-nas json: options per block; the unit is nowhere in it"

    def recognises(self, source: Source) -> bool:
        return _OBJECT.match(source.text) is not None

    def entries(self, source: Source) -> list[Entry]:
        blocks = parse_json(source)
        if not isinstance(blocks, dict):
            raise source.error("line 1", blocks, "is not an object of blocks")
        entries = []
        for block, options in blocks.items():
            if not isinstance(options, dict):
                raise source.error(f"block {block}", options, "is not an object of options")
            for option, latency in options.items():
                where = f"block {block}, option {option}"
                for index in (block, option):
                    if not _INDEX.fullmatch(index):
                        raise source.error(where, index, "is not the number of a block or an option")
                key = OpSpec(self.name, {"block": block, "option": option}, (1,)).key
                time = source.positive(where, latency)
                entries.append(Entry(where=where, name=f"{block}/{option}", key=key, time=time))
        return entries
