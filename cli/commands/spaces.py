"""``unas-hw spaces``."""

from __future__ import annotations

from typing import Any

import click

from ..terminal import emit, json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """The search spaces, their decisions and how many networks they hold."""
    from unas_hw.spaces import SPACES, find_space

    found: list[dict[str, Any]] = [
        {
            "name": name,
            "summary": listing.summary,
            "size": space.size,
            "input_shape": list(space.input_shape),
            "classes": space.classes,
            "decisions": [{"name": each.name, "choices": list(each.choices)} for each in space.decisions],
        }
        for name, listing in SPACES.items()
        for space in [find_space(name)]
    ]
    lines = "\n".join(
        f"{each['name']:<14} {len(each['decisions'])} decisions, {each['size']:.2g} networks: {each['summary']}"
        for each in found
    )
    emit(found, as_json, lines)
