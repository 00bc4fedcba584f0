"""Published tables that ship: each is a file beside this one, with origin and licence in its header."""

from __future__ import annotations

from pathlib import Path

from latency_tables import storage
from latency_tables.errors import PublishedTableError
from profilers.errors import UnknownNameError
from profilers.profiler import Profiler
from profilers.registry import open_profiler

FOLDER = Path(__file__).parent


def published_files() -> list[Path]:
    """All of them, by name."""
    return sorted(FOLDER.glob("*.jsonl"))


def find_published(name: str) -> list[Path]:
    """The files of that name, or of the device of that name: one device may have several, for several resolutions."""
    return [path for path in published_files() if name in (path.stem, path.name, _header(path)["device"])]


def published_devices() -> dict[str, str]:
    """Names of the devices, as in ``--device``, to what they are."""
    return {header["device"]: header["fingerprint"]["name"] for header in map(_header, published_files())}


def open_device(device: str, *, runtime: str | None = None, threads: int = 1) -> Profiler:
    """As ``open_profiler``; raises ``PublishedTableError`` for a device that only a published table knows."""
    try:
        return open_profiler(device, runtime=runtime, threads=threads)
    except UnknownNameError:
        tables = find_published(device)
        if not tables:
            raise
        raise PublishedTableError(
            f"{device} is a published table ({tables[0].name}): no such device is here to measure",
            mend=f"unas-hw tables show {tables[0].stem}, or measure this machine: unas-hw profile --device cpu",
        ) from None


def _header(path: Path) -> storage.Record:
    return storage.read(path).header
