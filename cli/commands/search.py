"""``unas-hw search``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import click

import unas_hw
from unas_hw.api.running import interruptible
from unas_hw.methods.registry import find_preset, methods, sections
from unas_hw.search.settings import SearchSettings
from unas_hw.settings import RUN, TABLE, TRAINING

from ..configuring import configurable, told_sections
from ..exporting import end, export_option
from ..options import GroupedCommand, Option, options_from, said
from ..terminal import json_option, rounds_option, sheet

GROUPS = {"rounds": TABLE, "config": RUN, "set": RUN}
EXAMPLE = """\
unas-hw search --latency-budget 50%      halfway between the fastest and the slowest network
unas-hw search --latency-budget 80ms --device pixel1 --space mbconv-mobile
unas-hw search --method monas --children 24 --workers 2"""


def _titles() -> dict[str, str]:
    """Headings of the methods' own options, by section."""
    names: dict[str, list[str]] = {}
    for name, method in methods().items():
        names.setdefault(method.config().section, []).append(name)
    return {section: f"--method {', '.join(each)}" for section, each in names.items()}


@click.command(cls=GroupedCommand, groups=GROUPS, example=EXAMPLE, context_settings={"max_content_width": 100})
@options_from((SearchSettings, None), *((config, _titles()[section]) for section, config in sections().items()))
@click.option("--task", metavar="NAME", help="Instead of images: procgen:coinrun, minatar:breakout, gym:NAME.")
@export_option
@click.option(
    "--gpus", "--processes", "processes", type=click.IntRange(1), metavar="N", cls=Option, group=TRAINING,
    help="Search in N processes of this machine, each with its own part of every step.",
)  # fmt: skip
@rounds_option
@json_option
@configurable(sections, also=("unas.seed", "unas.method"))
@click.pass_context
def command(
    context: click.Context,
    /,
    processes: int | None,
    export_format: str | None,
    rounds: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find a network whose own measured latency meets the budget.

    Uses the latency table that was profiled last for the space, and profiles this CPU first if there is none.
    Interrupted or killed, the same command goes on where it was. Exit code 3 if no network meets the budget.
    """
    from unas_hw.methods.settings import settings_of

    told: dict[str, Any] = told_sections(context) | said(context, options)
    if processes:
        told.setdefault("architectures", _shared(processes, told.get("preset")))
    settings = settings_of(**told)  # before anything slow
    if processes and processes > 1 and "WORLD_SIZE" not in os.environ:
        raise SystemExit(_in_processes(processes))
    if os.environ.get("RANK", "0") != "0":  # of several processes one reports
        from profilers.timing import timing_rule
        from unas_hw.jobs.search import search
        from unas_hw.progress import finish

        finish(search(settings, timing_rule(rounds)))
        return
    found = unas_hw.search(rounds=rounds, progress=True, **told)
    end(dict(found.content), export_format, rounds, as_json, _lines)


def _shared(processes: int, preset: str | None) -> int:
    """Networks a step where nobody says how many: those of the preset, as far as each process has equally many."""
    published: int = getattr(find_preset(preset).config, "architectures", 1) if preset else 1
    return processes * max(1, published // processes)


def _in_processes(count: int) -> int:
    """The same command in so many processes, as torchrun starts them; the exit code of the first, which reports."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    program = [sys.executable, sys.argv[0], *sys.argv[1:]]
    processes = [
        subprocess.Popen(program, env=os.environ | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    try:
        with interruptible():
            return processes[0].wait()
    except SystemExit:  # we alone were told to end; an interrupt goes to all of them
        processes[0].terminate()
        raise
    finally:
        for process in processes[1:]:
            process.terminate()
        for process in processes:
            process.wait()


def _lines(result: dict[str, Any]) -> str:
    from profilers.units import format_bytes, format_ms

    budget = format_ms(result["budget_ms"])
    if result.get("budget", budget) is None:
        budget = f"none, or {budget}: twice what the largest takes"
    if result.get("unmet"):
        return f"no network of {result['space']} meets the {result['unmet']}"
    if result["run"] is None:
        low, middle, high = (format_ms(result[f"space_{name}_ms"]) for name in ("min", "median", "max"))
        return (
            f"no network of {result['space']} meets {budget}: the fastest takes {low}, the median {middle}, "
            f"the slowest {high}\n  mend: unas-hw search --latency-budget {result['space_min_ms'] * 1.1:.3g}ms"
        )
    from unas_hw.budget import format_limit

    limits = {
        name: f"{format_limit(name, each['value'])}, budget {format_limit(name, each['limit'])}"
        for name, each in result["limits"].items()
    }
    memory = {"memory": f"{format_bytes(result['peak_bytes'])} at most while searching"} if result["peak_bytes"] else {}
    lines = {
        "architecture": result["architecture"],
        "predicted": format_ms(result["predicted_ms"]),
        "measured": measured(result),
        "budget": budget if result["feasible"] else f"{budget}, NOT MET; this is the nearest that was found",
        **limits,
        **memory,
        **_of_method(result),
        **_worth(result),
        **_verdict(result),
        "table": result["table"],
        "run": result["run"],
    }
    return sheet(lines)


def _of_method(result: dict[str, Any]) -> dict[str, str]:
    """What methods with a search of their own have to say."""
    if "front" in result:
        files = f"{result['run']}/pareto.csv and pareto.svg"
        return {"front": f"{result['front']} of {result['children']} children, accuracy and {result['cost']}: {files}"}
    if "score" in result:
        best = "the best there is within the budgets" if result["score_exact"] else "not proven to be the best"
        return {"score": f"{result['score']:.4g} ({best}); unas-hw score has those of any network"}
    if "kept_candidates" in result:
        return {"subspace": f"{result['kept_candidates']} of {result['all_candidates']} candidates"}
    return {}


def _worth(result: dict[str, Any]) -> dict[str, str]:
    """What is known of the network's accuracy, or of the return of a policy."""
    accuracy, untrained = result["valid_accuracy"], "not trained yet: unas-hw train"
    if "supernet_return" in result:
        earned = "none yet" if result["supernet_return"] is None else f"{result['supernet_return']:.2f}"
        return {"return": untrained, "supernet": f"return {earned}, entropy of alpha {result['alpha_entropy']:.0%}"}
    if accuracy is None:
        return {"accuracy": untrained}
    return {"accuracy": f"{accuracy:.2%} on validation images; unas-hw train retrains it from scratch"}


def _verdict(result: dict[str, Any]) -> dict[str, str]:
    """What the search was worth, where networks were trained beside what it found."""
    if "control" not in result:
        return {}
    told = {"verdict": result["control"]["words"]}
    if (finals := result.get("finals")) is not None:
        told["finals"] = f"{finals['networks']} networks, {finals['trainings']} trainings: {result['run']}/finals.jsonl"
    return told


def measured(result: dict[str, Any]) -> str:
    """The latency that was measured, or why there is none."""
    from profilers.units import format_ms

    if result["measured_ms"] is None:
        return f"not measured (published table of {result['device']})"
    return format_ms(result["measured_ms"]) + moved(result)


def moved(result: dict[str, Any]) -> str:
    """Says so where the machine is not what it was when the table was made."""
    if result["measured_ms"] == result["raw_ms"]:
        return ""
    return f" (scaled by {result['anchor_scale']:.3f}: the anchors moved; {result['raw_ms']:.3f} ms as clocked)"
