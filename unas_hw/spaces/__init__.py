"""Search spaces by name: built in, with options, or the user's own in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from profilers.errors import did_you_mean
from unas_hw.errors import UnknownSpaceError
from unas_hw.spaces.options import Number, Option, Whole, Word, read_options
from unas_hw.tasks import is_task

if TYPE_CHECKING:
    from unas_hw.space import SearchSpace

SMALL_IMAGES = 64
"""Up to so many pixels the default space is the small one."""
FILES = (".yaml", ".yml", ".py")
"""A name that ends so is the path of the user's own space."""
SUBSET = "subset:"
"""A name that begins so is of the networks that are in one of the user's own."""


@dataclass(frozen=True)
class Images:
    """What a space is for when nobody says otherwise, and the fewest pixels it takes."""

    shape: tuple[int, int, int]
    classes: int
    smallest: int


@dataclass(frozen=True)
class Listing:
    """One line of the catalogue.

    Attributes:
        summary: In half a line.
        images: That it is made for.
        target: ``module:name`` of what builds it, called as ``build(name, image_size=, channels=, classes=, batch=,
            precision=, **options)``.
        options: What can be added to the name, by key.
        stems: Images for the values of the option ``stem`` that are made for others.
    """

    summary: str
    images: Images
    target: str
    options: Mapping[str, Option] = field(default_factory=dict)
    stems: Mapping[str, Images] = field(default_factory=dict)


_IMAGENET = Images((3, 224, 224), 1000, 32)
_CIFAR = Images((3, 32, 32), 10, 8)
_MBCONV = {"width": Number(1.0, 0.1, 8), "stem": Word("imagenet", ("imagenet", "cifar"))}
_NB201 = {"width": Whole(16, 1, 1024), "cells": Whole(5, 1, 100)}
_IMPALA = {
    "depths": Word("auto", ("auto", "small", "reduced", "full")),
    "ops": Word("micro", ("micro", "classic")),
}
_DARTS = {
    "width": Whole(16, 2, 1024),
    "layers": Whole(8, 3, 100),
    "stem": Word("auto", ("auto", "cifar", "imagenet")),
    "ops": Word("7", ("7", "5", "darts", "all")),
}

SPACES: Mapping[str, Listing] = MappingProxyType(
    {
        "mbconv": Listing(
            "ProxylessNAS space as in UNAS: 21 inverted residuals", _IMAGENET, "mbconv:full", _MBCONV, {"cifar": _CIFAR}
        ),
        "mbconv-mobile": Listing(
            "ProxylessNAS for phones, as published tables have it", _IMAGENET, "mbconv:mobile", _MBCONV,
            {"cifar": _CIFAR},
        ),
        "mbconv-small": Listing(
            "the same family for 8 to 64 pixels: 9 inverted residuals", Images((1, 8, 8), 10, 8), "mbconv:small",
            _MBCONV, {"cifar": _CIFAR},
        ),
        "darts": Listing(
            "DARTS space as in UNAS: a normal and a reducing cell, 32 decisions", _CIFAR, "darts:DartsSpace", _DARTS,
            {"imagenet": _IMAGENET},
        ),
        "nas_bench_201": Listing(
            "NAS-Bench-201: a cell of six edges, 15,625 networks", _CIFAR, "nas_bench_201:NasBench201", _NB201
        ),
        "impala": Listing(
            "RL-DARTS: policies for tasks that show images, a cell of four nodes", Images((3, 64, 64), 15, 8),
            "impala:ImpalaSpace", _IMPALA,
        ),
    }
)  # fmt: skip


def find_space(
    name: str,
    *,
    image_shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    batch: int = 1,
    precision: str = "float32",
) -> SearchSpace:
    """The space of that name for these images; its own defaults for what is left out.

    Args:
        name: Of ``SPACES``, with options or without: ``mbconv?width=0.75``; or the path of a ``.yaml`` or ``.py`` file,
            which is read or executed (``docs/spaces.md``); or ``subset:`` and what makes a network of the user's own.
        image_shape: ``(C, H, W)``, square.
        classes: Outputs of the networks.
        batch: Images at a time that latencies are for.
        precision: In which networks run, as in ``profilers.precision``.

    Raises:
        UnknownSpaceError: If no space is called that, it does not have such options, or does not take such images.
        SpaceError: If the file describes none, naming the line.
        PruningError: If nothing can be left out of the user's own network.
    """
    if name.startswith(SUBSET):
        subsets = import_module("unas_hw.spaces.subset")
        subset: SearchSpace = subsets.open_subset(
            name.removeprefix(SUBSET), image_shape=image_shape, classes=classes, batch=batch, precision=precision
        )
        return subset
    if is_file(name):
        user_files = import_module("unas_hw.spaces.user_files")
        own: SearchSpace = user_files.open_space(
            Path(name), image_shape=image_shape, classes=classes, batch=batch, precision=precision
        )
        return own
    listing, called, options = _listed(name)
    images = _images(listing, options)
    channels, size, _ = image_shape or images.shape
    if size < images.smallest:
        raise UnknownSpaceError(
            f"{called} needs images of at least {images.smallest} pixels, these have {size}",
            mend=f"add --image-size {images.smallest}",
        )
    module, _, attribute = listing.target.partition(":")
    build: Callable[..., SearchSpace] = getattr(import_module(f"unas_hw.spaces.{module}"), attribute)
    return build(
        called,
        image_size=size,
        channels=channels,
        classes=classes or images.classes,
        batch=batch,
        precision=precision,
        **options,
    )


def is_file(name: str) -> bool:
    """Whether a space's name is the path of the user's own."""
    return name.endswith(FILES) and not name.startswith(SUBSET)


def origin_of(name: str) -> str:
    """The ``origin`` of the space of that name, which is not built; raises ``UnknownSpaceError``."""
    if name.startswith(SUBSET):
        factories = import_module("unas_hw.spaces.factories")
        return f"{SUBSET}{factories.load_factory(name.removeprefix(SUBSET)).origin}"
    return str(Path(name).resolve()) if is_file(name) else _listed(name)[1]


def smallest_image(name: str) -> int:
    """The fewest pixels that the space of that name takes; raises ``UnknownSpaceError``."""
    if is_file(name) or name.startswith(SUBSET):
        return 1
    listing, _, options = _listed(name)
    return _images(listing, options).smallest


def _listed(name: str) -> tuple[Listing, str, dict[str, Any]]:
    """The space's line, its name as files have it, and the values of its options."""
    base, _, text = name.partition("?")
    if is_file(base):
        raise UnknownSpaceError(f"{base} is a file, which takes no options", mend="change the file, or a copy of it")
    if base not in SPACES:
        choose = f"choose one of {', '.join(SPACES)}, or give a .yaml or .py file of your own"
        raise UnknownSpaceError(f"no search space is called {base!r}", mend=did_you_mean(base, SPACES, choose))
    return SPACES[base], *read_options(text, SPACES[base].options, base)


def _images(listing: Listing, options: Mapping[str, Any]) -> Images:
    return listing.stems.get(options.get("stem", ""), listing.images)


def in_precision(space: SearchSpace, precision: str) -> SearchSpace:
    """The same space, run in this precision."""
    if space.precision == precision:
        return space
    batch, channels, size, _ = space.input_shape
    return find_space(
        space.origin, image_shape=(channels, size, size), classes=space.classes, batch=batch, precision=precision
    )


def default_space(image_size: int, dataset: str = "") -> str:
    """The space that suits images of this size; that of policies where the data set is a task."""
    if is_task(dataset):
        return "impala"
    return "mbconv-small" if image_size <= SMALL_IMAGES else "mbconv"
