"""Which folders are parts of a data set, and which are classes; what can be read in two ways is refused."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from unas_hw.data.tree import Folder, count_of, refuse_unread, shown, unread
from unas_hw.errors import DataError

TRAIN, VALID, TEST = "train", "valid", "test"
_EITHER = "either"
"""The validation part beside a test part, and the test part otherwise."""
_WORDS = {
    TRAIN: "train training trn",
    VALID: "val valid validation validate vali vld dev devel development",
    TEST: "test testing tests tst",
    _EITHER: "eval evaluation evaluate holdout heldout",
}
_KINDS = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_FILLER = (
    "sets?|splits?|data|datasets?|images?|imgs?|jpe?gs?|pngs?|pictures?|pics|photos?|samples?|examples?|folders?|dir|part|"
    "subset|archive|seg"
)
_COMPOUND = re.compile(rf"(?:{_FILLER})?({'|'.join(sorted(_KINDS, key=len, reverse=True))})(?:{_FILLER})?")
_SHOWN = 4
"""Names that are shown of a layout."""
Classes = Mapping[str, Folder]


@dataclass(frozen=True)
class Layout:
    """The folders of classes of each part, by name; none of a part that is not there.

    Attributes:
        notes: What was left out or guessed, a line each.
    """

    train: Classes
    valid: Classes
    test: Classes
    notes: tuple[str, ...] = ()


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """Those names that say a part, by ``train``, ``valid`` and ``test``.

    ``flowers_train`` says one beside ``flowers_test``.

    Raises:
        DataError: If two say the same.
    """
    read = {name: _read_name(name) for name in names}
    found = dict[str, str]()
    for name, (kind, rest) in read.items():
        if kind is None or (
            rest and not any(other not in (None, kind) and same == rest for other, same in read.values())
        ):
            continue
        if kind in found:
            raise DataError(f"{found[kind]} and {name} may both be the {kind} part", mend="take one of them out")
        found[kind] = name
    if _EITHER in found:
        other = VALID if TEST in found else TEST
        if other in found:
            raise DataError(
                f"{found[_EITHER]} may be a part beside {found[VALID]} and {found[TEST]}", mend="take one of them out"
            )
        found[other] = found.pop(_EITHER)
    return found


def arranged(root: Folder) -> Layout:
    """The classes of each part.

    Raises:
        DataError: If folders can be read in two ways, parts have other classes than the training part, or there are
            no two classes.
    """
    notes = list[str]()
    here = _inner(root, root.path, notes)
    names = _parts(here)
    if not names:
        _refuse_mixed(here)
        return _layout({TRAIN: here}, root.path, notes)
    if TRAIN not in names:
        raise DataError(
            f"{here.path} has {_listed(names.values())} and no training part",
            mend=f"rename the folder of its training images to train, or --dataset '{here.path}/{min(names.values())}'",
        )
    _tell_left_out(here, [each for name, each in here.filled.items() if name not in names.values()], root.path, notes)
    return _layout({part: here.folders[name] for part, name in names.items()}, root.path, notes)


def _read_name(name: str) -> tuple[str | None, str]:
    """The part that a name says, and what else it says."""
    apart = re.sub(r"(?i)(hold|held)[\W_]+out", "holdout", name)
    words = [each.lower() for each in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])", apart)]
    matches = {word: _COMPOUND.fullmatch(word) for word in words}
    kinds = [_KINDS[match[1]] for match in matches.values() if match]
    if len(kinds) != 1:
        return None, ""
    return kinds[0], " ".join(word for word, match in matches.items() if not match and not re.fullmatch(_FILLER, word))


def _parts(folder: Folder) -> dict[str, str]:
    """The names of its folders that are parts, where one of them has folders with images."""
    found = parts_of(folder.filled)
    return found if any(folder.folders[name].filled for name in found.values()) else {}


def _inner(folder: Folder, root: str, notes: list[str], is_part: bool = False) -> Folder:
    """The folder that parts or classes lie in: the only one in it with parts, or with images but in its own folders."""
    while is_part or not _parts(folder):
        filled = list(folder.filled.values())
        inner = [each for each in filled if _parts(each)] or [
            each for each in filled if each.filled and not each.images
        ]
        if len(inner) != 1 or not (_parts(inner[0]) or len(filled) == 1):
            break
        _tell_left_out(folder, [each for each in filled if each is not inner[0]], root, notes)
        name = os.path.basename(inner[0].path)
        if _read_name(name)[0] is None and not re.fullmatch(_FILLER, name.lower()):
            notes.append(f"classes are looked for in {shown([inner[0].path], root)}/")
        folder = inner[0]
    return folder


def _tell_left_out(folder: Folder, others: Iterable[Folder], root: str, notes: list[str]) -> None:
    """Of images that lie in no part and in no class."""
    notes.extend(
        f"{count_of(each.count, 'image')} of {shown([each.path], root)}/ not read: they are in no part"
        for each in others
    )
    if folder.images:
        notes.append(
            f"{count_of(len(folder.images), 'image')} not read, in no folder of a class: {shown(folder.images, root)}"
        )


def _refuse_mixed(folder: Folder) -> None:
    """Raises ``DataError`` for parts without classes, and for a part that lies among classes."""
    parts = parts_of(folder.filled)
    if VALID in parts and "invalid" in map(str.lower, folder.filled):
        del parts[VALID]
    others = [name for name in folder.filled if name not in parts.values()]
    if not parts or (set(parts) == {TRAIN} and others):  # a class of trains
        return
    name = min(parts.values())
    where = f"{folder.path}/{name}"
    if not others:
        raise DataError(
            f"{where} has {count_of(folder.filled[name].count, 'image')} and no folders of classes",
            mend=f"one sub-folder a class: {where}/cat/1.jpg, {where}/dog/1.jpg ...",
        )
    raise DataError(
        f"{where} is called like a part, and {_listed(others)} beside it like classes",
        mend=f"put the classes into '{folder.path}/train', or rename {name} if it is a class",
    )


def _layout(parts: dict[str, Folder], root: str, notes: list[str]) -> Layout:
    classes = {part: _classes(folder, root, notes) for part, folder in parts.items()}
    trains, where = classes[TRAIN], parts[TRAIN].path
    if len(trains) < 2:
        seen = f": {_listed(trains)}" if trains else ""
        flat = f" and {count_of(len(parts[TRAIN].images), 'image')} in none" if parts[TRAIN].images else ""
        strange = unread(parts[TRAIN], root)
        raise DataError(
            f"{where} has images of {len(trains)} classes{seen}{flat}{f'; {strange}' if strange else ''}",
            mend=f"one sub-folder a class: {where}/cat/1.jpg, {where}/dog/1.jpg ...",
        )
    _refuse_alike(trains, where)
    _tell_names(trains, notes)
    for part in (VALID, TEST):
        if part in parts:
            _check(parts[part], classes[part], trains, part, root, notes)
    return Layout(trains, classes.get(VALID, {}), classes.get(TEST, {}), tuple(notes))


def _classes(part: Folder, root: str, notes: list[str]) -> Classes:
    """The folders of a part that have images."""
    part = _inner(part, root, notes, is_part=True)
    if part.filled:
        _tell_left_out(part, (), root, notes)
    empty = [name for name in part.folders if name not in part.filled]
    for name in empty:
        refuse_unread(part.folders[name], root)
    if empty and part.filled:
        notes.append(f"no image, and so no class: {shown((part.folders[name].path for name in empty), root)}")
    if told := unread(part, root):
        notes.append(told)
    nested = [each for each in part.filled.values() if not each.images and len(each.filled) > 1]
    if nested:
        notes.append(f"the images of {_listed(nested[0].filled)} are all of the class {shown([nested[0].path], root)}; "
                     f"so it is with {count_of(len(nested), 'folder')}")  # fmt: skip
    return part.filled


def _refuse_alike(classes: Classes, path: str) -> None:
    """Raises ``DataError`` where folders have the same folders in them: they, or these, are the classes."""
    inner = {name: set(each.filled) for name, each in classes.items() if each.count > 2 * len(each.images)}
    shared = [name for name, count in Counter(name for each in inner.values() for name in each).items() if count > 1]
    one_level = len(inner) == len(classes) and len(set(map(frozenset, inner.values()))) == 1  # of one name
    if len(shared) < 2 and not (one_level and not re.fullmatch(_FILLER, shared[0].lower())):
        return
    alike = [name for name, each in inner.items() if each.intersection(shared)]
    seen = ", ".join(f"{name}/{{{_listed(sorted(inner[name]))}}}" for name in alike[:2])
    mend = f"call parts train, val and test: mv '{path}/{alike[0]}' '{path}/train'; or --dataset '{path}/{alike[0]}'"
    if all(_read_name(name)[0] for name in shared):
        mend = f"parts come first, then classes: {path}/train/{alike[0]}, {path}/test/{alike[0]} ..."
    more = f" and {len(alike) - 2} more" if len(alike) > 2 else ""
    raise DataError(
        f"{path} has {seen}{more}: of the same folders in each it cannot be told what is a class", mend=mend
    )


def _tell_names(classes: Classes, notes: list[str]) -> None:
    """Of classes whose names differ by capital letters only; single letters may be meant so."""
    seen = dict[str, str]()
    for name in classes:
        other = seen.setdefault(name.casefold(), name)
        if other != name and len(name) > 1:
            notes.append(f"{other} and {name} are two classes: their names differ by capital letters only")


def _check(part: Folder, found: Classes, trains: Classes, kind: str, root: str, notes: list[str]) -> None:
    """Of another part, which may lack labels, as the test images of ImageNet do, and is left out then.

    Raises:
        DataError: If it has classes that the training part does not have, or is a validation part without any.
    """
    if not found and part.count:
        if kind == VALID:
            raise DataError(
                f"{part.path} has no folders of classes",
                mend=f"move each image into a folder that is called like its class: {part.path}/{min(trains)}",
            )
        notes.append(
            f"{count_of(part.count, 'image')} of {shown([part.path], root)}/ not read: in no folder of a class"
        )
    if strange := sorted(set(found) - set(trains)):
        near = next((name for name in trains if name.casefold() == strange[0].casefold()), None)
        raise DataError(
            f"{part.path} has the class {_listed(strange)}, which no training image is of",
            mend=f"mv '{found[strange[0]].path}' '{part.path}/{near}'"
            if near
            else f"rename {found[strange[0]].path} or take it out; training has {_listed(trains)}",
        )


def _listed(names: Iterable[str]) -> str:
    some = list(names)
    return ", ".join(some[:_SHOWN]) + (" ..." if len(some) > _SHOWN else "")
