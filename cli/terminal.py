"""Progress on standard error, results on standard output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from profilers.files import as_plain
from profilers.text import one_line
from unas_hw.settings import DATASETS

from .streams import echo

if TYPE_CHECKING:
    from unas_hw.progress import Job

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])
BUDGET_NOT_MET = 3

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
run_option = click.option("--run", metavar="NAME", help="Run folder under runs/; the last one by default.")
space_option = click.option(
    "--space",
    metavar="SPACE",
    help="Search space: a name of unas-hw spaces, with options ('mbconv?width=0.5'), or your own .yaml or .py file.",
)
device_option = click.option(
    "--device",
    metavar="DEVICE",
    help="cpu, gpu, ssh://HOST, adb://SERIAL, sim:NAME, a name of devices add, or a published table: pixel1.",
)
runtime_option = click.option(
    "--runtime", metavar="NAME", help="onnxruntime, openvino, ncnn, litert, torch, torch+compile, tensorrt."
)
precision_option = click.option(
    "--precision",
    metavar="NAME",
    callback=lambda context, parameter, value: _precision(value),
    help="fp32, fp16, bf16, int8 or tf32: in which the network is computed.",
)
threads_option = click.option("--threads", type=click.IntRange(1), help="Threads that a network may use.")
table_option = click.option(
    "--table", metavar="TABLE", help="Latency table: a path, the beginning of its name, or an address."
)


def table_options(command: Command) -> Command:
    """Which table: by name, or the last profiled of a device, runtime, number of threads and precision."""
    for option in (table_option, precision_option, threads_option, runtime_option, device_option):
        command = option(command)
    return command


def which_table(command: Command) -> Command:
    """``TABLE`` or ``--table``, or the last profiled of a device, runtime, number of threads and precision."""
    return click.argument("name", metavar="[TABLE]", required=False)(table_options(command))


def dataset_option(what: str, **more: Any) -> Callable[[Command], Command]:
    """``--dataset``: what it is for, and what can be given."""
    return click.option("--dataset", metavar="DATA", help=f"{what}: {DATASETS}.", **more)


batch_option = click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="Images at a time that latencies are for."
)
image_size_option = click.option(
    "--image-size", type=click.IntRange(1), metavar="PIXELS", help="Resize images to this."
)
rounds_option = click.option(
    "--rounds", type=click.IntRange(4), metavar="N", help="Samples per operation at most; more on noisy machines."
)


def _precision(name: str | None) -> str | None:
    from profilers.precision import parse_precision

    return name and parse_precision(name)


def follow(job: Job[Result]) -> Result:
    """Runs a job to its end with a bar on standard error."""
    from unas_hw.api.running import follow

    return follow(job, lambda result: result, progress=True)


def emit(result: Mapping[str, Any] | list[Any], as_json: bool, lines: str) -> None:
    """The result: all of it as JSON, or what a person wants to know."""
    echo(json.dumps(as_plain(result), indent=2) if as_json else lines)


def sheet(pairs: Mapping[str, object]) -> str:
    """Names and values in two columns."""
    width = max(map(len, pairs))
    return "\n".join(f"{name:<{width}}  {one_line(value)}" for name, value in pairs.items())


def arithmetic(result: Mapping[str, Any], of: str = "") -> str:
    """MACs, and what they lack."""
    from profilers.workload import lacking

    without = lacking(result.get("macs_without", ()))
    return f"{result['macs']:,}{of}" + (f" ({without})" if without else "")


def earned(result: Mapping[str, Any]) -> dict[str, str]:
    """What a policy was found to earn."""
    low, high = result["test_interval"]
    share = "" if result["normalised_return"] is None else f"; normalised {result['normalised_return']:.2f}"
    return {
        "return": f"{result['test_return']:.2f} in {result['test_episodes']} episodes of all levels "
        f"(95%: {low:.2f} to {high:.2f}; random actions {result['random_return']:.2f}{share})"
    }


def table_lines(described: Mapping[str, Any]) -> dict[str, object]:
    """What a person wants to know of a latency table."""
    if described["fingerprint"].get("kind") == "published":
        return published_lines(described)
    calibration = described["calibration"]
    errors = calibration["errors"] or {}
    return {
        "table": described["path"],
        "for": described["subject"],
        "device": f"{described['device']}: {described['fingerprint']['name']}",
        "runtime": f"{described['runtime']}, {described['threads']} thread(s), {described['precision']}",
        "measured": f"{described['created']}, {described['sessions']} session(s), {described['rows_measured']} rows",
        "unstable": described["unstable"],
        **(
            {"energy": f"{described['energies']} rows by {described['meter']}, idle power subtracted"}
            if described["energies"]
            else {}
        ),
        "noise floor": f"{described['noise_floor']:.2f}%",
        "calibration": f"{calibration['model']}: " + " + ".join(_terms(calibration)),
        "held-out error": f"{errors['mape']:.2f}% mean, {errors['max_error']:.2f}% worst, "
        f"Spearman {errors['spearman']:.4f}, {errors['networks']} networks"
        if errors
        else "unknown: no whole networks, or not all of their operations, were measured",
    }


def _terms(calibration: Mapping[str, Any]) -> Iterator[str]:
    corrected = f", {len(calibration['factors'])} rows corrected" if calibration["factors"] else ""
    yield f"{calibration['scale']:.4f} * sum{corrected}"
    names = {
        "per_op_ms": " * operations",
        "per_input_ms": " * million inputs",
        "per_weight_ms": " * million weights",
        "intercept_ms": "",
    }
    yield from (f"{calibration[name] * 1e3:.2f} us{what}" for name, what in names.items() if calibration[name])


def published_lines(described: Mapping[str, Any]) -> dict[str, object]:
    """The same of a table that was imported: nothing of it was measured here."""
    return {
        "table": described["path"],
        "for": described["subject"],
        "device": f"{described['device']}: {described['fingerprint']['name']}",
        "values": f"{described['rows_not_measured']} rows, published; nothing was measured here",
        "origin": described.get("origin", "not stated"),
        "licence": described.get("licence", "not stated"),
        "not priced": ", ".join(described.get("not_priced", ())) or "nothing",
    }
