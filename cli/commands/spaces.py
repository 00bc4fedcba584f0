"""``unas-hw spaces``."""

from __future__ import annotations

from typing import Any

import click

from ..options import GroupWithExample
from ..terminal import (
    batch_option,
    device_option,
    emit,
    follow,
    image_size_option,
    json_option,
    runtime_option,
    threads_option,
)


@click.group(cls=GroupWithExample, invoke_without_command=True, example="unas-hw spaces check examples/tiny.yaml")
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """The search spaces, their decisions, how many networks they hold and their options.

    `spaces check` tries everything out that is done with a space, such as your own.
    """
    if context.invoked_subcommand is not None:
        return
    from unas_hw.spaces import SPACES, find_space

    found: list[dict[str, Any]] = [
        {
            "name": name,
            "summary": listing.summary,
            "size": space.size,
            "input_shape": list(space.input_shape),
            "classes": space.classes,
            "decisions": [{"name": each.name, "choices": list(each.choices)} for each in space.decisions],
            "options": {
                key: {"default": option.write(option.default), "allowed": option.allowed}
                for key, option in listing.options.items()
            },
        }
        for name, listing in SPACES.items()
        for space in [find_space(name)]
    ]
    wide = max(len(each["name"]) for each in found)
    lines: list[str] = []
    for each in found:
        counts = f"{len(each['decisions'])} decisions, {each['size']:.2g} networks"
        lines.append(f"{each['name']:<{wide}}  {counts}: {each['summary']}")
        for key, option in each["options"].items():
            lines.append(f"{'':<{wide}}  {key}={option['default']}: {option['allowed']}")
    lines.append("options go after the name: --space 'mbconv?width=0.5&stem=cifar'; your own: docs/spaces.md")
    emit(found, as_json, "\n".join(lines))


@command.command(example="unas-hw spaces check my_space.py --device cpu")
@click.argument("space")
@image_size_option
@batch_option
@device_option
@runtime_option
@threads_option
@json_option
def check(
    space: str,
    image_size: int | None,
    batch: int,
    device: str | None,
    runtime: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Try out everything that is done with a SPACE: a name, or your own .yaml or .py file, which is executed.

    Ends with exit code 0 where every check passed, else with 1.
    """
    from latency_tables.home import Target
    from unas_hw.jobs.spaces import check_space

    target = Target(device=device, runtime=runtime, threads=threads)
    result = follow(check_space(space, image_size=image_size, batch=batch, target=target))
    lines = [
        f"{'pass' if each['passed'] else 'FAIL'}  {each['name']:<11}  {each['what']}"
        + (f"\n{'':<19}mend: {each['mend']}" if not each["passed"] else "")
        for each in result["checks"]
    ]
    emit(result, as_json, "\n".join(lines))
    if not result["passed"]:
        raise SystemExit(1)
