"""``unas-hw devices``."""

from __future__ import annotations

import click

from ..terminal import emit, json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """What can be profiled from here, and what disturbs timing; then devices that only a published table knows."""
    from latency_tables.published import published_devices
    from profilers.registry import reachable

    published = "a published table: to search for, not to profile"
    found = reachable()
    found += [
        {"device": device, "name": name, "runtimes": [], "missing": published, "warnings": []}
        for device, name in published_devices().items()
    ]
    lines = "\n".join(
        f"{each['device']:<10} {each['name']:<28} {', '.join(each['runtimes']) or each['missing']}" for each in found
    )
    notes = "\n".join(f"note: {note}" for each in found for note in each["warnings"])
    emit(found, as_json, f"{lines}\n{notes}".strip())
