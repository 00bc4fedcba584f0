"""``unas-hw score``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from ..options import WithExample
from ..terminal import dataset_option, emit, follow, image_size_option, json_option, space_option

SHOWN = 30
"""Networks that are printed; JSON has all."""


@click.command(cls=WithExample, example="unas-hw score --space nas_bench_201 --networks 100")
@click.argument("architectures", nargs=-1, metavar="[ARCHITECTURE]...")
@space_option
@click.option("--networks", type=click.IntRange(1), metavar="N", help="Draw so many at random; 10 by default.")
@click.option(
    "--accuracies", metavar="FILE", help="CSV or Parquet of architectures and accuracies: rank correlations with them."
)
@click.option("--column", metavar="NAME", help="Of the accuracies in that file.")
@dataset_option("Images of the batch, instead of random numbers")
@image_size_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, networks and images.")
@json_option
def command(
    architectures: tuple[str, ...],
    space: str | None,
    networks: int | None,
    accuracies: str | None,
    column: str | None,
    dataset: str | None,
    image_size: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Score networks without training them: FreeFlow, SynFlow, log-SynFlow, NASWOT, Zen and SNIP.

    Parameters and MACs stand beside: a score that ranks no better than these is worth nothing.
    """
    from profilers.workload import lacking
    from unas_hw.jobs.score import SCORES, score_networks

    job = score_networks(
        architectures,
        space=space,
        networks=networks,
        accuracies=accuracies,
        column=column,
        dataset=dataset,
        image_size=image_size,
        seed=seed,
    )
    result = follow(job)
    found: list[dict[str, Any]] = result["networks"]
    lines = [f"{result['space']}, initial weights; batch: {result['batch']}", ""]
    if without := lacking(result["macs_without"]):
        lines += [f"MACs are {without}", ""]
    if result["accuracies"]:
        lines += [result["accuracies"], ""]
    if result["correlations"]:
        lines += _correlation_lines(result["correlations"])
    else:
        lines += _network_lines(found[:SHOWN], SCORES)
        if len(found) > SHOWN:
            lines.append(f"and {len(found) - SHOWN} more: --json has all")
    emit(result, as_json, "\n".join(lines))


def _network_lines(networks: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> list[str]:
    rows = [[*(_number(each[name]) for name in scores), each["architecture"]] for each in networks]
    head = [*scores, "architecture"]
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(scores))]
    return [
        "  ".join([*(text.rjust(width) for text, width in zip(row, widths, strict=False)), row[-1]])
        for row in (head, *rows)
    ]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _correlation_lines(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    first = next(iter(found.values()))
    head = [f"{which} {first[name]['networks']}" for which, name in (("all", "all"), ("best", "best"))]
    lines = ["Spearman's rank correlation with the accuracy, and its 90% interval", ""]
    lines.append(f"{'':<12}  {head[0]:<22}  {head[1]}")
    for name, each in found.items():
        shown = [f"{of['spearman']:6.3f} ({of['low']:.3f} to {of['high']:.3f})" for of in (each["all"], each["best"])]
        lines.append(f"{name:<12}  {shown[0]:<22}  {shown[1]}")
    return lines
