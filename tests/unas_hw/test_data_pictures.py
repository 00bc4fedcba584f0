"""Pictures become the bytes that they show: of any depth, upright, with one colour behind what is transparent; what
cannot be known is refused by the file's name.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from unas_hw.data import Dataset, decode, load_dataset
from unas_hw.errors import DataError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RAMP = np.linspace(0, 1, 64).reshape(8, 8)
Save = Callable[[Path, int], None]


def _saved(root: Path, save: Save, suffix: str = "png", count: int = 6) -> Path:
    for number in range(2 * count):
        path = root / "ab"[number % 2] / f"{number:03}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, number)
    return root


def _pixels(data: Dataset) -> npt.NDArray[np.uint8]:
    """Of the first image, ``(C, H, W)``."""
    pixels: npt.NDArray[np.uint8] = data.train.pixels.read(torch.arange(1))[0].numpy()
    return pixels


def _told(data: Dataset) -> list[str]:
    """But that images here are often the same."""
    return [note for note in data.notes if "same bytes" not in note]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(path: Path, width: int, height: int, depth: int, colours: int, rows: bytes) -> None:
    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    chunks = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def _deep(top: float) -> Save:
    return lambda path, number: Image.fromarray((RAMP * top).round().astype(np.uint16)).save(path)


def _deep_colour(path: Path, number: int) -> None:
    values = np.repeat((RAMP * 65535).round().astype(">u2")[..., None], 3, -1)
    _png(path, 8, 8, 16, 2, b"".join(b"\0" + row.tobytes() for row in values))


@pytest.mark.parametrize(("suffix", "channels"), [("png", 1), ("tif", 1), ("pgm", 1), ("png", 3)])
def test_sixteen_bits_are_scaled_to_eight_and_told(tmp_path: Path, suffix: str, channels: int) -> None:
    save = _deep(65535) if channels == 1 else _deep_colour
    data = load_dataset(str(_saved(tmp_path / "deep", save, suffix)))
    assert data.image_shape == (channels, 8, 8)
    assert np.abs(_pixels(data) - (RAMP * 255)[None]).max() <= 1
    assert _told(data) == ["12 of the 12 images looked at have 16 bits a value: 8 are kept"]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_twelve_bits_that_are_stored_as_sixteen_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match="16 bits a value whose brightest is 16 of 255 in the 8 bits") as caught:
        load_dataset(str(_saved(tmp_path / "deep", _deep(4095), suffix)))
    assert "multiply" in caught.value.mend


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_of_which_no_file_says_what_is_white_are_refused(tmp_path: Path, dtype: Any) -> None:
    root = _saved(tmp_path / "wide", lambda path, _: Image.fromarray((RAMP * 100).astype(dtype)).save(path), "tif")
    with pytest.raises(DataError, match=r"000\.tif is a TIFF of 32 bits a value, and nothing says") as caught:
        load_dataset(str(root))
    assert "8 or 16 bits" in caught.value.mend


def _glyph(ink: int, mode: str) -> Save:
    """A square that only the alpha shows: all pixels have the same colour."""

    def save(path: Path, number: int) -> None:
        pixels = np.full((8, 8, 4), ink, np.uint8)
        pixels[..., 3] = 0
        pixels[2:6, 2:6, 3] = 255
        Image.fromarray(pixels).convert(mode).save(path)

    return save


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (255, 0), (40, 255)])
@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("LA", "png"), ("RGBA", "webp"), ("RGBA", "tif")])
def test_a_picture_that_only_alpha_shows_is_seen(tmp_path: Path, ink: int, ground: int, mode: str, suffix: str) -> None:
    data = load_dataset(str(_saved(tmp_path / "glyphs", _glyph(ink, mode), suffix)))
    pixels = _pixels(data)
    assert abs(int(pixels[0, 0, 0]) - ground) <= 2
    assert abs(int(pixels[0, 4, 4]) - ink) <= 2
    assert _told(data) == [f"12 of the 12 images looked at are transparent: laid over {'white' if ground else 'black'}"]


def test_transparent_pictures_in_colour_keep_it(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[2:6, 2:6] = (200, 20, 20, 255 if number else 128)
        Image.fromarray(pixels).save(path)

    data = load_dataset(str(_saved(tmp_path / "colour", save)))
    assert _pixels(data)[:, 0, 0].tolist() == [255, 255, 255]
    assert np.abs(_pixels(data)[:, 4, 4] - np.array([227, 137, 137])).max() <= 1  # half of it shines through


def test_a_transparent_colour_of_a_palette_is_laid_over_white(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        picture = Image.fromarray(np.where(RAMP > 0.5, 1, 0).astype(np.uint8))
        picture.putpalette([0, 0, 0, 10, 20, 30])
        picture.save(path, transparency=0)

    pixels = _pixels(load_dataset(str(_saved(tmp_path / "palette", save))))
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 7, 7].tolist() == [10, 20, 30]


def test_alpha_that_hides_nothing_is_not_told(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 4)).astype(np.uint8)
    pixels[..., 3] = 255
    data = load_dataset(str(_saved(tmp_path / "solid", lambda path, n: Image.fromarray(pixels[n]).save(path))))
    np.testing.assert_array_equal(_pixels(data), pixels[0, ..., :3].transpose(2, 0, 1))
    assert data.notes == ()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize(("orientation", "turned"), [(3, (1, 1)), (6, (0, 1)), (8, (1, 0))])
def test_pictures_stand_upright(tmp_path: Path, suffix: str, orientation: int, turned: tuple[int, int]) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8, :8] = 250  # the upper left corner, which EXIF says is another

    def save(path: Path, number: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(path, exif=exif, quality=100)

    seen = _pixels(load_dataset(str(_saved(tmp_path / "turned", save, suffix))))[0]
    bright = {(y, x): int(seen[4 + 8 * y, 4 + 8 * x]) for y in (0, 1) for x in (0, 1)}
    assert max(bright, key=lambda corner: bright[corner]) == turned
    assert sorted(bright.values())[-2] < 30


def test_exif_that_cannot_be_read_turns_nothing(tmp_path: Path) -> None:
    picture = Image.fromarray((RAMP * 255).astype(np.uint8))
    root = _saved(
        tmp_path / "odd", lambda path, _: picture.save(path, exif=b"Exif\0\0no exif at all", quality=100), "jpg"
    )
    assert np.abs(_pixels(load_dataset(str(root)))[0].astype(int) - RAMP * 255).max() < 4


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [
        ("1", "png", 1), ("1", "tif", 1), ("L", "bmp", 1), ("P", "png", 3), ("P", "gif", 3), ("CMYK", "jpg", 3),
        ("CMYK", "tif", 3), ("YCbCr", "jpg", 3), ("RGB", "tga", 3), ("RGB", "jp2", 3), ("RGB", "ppm", 3),
    ],
)  # fmt: skip
def test_pictures_of_every_mode_show_what_they_show(tmp_path: Path, mode: str, suffix: str, channels: int) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[4:] = 255
    picture = Image.fromarray(pixels).convert(mode)
    seen = _pixels(load_dataset(str(_saved(tmp_path / "modes", lambda path, _: picture.save(path), suffix))))
    assert seen.shape == (channels, 8, 8)
    assert int(seen[:, :3].max()) < 40
    assert int(seen[:, 5:].min()) > 215


@pytest.mark.parametrize("suffix", ["gif", "png", "tif"])
def test_of_several_pictures_the_first_is_read_and_that_is_told(tmp_path: Path, suffix: str) -> None:
    def save(path: Path, number: int) -> None:
        frames = [Image.fromarray(np.full((8, 8, 3), value + number, np.uint8)) for value in (50, 150, 200)]
        frames[0].save(path, save_all=True, append_images=frames[1:])

    data = load_dataset(str(_saved(tmp_path / "films", save, suffix)))
    assert abs(int(_pixels(data).mean()) - 50) <= 3
    assert data.notes == ("12 of the 12 images looked at have more pictures than one: the first is read",)


def test_a_picture_that_is_too_large_is_refused_by_its_name(tmp_path: Path) -> None:
    root = _saved(tmp_path / "maps", lambda path, n: _png(path, 4, 4, 8, 0, (b"\0" + bytes([n] * 4)) * 4))
    _png(root / "a" / "000.png", 20_000, 20_000, 8, 2, b"\0" * 100)
    with pytest.raises(DataError, match=r"a/000\.png has 20,000 x 20,000 pixels, more than the 134,217,728") as caught:
        load_dataset(str(root))
    assert "-resize 4096x4096" in caught.value.mend


def test_a_large_jpeg_is_decoded_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 64 * 64)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 64)  # which Pillow refuses twice of
    picture = Image.fromarray(np.kron(RAMP * 255, np.ones((32, 32))).astype(np.uint8))
    root = _saved(tmp_path / "maps", lambda path, _: picture.save(path, quality=95), "jpg")
    seen = _pixels(load_dataset(str(root), image_size=8))[0]
    assert np.abs(seen.astype(int) - RAMP * 255).max() < 12
    assert Image.MAX_IMAGE_PIXELS == 64
    with pytest.raises(DataError, match="256 x 256 pixels, more than"):
        load_dataset(str(root), image_size=256)


def test_colour_among_grey_images_is_refused_and_grey_in_colour_is_not(tmp_path: Path) -> None:
    root = _saved(tmp_path / "grey", lambda path, n: Image.fromarray(np.full((4, 4), n, np.uint8)).save(path), count=60)
    unseen = (set(range(120)) - set(np.linspace(0, 119, decode.SURVEYED).astype(int).tolist())).pop()
    file = sorted(root.glob("*/*.png"))[unseen]
    Image.fromarray(np.full((4, 4, 3), 77, np.uint8)).save(file)
    assert load_dataset(str(root)).image_shape == (1, 4, 4)
    Image.fromarray(np.full((4, 4, 3), (200, 10, 10), np.uint8)).save(file)
    with pytest.raises(DataError, match=rf"{file} is in colour, and the images that were looked at first are grey"):
        load_dataset(str(root))


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "it is empty"), (b"<html>404</html>", "it begins with b'<html>404</h'"), (b"\x89PNG\r\n\x1a\n", "")],
)
def test_a_file_that_is_no_picture_is_refused_by_its_name(tmp_path: Path, content: bytes, what: str) -> None:
    root = _saved(tmp_path / "some", _deep_colour)
    (root / "b" / "003.png").write_bytes(content)
    with pytest.raises(DataError, match=r"b/003\.png cannot be decoded") as caught:
        load_dataset(str(root))
    assert what in caught.value.what


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    root = _saved(tmp_path / "some", _deep_colour)
    (root / "b" / "003.png").unlink()
    (root / "b" / "003.png").mkdir()  # a folder: nothing to be decoded, and no image of the class
    assert "no image, and so" not in " ".join(load_dataset(str(root)).notes)
    with pytest.raises(DataError, match=r"gone\.png cannot be read: no such file or directory"):
        decode.survey("some", 1, lambda number: root / "gone.png")
