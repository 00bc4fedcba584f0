"""Augmentations do to each image what they say, follow from the generator, and know what black and the mean are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unas_hw.data import Augmentation, Dataset, Form, load_dataset
from unas_hw.data.augment import STEPS
from unas_hw.errors import AugmentationError

FORM = Form(None, torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1))


def _apply(text: str, images: Tensor, form: Form | None = None, seed: int = 0) -> Tensor:
    return Augmentation.parse(text)(images, torch.Generator().manual_seed(seed), form)


def _pixels(count: int = 64, size: int = 8) -> Tensor:
    return torch.rand(count, 3, size, size)


@pytest.mark.parametrize("text", ["none", "crop4", "flip", "cutout16", "resizedcrop0.08", "jitter0.4", "shift0.07"])
def test_every_step_keeps_the_shape_and_follows_from_the_generator(text: str) -> None:
    images = FORM(_pixels(16, 24))
    before = images.clone()
    first, same, other = (_apply(text, images, FORM, seed) for seed in (1, 1, 2))
    assert first.shape == images.shape
    assert first.isfinite().all()
    assert torch.equal(first, same)
    assert torch.equal(images, before)
    assert torch.equal(first, other) is (text == "none")
    assert str(Augmentation.parse(text)) == text


def test_a_crop_moves_each_image_on_its_own_and_black_comes_in() -> None:
    pixels = 0.1 + _pixels(200)
    seen = _apply("crop2", FORM(pixels), FORM) * FORM.std + FORM.mean
    framed = torch.nn.functional.pad(pixels, (2,) * 4)
    places = []
    for image, frame in zip(seen, framed, strict=True):
        found = [(top, left) for top in range(5) for left in range(5)
                 if torch.allclose(image, frame[:, top : top + 8, left : left + 8], atol=1e-5)]  # fmt: skip
        assert len(found) == 1
        places += found
    assert set(places) == {(top, left) for top in range(5) for left in range(5)}


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    images = _pixels(400)
    seen = _apply("flip", images)
    mirrored = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(seen, images, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(seen, images, strict=True)])
    assert bool((mirrored ^ kept).all())
    assert 150 < int(mirrored.sum()) < 250


def test_a_cutout_is_a_square_of_the_mean_that_may_stick_out() -> None:
    images = FORM(_pixels(500, 12))
    seen = _apply("cutout4", images, FORM)
    hole = (seen == 0).all(1)
    assert torch.equal(torch.where(hole[:, None], images, seen), images)
    for image in hole:
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        assert int(image.sum()) == len(rows) * len(columns)
        assert int(rows[-1] - rows[0] + 1) == len(rows)
    # A hole's middle may be any pixel, so each side is 2 to 4 pixels long, and every pixel is hit.
    assert {len(image.any(1).nonzero()) for image in hole} == {2, 3, 4}
    assert bool(hole.any(0).all())


def test_a_resized_crop_shows_a_part_of_each_image_in_its_size() -> None:
    size = 64
    rows, columns = torch.meshgrid(torch.arange(size) / 1.0, torch.arange(size) / 1.0, indexing="ij")
    images = torch.stack([rows, columns, rows * 0]).expand(500, 3, size, size)
    seen = _apply("resizedcrop", images)
    assert bool((seen[:, 2] == 0).all())
    height, width = ((seen[:, axis].amax((1, 2)) - seen[:, axis].amin((1, 2)) + 1) / size for axis in (0, 1))
    area, ratio = height * width, width / height
    assert float(area.min()) > 0.07
    assert float(area.max()) <= 1.0
    assert 0.4 < float(area.mean()) < 0.6  # 0.54 by the formula, less what is drawn again
    assert 0.7 < float(ratio.min()) < 0.85
    assert 1.2 < float(ratio.max()) < 1.4
    middle = seen[:, 1].mean((1, 2))
    assert float(middle.min()) < 20
    assert float(middle.max()) > 44  # from one side to the other


def test_an_image_of_which_no_part_fits_stays_as_it_is() -> None:
    images = _pixels(8, 16)
    torch.testing.assert_close(_apply("resizedcrop1", images), images)


def test_jitter_keeps_pixels_in_range_whatever_was_done_to_them() -> None:
    pixels = _pixels()
    seen = _apply("jitter0.4", pixels)
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1
    assert float((seen - pixels).abs().amax((1, 2, 3)).min()) > 0.001
    torch.testing.assert_close(_apply("jitter0.4", FORM(pixels), FORM), FORM(seen), atol=1e-4, rtol=1e-4)


def test_jitter_changes_brightness_contrast_and_saturation_of_each_image_by_other_factors() -> None:
    grey = torch.full((300, 3, 4, 4), 0.5)
    seen = _apply("jitter0.4", grey)  # whose contrast and saturation are none
    levels = seen[:, 0, 0, 0]
    torch.testing.assert_close(seen, levels.view(-1, 1, 1, 1).expand_as(seen))
    assert float(levels.min()) == pytest.approx(0.3, abs=0.01)
    assert float(levels.max()) == pytest.approx(0.7, abs=0.01)
    coloured = torch.tensor([0.6, 0.4, 0.4]).view(3, 1, 1).expand(300, 3, 4, 4)
    change = _apply("jitter0.4", coloured)
    spread = (change[:, 0] - change[:, 1]) / change.mean(1)
    assert float(spread.max() / spread.min()) > 2


def test_a_shift_moves_the_whole_batch_and_repeats_the_rim() -> None:
    images = _pixels(8)
    framed = torch.nn.functional.pad(images, (1,) * 4, mode="replicate")
    places = set()
    for seed in range(40):
        seen = _apply("shift0.07", images, seed=seed)
        found = [(top, left) for top in range(3) for left in range(3)
                 if torch.equal(seen, framed[..., top : top + 8, left : left + 8])]  # fmt: skip
        assert len(found) == 1
        places |= set(found)
    assert len(places) == 9


def test_steps_come_one_after_the_other() -> None:
    images = FORM(_pixels(32, 16))
    generator = torch.Generator().manual_seed(7)
    wanted = images
    for text in ("crop2", "flip", "cutout4"):
        wanted = Augmentation.parse(text)(wanted, generator, FORM)
    assert torch.equal(_apply("crop2, flip, cutout4", images, FORM, 7), wanted)


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("crop4,flipp", "'flipp' is no augmentation", "did you mean flip?"),
        ("swirl", "'swirl' is no augmentation", ", ".join(STEPS)),
        ("", "'' is no augmentation", ", ".join(STEPS)),
        ("crop4.5", "crop cannot be 'crop4.5'", "crop takes pixels, a whole number"),
        ("flip2", "flip cannot be 'flip2'", "flip takes no number"),
        ("jitter3", "jitter cannot be 'jitter3'", "jitter takes a share from 0 to 1"),
        ("crop-1", "'crop-1' is no augmentation", "did you mean crop?"),
    ],
)
def test_what_is_no_augmentation_is_refused_with_what_is(text: str, what: str, mend: str) -> None:
    with pytest.raises(AugmentationError) as caught:
        Augmentation.parse(text)
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_characters_are_not_mirrored(data: Dataset, tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", images=np.zeros((40, 8, 8), np.uint8), labels=np.arange(40) % 2)
    kinds = [
        Augmentation.parse(each.augmentation)
        for each in (data, load_dataset("digits"), load_dataset(f"{tmp_path}/some.npz"))
    ]
    assert [str(kind) for kind in kinds] == ["shift0.07"] * 3
