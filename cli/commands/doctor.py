"""``unas-hw doctor``."""

from __future__ import annotations

import click

from ..options import WithExample
from ..terminal import emit, json_option

TITLES = {"works": "works", "missing": "is missing", "disturbs": "disturbs timing"}


@click.command(cls=WithExample, example="unas-hw doctor")
@json_option
def command(as_json: bool) -> None:
    """What works here, what is missing, and what disturbs timing, each with what to type.

    Ends with exit code 0 where this CPU can be profiled, else with 1.
    """
    from dataclasses import asdict

    from profilers.doctor import can_profile, examine

    found = examine()
    width = max(len(each.name) for each in found)
    lines: list[str] = []
    for section, title in TITLES.items():
        lines.append(f"{title}:")
        for each in (each for each in found if each.section == section):
            lines.append(f"  {each.name:<{width}}  {each.what}")
            if each.mend:
                lines.append(f"  {'':<{width}}  mend: {each.mend}")
        if lines[-1] == f"{title}:":
            lines.append("  nothing")
    ready = can_profile(found)
    emit({"ready": ready, "findings": [asdict(each) for each in found]}, as_json, "\n".join(lines))
    if not ready:
        raise SystemExit(1)
