"""A file is written whole or left as it was; what the system says about it is turned into an error with a mend."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from profilers.errors import FileError
from profilers.files import explained, read_text, write_atomic


def _raising(error: BaseException) -> object:
    def call(*_: object, **__: object) -> NoReturn:
        raise error

    return call


def test_the_folder_is_made_and_text_and_bytes_are_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    write_atomic(path, "80 µs\n")
    assert path.read_bytes() == "80 µs\n".encode()
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_full_disk_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "table.jsonl"
    write_atomic(path, "old")
    monkeypatch.setattr(os, call, _raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(FileError) as caught:
        write_atomic(path, "new")
    assert caught.value.what == f"{path}: the disk is full"
    assert f"free some space under {tmp_path}" in caught.value.mend
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.jsonl"
    write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", _raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_reaches_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        order.append("fsync")
        fsync(descriptor)

    def noted_replace(source: str, target: Path) -> None:
        order.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_atomic(tmp_path / "file", "content")
    assert order == ["fsync", "replace"]


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_written_names_the_variable_that_moves_it(tmp_path: Path, below: str) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    path = tmp_path / "blocked" / below
    with pytest.raises(FileError) as caught:
        write_atomic(path, "content")
    assert str(path) in caught.value.what
    assert "UNAS_HW_HOME" in caught.value.mend


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no such file") as caught:
        read_text(tmp_path / "missing.jsonl")
    assert isinstance(caught.value, OSError)


def test_an_error_that_is_explained_already_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught, explained(tmp_path):
        raise FileError("what was wrong", mend="what to do")
    assert caught.value.what == "what was wrong"


def test_bytes_that_are_no_text_are_read_rather_than_raised(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(b"ab\xffcd")
    assert read_text(path) == "ab\N{REPLACEMENT CHARACTER}cd"
