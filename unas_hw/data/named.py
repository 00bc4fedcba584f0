"""Where the data sets that everyone knows by name lie: in the folder that ``UNAS_HW_DATA`` names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from unas_hw.errors import DataError

VARIABLE = "UNAS_HW_DATA"


@dataclass(frozen=True)
class Named:
    """One of them: files and folders as they are published, of which one called like the data set is looked into first,
    what to put there, its name on the hub, and what it is usually trained with, as its form suggests by default.
    """

    places: tuple[str, ...]
    fetch: str
    hub: str
    augmentation: str | None = None


_IDX = "its four idx files"
NAMED = {
    "cifar10": Named(("cifar-10-batches-bin", "cifar-10-binary.tar.gz"), "cifar-10-binary.tar.gz", "uoft-cs/cifar10"),
    "cifar100": Named(("cifar-100-binary", "cifar-100-binary.tar.gz"), "cifar-100-binary.tar.gz", "uoft-cs/cifar100"),
    "fashion-mnist": Named(
        ("FashionMNIST/raw", "FashionMNIST"), _IDX, "zalando-datasets/fashion_mnist", augmentation="crop4,flip"
    ),
    "mnist": Named(("MNIST/raw", "MNIST"), _IDX, "ylecun/mnist"),
    "imagenet": Named(
        ("ILSVRC/Data/CLS-LOC", "ILSVRC2012", "imagenet-1k"), "train/ and val/ with one folder a class",
        "ILSVRC/imagenet-1k",
    ),
}  # fmt: skip


def find(name: str) -> Path:
    """The file or folder of a data set; raises ``DataError`` that says where it was looked for."""
    named = NAMED[name]
    mend = f"or --dataset hf://{named.hub} (pip install 'unas-hw[data]')"
    given = os.environ.get(VARIABLE)
    if not given:
        raise DataError(
            f"{name} is looked for in the folder of {VARIABLE}, which is not set",
            mend=f"put {named.fetch} into FOLDER/{name} and export {VARIABLE}=FOLDER; {mend}",
        )
    root = Path(os.path.expanduser(given))
    places = [*(root / name / place for place in named.places), root / name, *(root / place for place in named.places)]
    for place in places:
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            return place
    looked = ", ".join([name, *named.places])
    raise DataError(
        f"{name} is not in {root} ({VARIABLE}): looked for {looked}",
        mend=f"put {named.fetch} into {root / name}; {mend}",
    )
