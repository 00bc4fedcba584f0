"""``unas-hw search``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import click

from ..configuring import configurable, imported, resolved, section_of
from ..exporting import end, export_option
from ..terminal import (
    batch_option,
    follow,
    image_size_option,
    json_option,
    rounds_option,
    sheet,
    space_option,
    table_options,
)

OWN = {
    "freenas": "unas_hw.methods.freenas.search:FreenasConfig",
    "monas": "unas_hw.methods.monas.search:MonasConfig",
    "radars": "unas_hw.methods.radars.search:RadarsConfig",
    "rl_darts": "unas_hw.methods.rl_darts.search:RlDartsConfig",
}
"""Methods with hyper-parameters of their own."""


@click.command()
@configurable({"unas": "unas_hw.methods.unas.config:UnasConfig", **OWN})
@click.option(
    "--latency-budget",
    metavar="BUDGET",
    help="80ms, 80ms@p90, or 50% of the way from fastest to slowest. Freenas, monas, radars and tasks need none.",
)
@click.option(
    "--confidence", type=float, default=0.95, show_default=True, help="With which the network is within the budget."
)
@space_option
@click.option("--dataset", default="digits", show_default=True, metavar="NAME", help="digits, or the path of an .npz.")
@click.option("--task", metavar="NAME", help="Instead of images: procgen:coinrun, minatar:breakout, gym:NAME.")
@image_size_option
@batch_option
@table_options
@click.option("--run", metavar="NAME", help="Run folder under runs/; by default named after the settings.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of search.")
@click.option("--warmup-epochs", type=click.IntRange(0), help="Epochs before, in which only weights learn.")
@click.option("--batch-size", type=click.IntRange(1), help="Images a step.")
@click.option(
    "--method", default="unas", show_default=True, metavar="NAME",
    help="unas; darts, snas, gdas, reinforce, proxylessnas, fbnet: docs/unas.md; freenas, monas, radars: docs/NAME.md.",
)  # fmt: skip
@click.option("--estimator", metavar="NAME", help="Of the task loss, instead of the method's: docs/unas.md.")
@click.option("--budget-form", metavar="NAME", help="How latency enters the loss: hinge, mnasnet, fbnet, ...")
@click.option("--architectures", type=click.IntRange(1), metavar="N", help="Networks drawn each step.")
@click.option("--energy-budget", metavar="ENERGY", help="Such as 40mJ; needs a table with energies.")
@click.option("--macs-budget", metavar="NUMBER", help="Multiply-accumulates for one image, such as 600M.")
@click.option("--params-budget", metavar="NUMBER", help="Such as 4M.")
@click.option("--peak-memory-budget", metavar="BYTES", help="Activations of the largest operation, such as 2MB.")
@click.option(
    "--gpus", "--processes", "processes", type=click.IntRange(1), metavar="N",
    help="Search in N processes of this machine, each with its own part of every step.",
)  # fmt: skip
@click.option("--train-on", metavar="DEVICE", help="cpu, gpu or gpu:1; by default a GPU where there is one.")
@click.option("--bf16/--no-bf16", default=None, help="Train with products in bfloat16; by default on a GPU.")
@click.option("--compile/--no-compile", default=None, help="Train with torch.compile.  [default: no]")
@click.option("--memory-budget", metavar="BYTES", help="What searching may take, such as 2GB: measured, then kept.")
@click.option("--sampled-paths", is_flag=True, help="For that budget, run fewer candidates a step if it has to be.")
@export_option
@click.option("--children", type=click.IntRange(1), metavar="N", help="Of monas: networks that are trained.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Of monas: how many of them at once.")
@click.option("--ray", metavar="ADDRESS", help="Of monas: a Ray cluster that trains them, or local.")
@click.option("--accuracies", metavar="FILE", help="Of monas: a table of accuracies, instead of training.")
@click.option("--reward", type=click.Choice(["mixed", "constraint"]), help="Of monas: what a network is worth.")
@click.option("--steps", metavar="NUMBER", help="Of a task: how many the supernet plays, such as 500k.")
@click.option("--measure-every", type=click.IntRange(1), metavar="STEPS", help="Steps between two measured networks.")
@rounds_option
@json_option
def command(
    latency_budget: str | None,
    confidence: float,
    space: str | None,
    dataset: str,
    task: str | None,
    image_size: int | None,
    batch: int,
    device: str | None,
    runtime: str | None,
    threads: int | None,
    precision: str | None,
    table: str | None,
    run: str | None,
    rounds: int | None,
    method: str,
    processes: int | None,
    train_on: str | None,
    bf16: bool | None,
    compile: bool | None,
    memory_budget: str | None,
    sampled_paths: bool,
    export_format: str | None,
    steps: str | None,
    as_json: bool,
    **unas: Any,
) -> None:
    """Find a network whose own measured latency meets the budget.

    Uses the latency table that was profiled last for the space, and profiles this CPU first if there is none.
    Interrupted or killed, the same command goes on where it was. Exit code 3 if no network meets the budget.
    """
    from profilers.units import parse_bytes, parse_count
    from unas_hw.budget import LIMITS, Budget, parse_limit
    from unas_hw.errors import BudgetError

    if task is not None:
        dataset, method = _playing(task, method)
    if latency_budget is not None:
        Budget.parse(latency_budget, confidence)  # before anything slow
    elif method not in OWN:
        mend = "add --latency-budget 80ms, or 50% of the way from the fastest to the slowest"
        raise BudgetError("there is no budget", mend=mend)
    texts = {name: unas.pop(f"{name.replace('-', '_')}_budget") for name in LIMITS}
    limits = {name: text for name, text in texts.items() if text is not None}
    for name, text in limits.items():
        parse_limit(name, text)
    if memory_budget is not None:
        parse_bytes(memory_budget)
    if sampled_paths and memory_budget is None:
        raise click.UsageError("--sampled-paths is for a search with --memory-budget")
    if processes and processes > 1 and "WORLD_SIZE" not in os.environ:
        raise SystemExit(_in_processes(processes))
    from latency_tables.home import Target
    from profilers.timing import timing_rule
    from unas_hw.jobs.search import search
    from unas_hw.methods.registry import PLAYING, configured
    from unas_hw.progress import finish
    from unas_hw.search.published import config_for
    from unas_hw.search.settings import SearchSettings
    from unas_hw.training import Hardware

    told = {name: value for name, value in unas.items() if value is not None}
    if processes:
        told.setdefault("architectures", processes)
    context = click.get_current_context()
    hyper = configured(method, config_for(space))
    hyper = replace(hyper, **section_of(context, "unas", type(hyper)))
    sections = {"unas": _replaced(hyper, told)}
    if (method := sections["unas"].method) in OWN:
        own = imported(OWN[method])
        begun = _suited(task, own()) if task is not None else own()
        if steps is not None and method == PLAYING:
            told["steps"] = round(parse_count(steps))
        sections[method] = _replaced(replace(begun, **section_of(context, method, own)), told)
    if steps is not None and method != PLAYING:
        raise click.UsageError("--steps is for a search with --task")
    _refuse_idle(method, sections, told | ({} if memory_budget is None else {"memory_budget": memory_budget}))
    settings = SearchSettings(
        budget=latency_budget,
        confidence=confidence,
        space=space,
        dataset=dataset,
        image_size=image_size,
        batch=batch,
        table=table,
        target=Target(device=device, runtime=runtime, threads=threads, precision=precision),
        limits=limits,
        run=run,
        **sections,
        hardware=Hardware.choose(train_on, bf16, compile=bool(compile)),
        memory_budget=memory_budget,
        sampled_paths=sampled_paths,
        told=resolved(context, sections) | {"method": method},  # by which the option above may be left out
    )
    job = search(settings, timing_rule(rounds))
    if os.environ.get("RANK", "0") != "0":  # of several processes one reports
        finish(job)
        return
    end(follow(job), export_format, rounds, as_json, _lines)


def _playing(task: str, method: str) -> tuple[str, str]:
    """What stands for the data set, and the method."""
    from unas_hw.errors import MethodError
    from unas_hw.methods.registry import PLAYING
    from unas_hw.tasks import find_task

    source = click.get_current_context().get_parameter_source("dataset")
    if source is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--dataset and --task both say what is learnt")
    if method not in ("unas", PLAYING):
        raise MethodError(f"--method {method} learns from images, not from a task", mend="leave out --method")
    return find_task(task).name, PLAYING


def _suited(task: str, config: Any) -> Any:
    """Hyper-parameters that suit the task."""
    from unas_hw.methods.rl_darts.search import ppo_for
    from unas_hw.tasks import find_task

    return ppo_for(find_task(task), config)


def _replaced(config: Any, told: dict[str, Any]) -> Any:
    """With those options that are of this configuration."""
    return replace(config, **{each.name: told[each.name] for each in fields(config) if each.name in told})


def _refuse_idle(method: str, sections: dict[str, Any], told: dict[str, Any]) -> None:
    """Options of other methods than this one."""
    from unas_hw.errors import MethodError

    known = {each.name for section in sections.values() for each in fields(section)} | {"memory_budget"}
    if method in ("freenas", "monas", "rl_darts"):  # which train no supernet on images
        known = {"seed"} | {each.name for each in fields(sections[method])}
    if idle := sorted(set(told) - known):
        name = idle[0].replace("_", "-")
        raise MethodError(f"--{name} does nothing with --method {method}", mend=f"leave out --{name}")


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
        return processes[0].wait()
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
