"""``unas-hw devices``."""

from __future__ import annotations

from typing import Any

import click

from ..options import GroupWithExample
from ..streams import echo
from ..terminal import emit, json_option, sheet


@click.group(
    cls=GroupWithExample, invoke_without_command=True, example="unas-hw devices add pi --ssh ssh://pi@raspberrypi"
)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """What can be profiled from here, and what disturbs timing; then devices that only a published table knows.

    `devices add` gives a phone or a host a name for --device, `devices remove` takes it back.
    """
    if context.invoked_subcommand is not None:
        return
    from latency_tables.published import published_devices
    from profilers.registry import reachable
    from profilers.text import one_line

    published = "a published table: to search for, not to profile"
    found = reachable()
    found += [
        {"device": device, "name": name, "runtimes": [], "missing": published, "warnings": []}
        for device, name in published_devices().items()
    ]
    wide = max(10, *(len(each["device"]) for each in found))
    lines = "\n".join(
        one_line(f"{each['device']:<{wide}} {each['name']:<28} {', '.join(each['runtimes']) or each['missing']}")
        for each in found
    )
    notes = "\n".join(f"note: {note}" for each in found for note in each["warnings"])
    emit(found, as_json, f"{lines}\n{notes}".strip())


@command.command(example="unas-hw devices add phone --adb SERIAL --litert-benchmark /data/local/tmp/benchmark_model")
@click.argument("name")
@click.option("--adb", metavar="SERIAL", help="An Android device, as `adb devices` shows it.")
@click.option("--ssh", metavar="ADDRESS", help="A host: ssh://[user@]host[:port].")
@click.option("--litert-benchmark", metavar="PATH", help="LiteRT's benchmark_model, here or on the device.")
@click.option("--ncnn-benchmark", metavar="PATH", help="ncnn's benchncnn.")
@click.option("--onnxruntime-benchmark", metavar="PATH", help="ONNX Runtime's onnxruntime_perf_test.")
@click.option("--power-command", metavar="COMMAND", help="For --energy: a command or file that prints 3.2W or 12.5J.")
@json_option
def add(name: str, adb: str | None, ssh: str | None, power_command: str | None, as_json: bool, **tools: str) -> None:
    """Give a phone or a host a NAME for --device."""
    from latency_tables.published import find_published
    from profilers.devices.book import TOOL_FIELDS, Booked
    from profilers.devices.booking import book
    from profilers.errors import DeviceNameError

    if (adb is None) == (ssh is None):
        raise click.UsageError("give one of --adb SERIAL and --ssh ADDRESS")
    named = {runtime: tools[field] for runtime, field in TOOL_FIELDS.items() if tools[field]}
    if ssh is not None and named:
        raise click.UsageError("benchmark tools are for --adb; a host times in its own Python")
    if find_published(name):
        raise DeviceNameError(f"{name!r} is a published table's device", mend=f"choose another, such as my-{name}")
    entry, note = book(Booked(name=name, adb=adb, ssh=ssh, tools=named, power_command=power_command))
    if note:
        echo(f"note: {note}", err=True)
    emit({"device": name, **entry.to_record()}, as_json, sheet(_lines(entry)))


@command.command(example="unas-hw devices remove phone")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget a NAME; its tables stay."""
    from profilers.devices.book import remove as forget

    entry = forget(name)
    emit({"device": name, **entry.to_record()}, as_json, f"{name} ({entry.address}) is forgotten; its tables stay")


def _lines(entry: Any) -> dict[str, object]:
    return {
        "device": entry.name,
        **{key.replace("_", " "): value for key, value in entry.to_record().items()},
        "use": f"unas-hw profile --device {entry.name}",
    }
