"""Profile on several devices at once: those that are alike share one table's rows, others have a table of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latency_tables.errors import TableError
from latency_tables.parallel import in_parallel
from latency_tables.published import open_device
from latency_tables.table import LatencyTable
from profilers.errors import UnasError
from profilers.profiler import Profiler
from unas_hw.jobs.profile import profile
from unas_hw.progress import Job, Step
from unas_hw.space import SearchSpace


@dataclass
class Profiled:
    """What came of it.

    Attributes:
        tables: One of each kind of device.
        lost: The error of each device, or kind of devices, whose table is not complete.
    """

    tables: list[LatencyTable] = field(default_factory=list)
    lost: list[UnasError] = field(default_factory=list)


def profile_devices(
    space: SearchSpace,
    devices: Sequence[str],
    *,
    runtime: str | None = None,
    threads: int = 1,
    path: Path | None = None,
    **settings: Any,
) -> Job[Profiled]:
    """Profiles all of them; a device that is missing or lost does not stop the others.

    Devices of this machine are timed alone, before all others: what is converted for those would disturb them.

    Args:
        space: Whose operations.
        devices: As in ``--device``.
        runtime: Of all of them.
        threads: Likewise.
        path: Of the table; only for devices that are alike.
        settings: Of ``profile``.

    Raises:
        UnasError: The first device's error, where none could be profiled.
        TableError: If there is one path for devices that differ.
    """
    done = Profiled()
    kinds = yield from _opened(devices, runtime, threads, done.lost)
    if path is not None and len(kinds) > 1:
        raise TableError(f"{path} is one table, and the devices are of {len(kinds)} kinds", mend="leave --table out")
    jobs = {tuple(each.device for each in team): profile(space, team, path=path, **settings) for team in kinds}
    if len(jobs) == 1:
        (job,) = jobs.values()
        done.tables = [(yield from job)]
        return done
    here = [names for names in jobs if re.split("[:?]", names[0])[0] in ("cpu", "gpu")]
    results: dict[tuple[str, ...], LatencyTable] = {}
    kept = {names: _kept(job, names, results) for names, job in jobs.items()}
    for side_by_side in (*([names] for names in here), [names for names in kept if names not in here]):
        for _, step in in_parallel({names: kept[names] for names in side_by_side}):
            if isinstance(step, UnasError) and not step.misuse:
                done.lost.append(step)
            elif isinstance(step, Exception):
                raise step
            else:
                yield step
    done.tables = [results[names] for names in jobs if names in results]
    if not done.tables:
        raise done.lost[0]
    return done


def _opened(
    devices: Sequence[str], runtime: str | None, threads: int, lost: list[UnasError]
) -> Job[list[list[Profiler]]]:
    """Profilers of the devices, those that are alike together; an error of one of several goes to ``lost``."""
    kinds: dict[Any, list[Profiler]] = {}
    for number, device in enumerate(dict.fromkeys(devices)):
        if len(devices) > 1:
            yield Step("connect", number, len(devices))
        try:
            found = open_device(device, runtime=runtime, threads=threads)
            kind = (tuple(sorted(found.fingerprint().items())), found.runtime, found.threads)
        except UnasError as error:
            if len(devices) == 1 or error.misuse:
                raise
            lost.append(error)
            yield Step("connect", number, len(devices), f"{error.what}; the other devices go on")
            continue
        kinds.setdefault(kind, []).append(found)
    return list(kinds.values())


def _kept(job: Job[LatencyTable], names: tuple[str, ...], results: dict[tuple[str, ...], LatencyTable]) -> Job[None]:
    results[names] = yield from job
