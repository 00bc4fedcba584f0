"""What lies in a folder and below it: images, other files, and nothing that systems and programs leave behind."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from profilers.text import name_of
from unas_hw.data.decode import suffixes
from unas_hw.errors import DataError

_LEFT_BEHIND = re.compile(
    r"\..*|__macosx|__pycache__|@eadir|#recycle|\$recycle\.bin|system volume information|lost\+found|"
    r"(eh)?thumbs\.db|desktop\.ini|icon\r",
    re.IGNORECASE,
)
_BESIDE = re.compile(
    r"(readme|licen[cs]e|checksums|md5sums|sha256sums)|"
    r".*\.(txt|[ct]sv|jsonl?|xml|ya?ml|ini|md|rst|html?|log|db|py|ipynb|sh|names|url|md5|sha256|pbtxt)"
)
"""Words about images, which nobody expects to be read as one."""
_PICTURES = re.compile(
    r"\.(hei[cf]|hif|avif|jxl|webp|svg|eps|raw|cr[23]|nef|arw|dng|raf|orf|rw2|exr|hdr|dcm|nii|npy|"
    r"mp4|mov|avi|mkv|webm|mpe?g)"
)
"""Endings of pictures and films that Pillow, as it is installed, may not read."""


@dataclass(frozen=True)
class Folder:
    """A folder.

    Attributes:
        path: Of it.
        images: Whole paths of the images directly in it.
        others: Whole paths of the other files directly in it.
        folders: What lies in it, by its name as Unicode composes it, in the order of names.
    """

    path: str
    images: tuple[str, ...]
    others: tuple[str, ...]
    folders: Mapping[str, Folder]

    @cached_property
    def count(self) -> int:
        """Images in it and below."""
        return len(self.images) + sum(each.count for each in self.folders.values())

    @cached_property
    def filled(self) -> dict[str, Folder]:
        """The folders in it with images."""
        return {name: each for name, each in self.folders.items() if each.count}

    def all_images(self) -> list[str]:
        """In it and below, sorted."""
        return sorted(each for folder in self.walk() for each in folder.images)

    def walk(self) -> Iterator[Folder]:
        """Itself and all below."""
        yield self
        for each in self.folders.values():
            yield from each.walk()

    def strange(self) -> Counter[str]:
        """The endings of files directly in it that are no images, and nothing that is usual beside images."""
        names = (os.path.basename(each).lower() for each in self.others)
        return Counter(os.path.splitext(name)[1] or "no ending" for name in names if not _BESIDE.fullmatch(name))


def is_left_behind(name: str) -> bool:
    """Whether a file or folder of that name is no part of any data set."""
    return _LEFT_BEHIND.fullmatch(name) is not None


def read_tree(path: Path) -> Folder:
    """The folder; links are followed, but never into a folder around them.

    Raises:
        DataError: If a link leads nowhere, or names of folders cannot be told apart or written.
        OSError: If a folder cannot be read.
    """
    return _read(str(path), suffixes(), ())


def unread(folder: Folder, root: str) -> str | None:
    """What is to be told of files that are no images, and nothing that is usual beside images."""
    found = {each.path: strange for each in folder.walk() if (strange := each.strange())}
    if not found:
        return None
    total = sum(found.values(), Counter[str]())
    count = sum(total.values())
    where = f"{shown(found, root)}/" if len(found) == 1 else f"{len(found)} folders"
    endings = ", ".join(total) if len(total) == 1 else ", ".join(f"{each} ({n})" for each, n in total.most_common())
    return f"{count_of(count, 'file')} of {where} {'was' if count == 1 else 'were'} not read: {endings}"


def refuse_unread(folder: Folder, root: str) -> None:
    """Raises ``DataError`` for a folder of pictures none of which can be read."""
    endings = [ending for each in folder.walk() for ending in each.strange() if _PICTURES.fullmatch(ending)]
    if endings and not folder.count:
        raise DataError(
            f"{unread(folder, root)}; there is no other image of that class",
            mend=f"convert them: magick mogrify -format png '{folder.path}/*{min(endings)}'; or take the folder out",
        )


def shown(paths: Iterable[str], root: str, limit: int = 3) -> str:
    """Some paths, as the data set's folder has them."""
    names = [os.path.relpath(each, root) if each != root else each for each in paths]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def count_of(count: int, what: str) -> str:
    """So many of something."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _read(path: str, endings: frozenset[str], around: tuple[str, ...]) -> Folder:
    around = (*around, os.path.realpath(path))
    images, others, folders = list[str](), list[str](), dict[str, Folder]()
    with os.scandir(path) as scanned:
        entries = sorted(scanned, key=lambda each: each.name)
    for entry in entries:
        if is_left_behind(entry.name):
            continue
        if not _is_folder(entry):
            (images if os.path.splitext(entry.name)[1].lower() in endings else others).append(entry.path)
        elif not (entry.is_symlink() and _lies_around(entry.path, around)):
            name = _composed(entry)
            if name in folders:
                raise DataError(
                    f"two folders of {path} are called {name!r}, which Unicode or blanks tell apart and no eye does",
                    mend=f"put their images into one of them: ls -b {path}",
                )
            folders[name] = _read(entry.path, endings, around)
    return Folder(path, tuple(images), tuple(others), folders)


def _lies_around(link: str, around: tuple[str, ...]) -> bool:
    target = os.path.realpath(link)
    return any(os.path.commonpath([target, each]) == target for each in around)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink() and not os.path.exists(entry.path):
        raise DataError(f"{entry.path} is a link that leads nowhere", mend=f"rm '{entry.path}'")
    return entry.is_dir()


def _composed(entry: os.DirEntry[str]) -> str:
    """One form of a name that Unicode can write in two."""
    name = name_of(entry.name)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"the name of the folder {name!a} is not UTF-8", mend="rename it, as convmv does") from None
    return unicodedata.normalize("NFC", name).strip()
