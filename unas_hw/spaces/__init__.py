"""Search spaces by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from unas_hw.errors import UnknownSpaceError

if TYPE_CHECKING:
    from unas_hw.space import SearchSpace

SMALL_IMAGES = 64
"""Up to so many pixels the default space is the small one."""


@dataclass(frozen=True)
class Listing:
    """One line of the catalogue: what a space is for when nobody says otherwise, and the fewest pixels it takes."""

    summary: str
    image_shape: tuple[int, int, int]
    classes: int
    smallest: int


SPACES: Mapping[str, Listing] = MappingProxyType(
    {
        "mbconv": Listing("ProxylessNAS space as in UNAS: 21 inverted residuals", (3, 224, 224), 1000, 32),
        "mbconv-mobile": Listing("ProxylessNAS for phones, as published tables have it", (3, 224, 224), 1000, 32),
        "mbconv-small": Listing("the same family for 8 to 64 pixels: 9 inverted residuals", (1, 8, 8), 10, 8),
        "nas_bench_201": Listing("NAS-Bench-201: a cell of six edges, 15,625 networks", (3, 32, 32), 10, 8),
    }
)


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
        name: Of ``SPACES``.
        image_shape: ``(C, H, W)``, square.
        classes: Outputs of the networks.
        batch: Images at a time that latencies are for.
        precision: In which networks run, as in ``profilers.precision``.

    Raises:
        UnknownSpaceError: If no space is called that, or it does not take such images.
    """
    if name not in SPACES:
        near = get_close_matches(name, SPACES)
        raise UnknownSpaceError(
            f"no search space is called {name!r}",
            mend=f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(SPACES)}",
        )
    listing = SPACES[name]
    channels, size, _ = image_shape or listing.image_shape
    if size < listing.smallest:
        raise UnknownSpaceError(
            f"{name} needs images of at least {listing.smallest} pixels, these have {size}",
            mend=f"add --image-size {listing.smallest}",
        )
    build: Callable[..., SearchSpace]
    if name == "nas_bench_201":
        build = import_module("unas_hw.spaces.nas_bench_201").NasBench201
    else:
        mbconv = import_module("unas_hw.spaces.mbconv")
        build = partial(mbconv.mbconv, layout=mbconv.find_layout(name, size))
    return build(
        name, image_size=size, channels=channels, classes=classes or listing.classes, batch=batch, precision=precision
    )


def in_precision(space: SearchSpace, precision: str) -> SearchSpace:
    """The same space, run in this precision."""
    batch, channels, size, _ = space.input_shape
    return find_space(
        space.name, image_shape=(channels, size, size), classes=space.classes, batch=batch, precision=precision
    )


def default_space(image_size: int) -> str:
    """The space that suits images of this size."""
    return "mbconv-small" if image_size <= SMALL_IMAGES else "mbconv"
