"""``unas-hw train``."""

from __future__ import annotations

import click

from ..terminal import emit, follow, json_option, run_option, sheet


@click.command()
@run_option
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def command(run: str | None, epochs: int, seed: int, as_json: bool) -> None:
    """Retrain a run's network from scratch; `export` then ships these weights."""
    from unas_hw.jobs.train import retrain
    from unas_hw.training import Recipe

    result = follow(retrain(run, Recipe(epochs=epochs, seed=seed)))
    lines = {
        "architecture": result["architecture"],
        "accuracy": f"{result['test_accuracy']:.2%} on test images",
        "parameters": f"{result['params']:,}",
        "run": result["run"],
    }
    emit(result, as_json, sheet(lines))
