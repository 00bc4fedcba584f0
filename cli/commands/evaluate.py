"""``unas-hw evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import unas_hw

from ..options import WithExample
from ..terminal import arithmetic, dataset_option, earned, emit, json_option, run_option, sheet

if TYPE_CHECKING:
    from unas_hw.jobs.evaluate import Part


@click.command(cls=WithExample, example="unas-hw evaluate --split valid")
@run_option
@dataset_option("Other images of the same classes than those of the run")
@click.option(
    "--split", "part", type=click.Choice(["test", "valid", "train"]), default="test", show_default=True,
    help="Part of the data set.",
)  # fmt: skip
@click.option(
    "--weights", metavar="train|search|PATH", help="By default those of train, if there are any, or of search."
)
@click.option("--device", metavar="DEVICE", help="cpu, gpu or gpu:1; by default a GPU where there is one.")
@json_option
def command(
    run: str | None, dataset: str | None, part: Part, weights: str | None, device: str | None, as_json: bool
) -> None:
    """Accuracy of a run's network on images, by class and with its interval; of a policy its return in its task."""
    found = unas_hw.evaluate(run, dataset=dataset, split=part, weights=weights, device=device, progress=True)
    result = dict(found.content)
    if "test_return" in result:
        lines = {"architecture": result["architecture"], "weights": result["weights"], **earned(result)}
        emit(result, as_json, sheet(lines))
        return
    low, high = result["interval_95"]
    worst = ", ".join(f"{each['class']} {each['accuracy']:.1%} of {each['images']}" for each in result["worst_classes"])
    lines = {
        "architecture": result["architecture"],
        "weights": result["weights"],
        "accuracy": f"{result['top1']:.2%} of {result['images']} {part} images of {result['dataset']} "
        f"(95%: {low:.2%} to {high:.2%})",
        **({} if result["top5"] is None else {"top five": f"{result['top5']:.2%}"}),
        "loss": f"{result['loss']:.4f}",
        "worst classes": worst,
        "speed": f"{result['images_per_s']:,.0f} images/s on {result['device']}",
        "parameters": f"{result['params']:,}, {arithmetic(result, ' MACs an image')}",
    }
    emit(result, as_json, sheet(lines))
