"""Manifest: what lies beside an artifact, so that anyone can tell later what it is and whether it is still that."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from profilers.files import explained, read_text, write_atomic
from unas_hw.errors import ExportError
from unas_hw.export import FORMATS, Format
from unas_hw.export.batches import Batches

SUFFIX = ".manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact was meant to be.

    Attributes:
        format, precision: As in ``--format`` and ``profilers.precision``.
        batches: That it takes, as in ``--batch``.
        opset: Of ONNX; None for formats that are not made of it.
        input_shape: That it was exported for, batch first.
        normalised_inside: Whether it takes pixels from 0 to 255.
        files: SHA-256 by name, all in one folder, the artifact first.
        run: The folder of the run that it came from.
        architecture: Of the network.
        metadata: The words that files hold too: where it comes from.
        facts: What the exporter says of it.
    """

    format: str
    precision: str
    batches: str
    opset: int | None
    input_shape: list[int]
    normalised_inside: bool
    files: dict[str, str]
    run: str
    architecture: str
    metadata: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def fmt(self) -> Format:
        """The format itself."""
        return FORMATS[self.format]

    @property
    def range(self) -> Batches:
        """The batches themselves."""
        return Batches.parse(self.batches)

    def save(self, artifact: Path) -> None:
        """Lays it beside the artifact."""
        write_atomic(artifact.with_name(artifact.name + SUFFIX), json.dumps(asdict(self), indent=2) + "\n")

    def changed(self, artifact: Path) -> list[str]:
        """Files that are missing, or not as they were written."""
        return [name for name, was in self.files.items() if digest(artifact.with_name(name)) != was]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads one; raises ``ExportError`` where it is damaged."""
        mend = f"export again: unas-hw export; or bring {path.name} back as it was"
        try:
            content = json.loads(read_text(path))
            manifest = cls(**content)
            assert manifest.fmt and manifest.range and manifest.files
        except (ValueError, TypeError, LookupError, AssertionError, AttributeError) as error:
            raise ExportError(
                f"{path} is no manifest of an artifact: {error or 'it names no file'}", mend=mend
            ) from error
        return manifest


def digest(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    if not path.is_file():
        return None
    with explained(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_manifest(path: Path) -> tuple[Path, Manifest]:
    """The artifact that a path is, or is a file of, with its manifest.

    Raises:
        ExportError: If there is no manifest beside it.
    """
    folder = path if path.is_dir() else path.parent
    for each in manifests(folder):
        artifact = each.with_name(each.name.removesuffix(SUFFIX))
        if path in (each, artifact):
            return artifact, Manifest.load(each)
    for each in manifests(folder):  # the newest first
        manifest = Manifest.load(each)
        if path == folder or path.name in manifest.files:
            return each.with_name(each.name.removesuffix(SUFFIX)), manifest
    missing = "" if path.exists() else f"there is no {path}, and "
    raise ExportError(
        f"{missing}no manifest in {folder} tells of {path.name}: what it should be is not known",
        mend=f"keep {path.name}{SUFFIX} beside it; unas-hw export writes both",
    )


def manifests(folder: Path) -> list[Path]:
    """All in a folder, the newest first."""
    found = folder.glob(f"*{SUFFIX}") if folder.is_dir() else ()
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def loadable(fmt: Format, artifact: Path, folder: Path) -> Path:
    """One file that a runtime loads: the artifact, or an archive of its files, made in ``folder``."""
    if not fmt.others or fmt.name == "tensorrt":
        return artifact
    archive = folder / f"model.{fmt.name}"
    with explained(artifact), zipfile.ZipFile(archive, "w") as opened:
        for path in fmt.files(artifact):
            opened.write(path, path.name)
    return archive
