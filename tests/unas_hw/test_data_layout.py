"""Folders are read as parts and classes where that is what they are; what is left out is told with counts, and what can
be read in two ways is refused with the layout that was seen.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from unas_hw.data import Dataset, load_dataset
from unas_hw.errors import DataError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
_NUMBERS = count()


def _png(number: int | None = None) -> bytes:
    """4 x 4 pixels, of which no two are the same unless they have a number."""
    number = next(_NUMBERS) if number is None else number
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), (number % 256, number // 256, 90), np.uint8)).save(file, "PNG")
    return file.getvalue()


def _folders(root: Path, paths: Iterable[str], images: int = 6) -> Path:
    for path in paths:
        (root / path).mkdir(parents=True)
        for number in range(images):
            (root / path / f"{number}.png").write_bytes(_png())
    return root


def _parts(*parts: str, classes: str = "abcd") -> list[str]:
    return [f"{part}/{name}" for part in parts for name in classes]


def _sizes(data: Dataset) -> list[int]:
    return [len(part) for part in (data.train, data.valid, data.test)]


def _refused(root: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        load_dataset(str(root))
    assert "\n" not in caught.value.what
    return caught.value


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("archive/dataset/Training", "archive/dataset/Testing"),
        ("trainset", "testset"),
        ("train_set", "test_set"),
        ("training-images", "testing-images"),
        ("TrainSet", "ValidationSet"),
        ("Train Data", "Valid Data"),
        ("flowers_train", "flowers_test"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
        ("train2017", "val2017"),
        ("01_train", "02_hold-out"),
        ("train", "eval"),
        ("trn", "dev"),
        ("images/train", "images/test"),
        ("train/images", "test/images"),
        ("seg_train/seg_train", "seg_test/seg_test"),
    ],
)
def test_parts_are_known_by_any_usual_name(tmp_path: Path, train: str, test: str) -> None:
    data = load_dataset(str(_folders(tmp_path / "set", _parts(train, test))))
    assert data.class_names == ("a", "b", "c", "d")
    assert _sizes(data) == [18, 6, 24]
    assert data.test.y.tolist() == [label for label in range(4) for _ in range(6)]


@pytest.mark.parametrize("parts", [("train", "val", "eval"), ("Train", "eval", "Test"), ("train", "dev", "holdout")])
def test_a_name_that_may_be_either_is_the_part_that_lacks(tmp_path: Path, parts: tuple[str, ...]) -> None:
    _folders(tmp_path / "set", _parts(parts[0]), 3)
    _folders(tmp_path / "set", _parts(parts[1]), 2)
    _folders(tmp_path / "set", _parts(parts[2]), 1)
    assert _sizes(load_dataset(str(tmp_path / "set"))) == [12, 8, 4]


@pytest.mark.parametrize(
    ("paths", "what", "mend"),
    [
        (_parts("lernen", "pruefen"), "has lernen/{a, b, c, d}, pruefen/{a, b, c, d}: of the same folders", "mv '"),
        (_parts("f1", "f2", "f3", classes="ab"), "f1/{a, b}, f2/{a, b} and 1 more", "/f1' '"),
        ([*_parts("lernen", classes="abc"), *_parts("pruefen", classes="ab")], "pruefen/{a, b}: of the same", "mv"),
        (_parts("north", "south", classes="c"), "north/{c}, south/{c}: of the same", "--dataset '"),
        ([f"{name}/{part}" for name in "ab" for part in ("train", "test")], "a/{test, train}, b/{test", "/train/a, "),
        (["train", "test"], "set/test has 6 images and no folders of classes", "/test/cat/1.jpg"),
        (["images/train", "images/val"], "images/train has 6 images and no folders", "one sub-folder a class"),
        (["train/images", "val/images"], "set/train has images of 1 classes: images", "one sub-folder a class"),
        (_parts("test", "val"), "has test, val and no training part", "--dataset '"),
        (_parts("Train", "training"), "Train and training may both be the train part", "take one"),
        (_parts("train", "val", "test", "holdout"), "holdout may be a part beside val and test", "take one"),
        (["cat", "dog", "test"], "set/test is called like a part, and cat, dog beside it like classes", "rename test"),
        (["train/Cat", "train/Dog", "test/cat"], "test has the class cat, which no", "/test/cat' '"),
        (["train/a", "train/b", "test/a", "test/z"], "test has the class z, which no", "training has a, b"),
        (["caf\u00e9", "cafe\u0301"], "two folders", "ls -b"),
        (["cat", "cat "], "are called 'cat'", "ls -b"),
    ],
)
def test_folders_that_can_be_read_in_two_ways_are_refused(
    tmp_path: Path, paths: list[str], what: str, mend: str
) -> None:
    error = _refused(_folders(tmp_path / "set", paths))
    assert what in error.what
    assert mend in error.mend


@pytest.mark.parametrize(
    ("paths", "names", "notes"),
    [
        (["bus", "car", "train"], ("bus", "car", "train"), []),
        (["valid", "invalid"], ("invalid", "valid"), []),
        (_parts(*"abc", classes="e").__class__(f"{name}/images" for name in "abc"), ("a", "b", "c"), []),
        (["animal/cat", "animal/dog", "vehicle/car", "vehicle/bus"], ("animal", "vehicle"),
         ["the images of cat, dog are all of the class animal; so it is with 2 folders"]),
        (["Cat", "cat"], ("Cat", "cat"), ["Cat and cat are two classes: their names differ by capital letters only"]),
        ([*_parts("train", "test", classes="ab"), "extra/q"], ("a", "b"),
         ["6 images of extra/ not read: they are in no part"]),
        ([*_parts("d/Training", "d/Testing", classes="ab"), "sample"], ("a", "b"),
         ["6 images of sample/ not read: they are in no part", "classes are looked for in d/"]),
        ([*_parts("train", classes="ab"), "test"], ("a", "b"), ["6 images of test/ not read: in no folder of a class"]),
    ],
)  # fmt: skip
def test_what_is_guessed_or_left_out_is_told_once(
    tmp_path: Path, paths: list[str], names: tuple[str, ...], notes: list[str]
) -> None:
    data = load_dataset(str(_folders(tmp_path / "set", paths)))
    assert data.class_names == names
    assert [note for note in data.notes if " no image in the " not in note] == notes


@pytest.mark.parametrize(
    "junk", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "__pycache__", ".git"]
)
def test_what_systems_leave_behind_is_no_class_and_no_image(tmp_path: Path, junk: str) -> None:
    root = _folders(tmp_path / "set", ["a", "b", junk, f"a/{junk}", f"{junk}/a", f"b/{junk}/b"][:4])
    for name in ("._0.png", ".hidden.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / "a" / name).write_bytes(_png())
    data = load_dataset(str(root))
    assert (data.class_names, _sizes(data), data.notes) == (("a", "b"), [8, 2, 2], ())


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    root = _folders(tmp_path / "set", ["ball", "cube", "disc"], 4)
    for file in (root / "disc").iterdir():
        file.rename(file.with_suffix(".HEIC"))
    error = _refused(root)
    assert error.what == "4 files of disc/ were not read: .heic; there is no other image of that class"
    assert "magick mogrify" in error.mend
    (root / "disc" / "5.png").write_bytes(_png())
    assert "4 files of disc/ were not read: .heic" in load_dataset(str(root)).notes


def test_files_that_are_no_images_are_told_with_counts(tmp_path: Path) -> None:
    root = _folders(tmp_path / "set", ["train/a", "train/b"])
    for path in ("a/1.heic", "a/2.heic", "b/3.mov", "b/0007", "b/notes.txt", "b/README", "b/x.json"):
        (root / "train" / path).write_bytes(b"?")
    assert load_dataset(str(root)).notes == ("4 files of 2 folders were not read: .heic (2), no ending (1), .mov (1)",)


def test_files_without_an_ending_are_said_where_they_leave_one_class(tmp_path: Path) -> None:
    root = _folders(tmp_path / "set", ["a", "b"])
    for file in (root / "b").iterdir():
        file.rename(file.with_suffix(""))
    assert _refused(root).what.endswith("has images of 1 classes: a; 6 files of b/ were not read: no ending")


def test_every_ending_that_pillow_reads_is_one_of_images(tmp_path: Path) -> None:
    root = _folders(tmp_path / "set", ["a", "b"], 0)
    endings = "jfif jpe JPEG pjpeg jpg PNG apng webp bmp dib gif tif TIFF ppm pgm tga jp2 ico"
    for number, ending in enumerate(endings.split()):
        (root / "ab"[number % 2] / f"x.{ending}").write_bytes(_png())  # which says itself what it is
    data = load_dataset(str(root))
    assert (sum(_sizes(data)), [note for note in data.notes if "read" in note]) == (18, [])


def test_images_beside_classes_and_folders_without_images_are_told(tmp_path: Path) -> None:
    root = _folders(tmp_path / "set", ["a", "b"])
    (root / "empty").mkdir()
    (root / "all.png").write_bytes(_png())
    assert load_dataset(str(root)).notes == (
        "1 image not read, in no folder of a class: all.png",
        "no image, and so no class: empty",
    )


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    _folders(tmp_path / "else", ["c"])
    root = _folders(tmp_path / "set", ["a", "b"])
    (root / "c").symlink_to(tmp_path / "else" / "c")
    (root / "a" / "more").symlink_to(tmp_path / "else")
    (root / "a" / "again").symlink_to(root / "a")
    (root / "b" / "up").symlink_to("../..")
    data = load_dataset(str(root))
    assert data.class_names == ("a", "b", "c")
    assert sum(_sizes(data)) == 24
    assert [note for note in data.notes if "several classes" in note] == [
        "6 images in several classes, the same bytes: a/more/c/0.png, c/0.png"
    ]


@pytest.mark.parametrize("target", ["/nowhere/x.png", "x.png"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, target: str) -> None:
    root = _folders(tmp_path / "set", ["a", "b"])
    (root / "a" / "x.png").symlink_to(target)
    error = _refused(root)
    assert error.what == f"{root}/a/x.png is a link that leads nowhere"
    assert error.mend == f"rm '{root}/a/x.png'"


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scan = _folders(tmp_path / "set", ["a", "b"]), os.scandir

    def denied(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("os.scandir", denied)  # root may read everything
    error = _refused(root)
    assert error.what == f"{root}/b may not be read"
    assert error.mend == f"chmod -R u+rX '{root}/b'"


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    root = _folders(tmp_path / "set", ["a", "b"])
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    assert _refused(root).what == "the name of the folder 'caf\\udce9' is not UTF-8"


@pytest.mark.parametrize("parts", [True, False])
def test_copies_are_told(tmp_path: Path, parts: bool) -> None:
    root = _folders(tmp_path / "set", _parts("train", "test", classes="ab") if parts else ["a", "b"])
    a, other = (root / "train" / "a", root / "test" / "a") if parts else (root / "a", root / "a")
    (other / "7.png").write_bytes((a / "0.png").read_bytes())
    (other / "8.png").write_bytes((a / "1.png").read_bytes())
    (a / "9.png").write_bytes(_png()[::-1])  # of the same size, and not the same
    (a / "9.png").write_bytes(_png())
    told = load_dataset(str(root)).notes
    assert tuple(note for note in told if "bytes" in note) == (
        ("2 images of another part with the bytes of a training image: test/a/7.png, test/a/8.png",)
        if parts
        else ("2 copies of other images, the same bytes: a/0.png, a/7.png",)
    )


def test_a_class_of_a_single_image_is_told(tmp_path: Path) -> None:
    root = _folders(tmp_path / "set", ["a", "b"], 12)
    _folders(root, ["rare"], 1)
    for seed in range(5):
        data = load_dataset(str(root), seed=seed)
        parts = {"training": data.train, "validation": data.valid, "test": data.test}
        lacking = [part for part, images in parts.items() if 2 not in images.y]
        assert len(lacking) == 2
        assert data.notes == tuple(f"1 class has no image in the {part} part: rare (1 in all)" for part in lacking)


def test_a_class_that_the_test_part_lacks_is_told(tmp_path: Path) -> None:
    data = load_dataset(
        str(_folders(tmp_path / "set", [*_parts("train", classes="abc"), *_parts("test", classes="ab")], 9))
    )
    assert data.notes == ("1 class has no image in the test part: c (9 in all)",)
