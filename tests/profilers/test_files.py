"""A file is written whole or left as it was; what the system says about it is turned into an error with a mend."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import NoReturn

import pytest

from profilers.errors import FileError
from profilers.files import explained, explained_error, read_text, write_atomic
from profilers.home import home


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


@pytest.mark.parametrize(
    ("number", "said", "mend"),
    [
        (errno.ENOSPC, "the disk is full", "df -h '/d d'"),
        (errno.EDQUOT, "your quota is used up", "df -h '/d d'"),
        (errno.EFBIG, "no file may grow so large", "ulimit -f"),
        (errno.EROFS, "this file system can be read only", "UNAS_HW_HOME"),
        (errno.EACCES, "permission denied", "ls -ld '/d d' '/d d/f'"),
        (errno.EMFILE, "too many files are open", "ulimit -n 4096"),
        (errno.ENAMETOOLONG, "the name is too long", "shorter"),
        (errno.EISDIR, "it is a directory, not a file", "give a file"),
        (errno.ELOOP, "its links lead in a circle", "ls -ld"),
        (errno.EIO, "input/output error", "dmesg"),
        (errno.ESTALE, "has gone away", "mount it again"),
        (errno.ENOTDIR, "a file lies where a folder has to be", "UNAS_HW_HOME"),
        (errno.ETXTBSY, "text file busy", "UNAS_HW_HOME"),  # any other in the system's words
    ],
)
def test_what_the_system_says_of_a_file_has_its_own_mend(number: int, said: str, mend: str) -> None:
    found = explained_error(OSError(number, os.strerror(number), "/d d/f"))
    assert found.what.startswith("/d d/f: ") and said in found.what
    assert mend in found.mend


def test_an_error_about_no_file_that_is_known_names_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert explained_error(OSError(errno.ENOSPC, "No space left on device")).what == (
        "the disk is full; the system does not say where"
    )
    for lost in (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), OSError("no route to the hub")):
        assert "check the network" in explained_error(lost).mend
    nowhere = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    found = explained_error(nowhere)
    assert found.what == "no usable temporary directory found in ['/tmp']" and "export TMPDIR" in found.mend
    assert explained_error(nowhere, tmp_path).what == found.what  # not of this path
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileError, match="the folder that you are in is no longer there"):
        write_atomic(Path("runs/x"), "content")
    with pytest.raises(FileError, match=f"{tmp_path}/x: there is no such file"):
        read_text(tmp_path / "x")


def test_the_file_below_is_named_where_the_system_says_which(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught, explained(tmp_path):
        (tmp_path / "a" / "b").read_bytes()
    assert caught.value.what == f"{tmp_path}/a/b: there is no such file"


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("n" * 255), "content")
    with pytest.raises(FileError, match="the name is too long"):
        write_atomic(tmp_path / ("n" * 256), "content")


def test_a_file_is_utf_8_whatever_the_locale_and_names_of_other_bytes_come_back(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    name = os.fsdecode(b"caf\xe9 \xd0\xba\xd0\xbe\xd1\x82")
    write_atomic(path, json.dumps([name], ensure_ascii=False))
    assert path.read_bytes() == b'["caf\\udce9 \xd0\xba\xd0\xbe\xd1\x82"]'
    assert json.loads(read_text(path)) == [name]


def test_the_folder_of_tables_is_never_called_after_the_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UNAS_HW_HOME", "~/tables")
    assert home() == tmp_path / "tables"
    for given in ("~nobody-of-that-name/tables", ""):
        monkeypatch.setenv("UNAS_HW_HOME", given)
        monkeypatch.setattr("platformdirs.user_data_dir", _raising(RuntimeError("no home")))
        with pytest.raises(FileError, match=r"no home folder[\s\S]*export UNAS_HW_HOME"):
            home()
