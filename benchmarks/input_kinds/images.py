"""Images that are not what the folder says: layouts, what lies beside them, forms of pictures, arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.input_kinds.judging import REFUSED, Inputs
from unas_hw.data import load_dataset

SHADES = {"a": 20, "b": 90, "c": 160, "d": 230}
FOUR, COUNT, SIZE, NEAR = tuple(SHADES), 90, 8, 6
"""Classes; images of each; pixels; how near a mean has to be to a shade."""
TRAINS = "train", "Train", "TRAINING", "training_set", "trainset"
TESTS = "test", "Testing", "TEST", "val", "Validation", "valid"
FOLDS = ("fold1", "fold2"), ("images", "more"), ("2023", "2024")
LEFT_BEHIND = (
    ".ipynb_checkpoints/x.png", "__MACOSX/x.png", ".git/x.png", "@eaDir/x.png", "Thumbs.db", ".DS_Store", "desktop.ini",
    "._0.png",
)  # fmt: skip
OTHERS = "x.heic", "x.jpg.part", "x.gif.zip"
DAMAGED = {"zero.png": b"", "torn.jpg": b"\xff\xd8\xff\xe0", "page.png": b"<html>"}
Bytes = npt.NDArray[np.uint8]


def painted(name: str, number: int) -> Image.Image:
    """A picture of one shade but for a pixel."""
    shade = SHADES.get(name, 50)
    pixels = np.full((SIZE, SIZE, 3), shade, np.uint8)
    pixels[number % SIZE, number // SIZE % SIZE] = (shade + number) % 256
    return Image.fromarray(pixels)


def folder_of(parts: Mapping[str, Iterable[str]], top: str = "", save: Any = None, ends: str = ".png") -> str:
    """``parts``: sub-folder to the classes that it has."""
    root = Path(tempfile.mkdtemp(dir="."))
    for part, names in parts.items():
        for name in names:
            place = root / top / part / name
            place.mkdir(parents=True)
            for number in range(COUNT):
                (save or Image.Image.save)(painted(name, number), place / f"{len(part)}-{number}{ends}")
    return str(root)


def layout(parts: Mapping[str, Iterable[str]], top: str = "") -> tuple[tuple[str, ...], int]:
    """Names of the classes, and images of the test part."""
    data = load_dataset(folder_of(parts, top))
    return data.class_names, len(data.test)


def beside(name: str, content: bytes) -> tuple[tuple[str, ...], int, bool]:
    """Classes, images and whether anything is told, of a folder with one more file."""
    root = Path(folder_of({".": FOUR}))
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".png" and not content and "zero" not in name:
        painted("a", 3).save(place)
    else:
        place.write_bytes(content)
    data = load_dataset(str(root))
    return data.class_names, sum(map(len, (data.train, data.valid, data.test))), bool(data.notes)


def shades(save: Callable[[Image.Image, Path], None], ends: str) -> list[float]:
    """Mean value of the images of each class, from 0 to 255."""
    data = load_dataset(folder_of({".": FOUR}, save=save, ends=ends))
    x, y = data.train.x, data.train.y
    pixels = x * data.std.view(1, -1, 1, 1) + data.mean.view(1, -1, 1, 1)
    return [255 * float(pixels[y == label].mean()) for label in range(data.classes)]


def near(found: list[float]) -> bool:
    """Whether they are the shades that were painted."""
    return all(abs(mean - shade) <= NEAR for mean, shade in zip(found, SHADES.values(), strict=True))


def images() -> Inputs:
    """All of them."""
    for train, test in product(TRAINS, TESTS):
        yield f"{train}/ and {test}/", partial(layout, {train: FOUR, test: FOUR}), (FOUR, 4 * COUNT)
    yield "one folder around", partial(layout, {"train": FOUR, "test": FOUR}, "archive"), (FOUR, 4 * COUNT)
    yield "classes alone", partial(layout, {".": FOUR}), lambda found: found[0] == FOUR
    for folds in FOLDS:
        yield f"{' and '.join(folds)}/", partial(layout, dict.fromkeys(folds, FOUR)), REFUSED
    yield "a class of the test part only", partial(layout, {"train": "abc", "test": FOUR}), REFUSED
    for name, place in product(LEFT_BEHIND, ("", "a/")):
        yield f"{place}{name}", partial(beside, place + name, b""), lambda found: found[:2] == (FOUR, 4 * COUNT)
    for name in OTHERS:
        yield f"a/{name}, which is no image", partial(beside, f"a/{name}", b"x"), (FOUR, 4 * COUNT, True)
    for name, content in DAMAGED.items():
        yield f"a/{name}, which is damaged", partial(beside, f"a/{name}", content), REFUSED
    for name, (save, ends) in SAVES.items():
        yield f"pixels of {name}", partial(shades, save, ends), near
    yield "pixels of a float tiff", partial(shades, _float, ".tif"), REFUSED
    yield "alpha that has the picture", partial(shades, _transparent, ".png"), lambda found: len({*found}) == 4
    yield from _arrays()


def _grey(image: Image.Image, form: npt.DTypeLike, factor: int) -> Image.Image:
    return Image.fromarray((np.asarray(image.convert("L"), np.int64) * factor).astype(form))


def _float(image: Image.Image, path: Path) -> None:
    _grey(image, np.float32, 1).save(path)


def _transparent(image: Image.Image, path: Path) -> None:
    Image.merge("LA", (Image.new("L", image.size, 0), image.convert("L"))).save(path)


SAVES: dict[str, tuple[Callable[[Image.Image, Path], None], str]] = {
    "a png": (lambda image, path: image.save(path), ".png"),
    "a PNG": (lambda image, path: image.save(path), ".PNG"),
    "a jpg": (lambda image, path: image.save(path, quality=95), ".jpg"),
    "a JPEG": (lambda image, path: image.save(path, quality=95), ".JPEG"),
    "a jfif": (lambda image, path: image.save(path, format="JPEG", quality=95), ".jfif"),
    "a webp": (lambda image, path: image.save(path, lossless=True), ".webp"),
    "a bmp": (lambda image, path: image.save(path), ".bmp"),
    "a tiff": (lambda image, path: image.save(path), ".tiff"),
    "a gif": (lambda image, path: image.save(path), ".gif"),
    "a jpeg that is called png": (lambda image, path: image.save(path, format="JPEG", quality=95), ".png"),
    "grey": (lambda image, path: image.convert("L").save(path), ".png"),
    "grey of 16 bits": (lambda image, path: _grey(image, np.uint16, 257).save(path), ".png"),
    "a grey tiff of 16 bits": (lambda image, path: _grey(image, np.uint16, 257).save(path), ".tif"),
    "a palette": (lambda image, path: image.convert("P").save(path), ".png"),
    "an opaque alpha": (lambda image, path: image.convert("RGBA").save(path), ".png"),
    "grey and alpha": (lambda image, path: image.convert("LA").save(path), ".png"),
    "cmyk": (lambda image, path: image.convert("CMYK").save(path, quality=95), ".jpg"),
}


def array(images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[int, tuple[int, ...], bool]:
    """Classes, shape of an image, and whether anything is told, of an ``.npz``."""
    np.savez("data.npz", images=images, labels=labels)
    data = load_dataset("data.npz")
    return data.classes, tuple(data.image_shape), bool(data.notes)


def _arrays() -> Inputs:
    x: Bytes = np.random.default_rng(0).integers(0, 256, (400, SIZE, SIZE, 3), np.uint8)
    y = np.arange(400) % 4
    colour = (4, (3, SIZE, SIZE))
    forms: dict[str, npt.NDArray[Any]] = {
        "bytes": x, "channels first": x.transpose(0, 3, 1, 2), "0 to 1": x / 255, "-1 to 1": x / 127.5 - 1,
        "16 bits": x.astype(np.uint16) * 257,
    }  # fmt: skip
    for name, form in forms.items():
        yield f"an npz of {name}", partial(array, form, y), lambda found: found[:2] == colour
    yield "an npz of grey", partial(array, x[..., 0], y), lambda found: found[:2] == (4, (1, SIZE, SIZE))
    for name, labels in {"from 1": y + 1, "with a gap": y * 2}.items():
        yield f"labels {name}", partial(array, x, labels), lambda found: found[0] == 4 or found[2]
    four = {
        "one-hot": np.eye(4)[y],
        "in a column": y[:, None],
        "of floats": y.astype(float),
        "in words": np.array(FOUR)[y],
    }
    for name, labels in four.items():
        yield f"labels {name}", partial(array, x, labels), lambda found: found[0] == 4
    none: dict[str, npt.NDArray[Any]] = {
        "of halves": y + 0.5, "below 0": y - 1, "that are nan": np.where(y == 0, np.nan, y), "of one class": y * 0,
        "too few": y[:-1], "up to a million": np.where(y == 3, 1_000_000, y),
    }  # fmt: skip
    for name, labels in none.items():
        yield f"labels {name}", partial(array, x, labels), REFUSED
    odd: dict[str, npt.NDArray[Any]] = {"nan": np.where(x == 0, np.nan, x), "objects": np.array([None] * 400)}
    for name, form in odd.items():
        yield f"an npz of {name}", partial(array, form, y), REFUSED
    yield "an npz of nothing", partial(array, x[:0], y[:0]), REFUSED
