"""The run folder: everything a search leaves behind, readable without us, and enough to go on after a kill.

``config.json`` what it was told, ``metrics.jsonl`` one line an epoch, ``measurements.jsonl`` one line a measured
network, ``checkpoint.safetensors`` the state after the last epoch, ``candidates.jsonl`` the networks of which one was
kept, ``architecture.json``, ``result.json``, ``weights.safetensors`` of the network found, ``finetune/`` of its last
epochs, ``finals.jsonl`` one line a training beside it, ``finals.json`` how long these are; ``train/`` and ``export/``
of the commands of these names; ``repair.jsonl`` one line a neighbour that export measured, ``repair.json`` what came of
it, ``repair/before/`` the network that it replaced.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import safetensors
import safetensors.torch
from torch import Tensor

from profilers.files import explained, read_text, write_atomic
from unas_hw.errors import RunError
from unas_hw.settings import AS_BEFORE

RUNS = Path("runs")
_LAST = "last"


@final
class Run:
    """One folder.

    Attributes:
        path: Of the folder.
        config: What the run was told.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    def told(self, name: str) -> Any:
        """A setting that the run was begun with; of one that was not written yet then, what was done."""
        return self.config.get(name, AS_BEFORE.get(name))

    @classmethod
    def begin(cls, path: Path, config: dict[str, Any]) -> Run:
        """Makes the folder, or takes up the one that was begun with the same settings; it is then the last run.

        Raises:
            RunError: If the folder is of a run with other settings.
        """
        if (path / "config.json").exists():
            run = cls.open(path)
            differing = [name for name in config if run.told(name) != config[name]]
            if differing:
                name = differing[0]
                raise RunError(
                    f"{path} was begun with {name}={run.told(name)!r}, not {config[name]!r}",
                    mend="give another --run NAME, or the settings it was begun with",
                )
        else:
            run = cls(path, config)
            run.write_json("config.json", config)
        write_atomic(path.parent / _LAST, path.name + "\n")
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run; raises ``RunError``."""
        if not (path / "config.json").is_file():
            raise RunError(f"there is no run in {path}", mend="unas-hw search --latency-budget 50% makes one")
        run = cls(path, {})
        run.config = run.read_json("config.json")
        return run

    @classmethod
    def find(cls, name: str | None) -> Run:
        """The run of that name or path; the last one without a name."""
        if name is not None:
            return cls.open(Path(name) if (Path(name) / "config.json").is_file() else RUNS / name)
        last = RUNS / _LAST
        if not last.is_file():
            raise RunError(
                f"there is no run in {RUNS.absolute()}", mend="unas-hw search --latency-budget 50%, or go to its folder"
            )
        return cls.open(RUNS / last.read_text(encoding="utf-8").strip())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other processes from working in this folder; raises ``RunError`` where one already does."""
        with explained(self.path):
            descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however that ends
            except BlockingIOError:
                raise RunError(
                    f"another process is working in {self.path}", mend="wait for it, or give another --run NAME"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """A file of the run, at once."""
        write_atomic(self.path / name, json.dumps(content, indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """A file of the run; raises ``RunError`` where it is no JSON object."""
        try:
            content = json.loads(read_text(self.path / name))
        except json.JSONDecodeError as error:
            raise RunError(
                f"{self.path / name} is damaged: {error}", mend=f"search again: rm -r {self.path}"
            ) from error
        if not isinstance(content, dict):
            raise RunError(f"{self.path / name} holds no JSON object", mend=f"search again: rm -r {self.path}")
        return content

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """A line of a journal of the run."""
        path = self.path / name
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, (json.dumps(line) + "\n").encode())
            finally:
                os.close(descriptor)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A journal; a line that a kill left unfinished is not there."""
        path = self.path / name
        if not path.exists():
            return []
        whole = read_text(path).rpartition("\n")[0]
        try:
            return [json.loads(line) for line in whole.split("\n") if line]
        except json.JSONDecodeError as error:
            raise RunError(f"{path} is damaged: {error}", mend=f"search again: rm -r {self.path}") from error

    def keep_lines(self, name: str, count: int) -> None:
        """Drops what a journal has beyond so many lines: what came after the last checkpoint is done again."""
        lines = self.lines(name)[:count]
        write_atomic(self.path / name, "".join(json.dumps(line) + "\n" for line in lines))

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Tensors with a note of plain values, in one safetensors file, at once."""
        plain = {key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}
        write_atomic(self.path / name, safetensors.torch.save(plain, {"scalars": json.dumps(scalars)}))

    def load_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The inverse of ``save_tensors``; None where there is none yet."""
        path = self.path / name
        if not path.exists():
            return None
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                scalars = json.loads((file.metadata() or {}).get("scalars", "{}"))
                return {key: file.get_tensor(key) for key in file.keys()}, scalars  # noqa: SIM118 - not a mapping
        except safetensors.SafetensorError as error:
            raise RunError(f"{path} is damaged: {error}", mend=f"go on without it: rm {path}") from error
