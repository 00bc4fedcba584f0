"""A folder of images: one sub-folder a class, in parts or not. ImageNet is one.

``PATH/CLASS/*.jpg``, or ``PATH/train/CLASS/*.jpg`` beside ``val`` and ``test``. Where only one of these two is there
it is the test part, as the 50,000 validation images of ImageNet are what accuracies are published for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import torch

from profilers.files import explained
from unas_hw.data.dataset import Source
from unas_hw.data.decode import Encoded, kept, states, survey
from unas_hw.data.layout import arranged
from unas_hw.data.pixels import Pixels
from unas_hw.data.tree import count_of, is_left_behind, read_tree, shown

LARGE = 96
"""Pixels from which on images are taken for photographs."""
COMPARED_BYTES = 100_000_000
"""Of files of the same size that are compared at most, to find copies."""


def recognises(path: Path) -> bool:
    """Whether the path is a folder of folders."""
    return path.is_dir() and any(each.is_dir() and not is_left_behind(each.name) for each in path.iterdir())


def read(path: Path, image_size: int | None, cache_bytes: int) -> Source:
    """The images of the folder, decoded once if they have at most ``cache_bytes`` then.

    Raises:
        DataError: If folders do not say what is a part and what a class, or an image cannot be read.
    """
    layout = arranged(read_tree(path))
    trains, valids, tests = layout.train, layout.valid, layout.test
    if valids and not tests:
        valids, tests = {}, valids
    parts = [[(file, label) for label, name in enumerate(trains) if name in part for file in part[name].all_images()]
             for part in (trains, valids, tests)]  # fmt: skip
    files, labels = zip(*(each for part in parts for each in part), strict=True)
    counts = (len(parts[0]), len(parts[1]), len(parts[2]))

    def stored(number: int) -> Path:
        return Path(files[number])

    name = str(path)
    found = survey(name, len(files), stored)
    size = image_size or found.size
    encoded = Encoded(name, len(files), stored, found.channels, size, found.ground)
    copies: Iterator[str] = iter(())
    pixels: Pixels = encoded
    with explained(path):
        if encoded.nbytes <= cache_bytes:  # or a million files would be asked for their dates in vain
            known = states(files)
            pixels, copies = kept(encoded, known), _copies(known, labels, counts, name)
    return Source(
        pixels,
        torch.tensor(labels),
        counts,
        tuple(trains),
        path,
        augmentation=usual_augmentation(size),
        notes=(*layout.notes, *found.notes, *copies),
    )


def usual_augmentation(size: int) -> str:
    """Of photographs, and of the small images that papers like CIFAR's have."""
    return "resizedcrop,flip,jitter" if size >= LARGE else f"crop{max(1, size // 8)},flip"


def _copies(
    files: Sequence[tuple[str, int, int]], labels: Sequence[int], counts: Sequence[int], root: str
) -> Iterator[str]:
    """What is to be told of files with the same bytes, as far as they are few enough to be compared."""
    sizes = defaultdict[int, list[int]](list)
    for number, (_, size, _) in enumerate(files):
        sizes[size].append(number)
    alike = [numbers for numbers in sizes.values() if len(numbers) > 1]
    if sum(files[number][1] for numbers in alike for number in numbers) > COMPARED_BYTES:
        return
    groups = defaultdict[bytes, list[int]](list)
    for number in (number for numbers in alike for number in numbers):
        groups[blake2b(Path(files[number][0]).read_bytes()).digest()].append(number)
    same = [numbers for numbers in groups.values() if len(numbers) > 1]

    def few(numbers: Sequence[int]) -> str:
        return shown((files[number][0] for number in numbers), root)

    twice = [numbers for numbers in same if len({labels[number] for number in numbers}) > 1]
    if twice:
        yield f"{count_of(len(twice), 'image')} in several classes, the same bytes: {few(twice[0])}"
    across = [number for numbers in same if numbers[0] < counts[0] for number in numbers if number >= counts[0]]
    if across:
        yield (f"{count_of(len(across), 'image')} of another part with the bytes of a training image: {few(across)}")
    elif more := [numbers for numbers in same if numbers not in twice]:
        yield f"{sum(map(len, more)) - len(more)} copies of other images, the same bytes: {few(more[0])}"
