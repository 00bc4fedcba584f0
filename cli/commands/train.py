"""``unas-hw train``."""

from __future__ import annotations

from typing import Any

import click

import unas_hw

from ..configuring import configurable, section_of
from ..options import WithExample
from ..terminal import arithmetic, dataset_option, earned, emit, image_size_option, json_option, run_option, sheet


def _sections() -> dict[str, type]:
    from unas_hw.methods.rl_darts.config import PpoConfig
    from unas_hw.training import Recipe

    return {"training": Recipe, "ppo": PpoConfig}


@click.command(cls=WithExample, example="unas-hw train --recipe short --epochs 30")
@configurable(_sections)
@run_option
@click.option(
    "--recipe", metavar="NAME", default="short", show_default=True,
    help="short, modern, or published: cifar, cifar100, imagenet-darts, imagenet-mbconv. The options below change it.",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(1))
@click.option("--batch-size", type=click.IntRange(2))
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Highest learning rate.")
@click.option("--augmentation", metavar="STEPS", help="crop4,flip,cutout16 ..., none, or dataset: what suits it.")
@click.option("--drop-path", type=click.FloatRange(0, 1, max_open=True), help="Highest rate of drop path.")
@click.option("--auxiliary", type=click.FloatRange(0), help="Weight of the auxiliary head; 0 for none.")
@click.option("--average", type=click.FloatRange(0, 1, max_open=True), help="Decay of the averaged weights (EMA).")
@click.option("--steps", metavar="NUMBER", help="Of a policy: how many it plays, such as 500k.")
@click.option("--seed", type=int)
@click.option("--device", metavar="DEVICE", help="cpu, gpu or gpu:1; by default a GPU where there is one.")
@click.option("--bf16/--no-bf16", default=None, help="Products in bfloat16; by default on a GPU.")
@click.option("--channels-last/--no-channels-last", default=None, help="By default on a GPU.")
@click.option("--compile/--no-compile", default=None, help="With torch.compile; by default on a GPU.")
@click.option("--architecture", metavar="TEXT|FILE", help="Train this one, without a search.")
@click.option("--space", metavar="SPACE", help="Train the same choices in a sibling: 'darts?width=36&layers=20'.")
@dataset_option("Train on other images")
@image_size_option
@click.option("--name", metavar="NAME", help="Run folder for a network that is not a run's own.")
@json_option
def command(run: str | None, recipe: str, steps: str | None, as_json: bool, **told: Any) -> None:
    """Retrain a run's network from scratch; `export` then ships these weights.

    With --architecture, --space, --dataset or --image-size another network is trained, in a run folder of its own.
    The policy of a run with --task is trained by PPO instead.
    """
    from unas_hw.methods.rl_darts.config import PpoConfig
    from unas_hw.training import Recipe

    context = click.get_current_context()
    changes = section_of(context, "training", Recipe)
    changes |= {name: value for name, value in told.items() if value is not None}
    ppo = section_of(context, "ppo", PpoConfig)
    trained = unas_hw.train(run, recipe=recipe, steps=steps, ppo=ppo, progress=True, **changes)
    result = dict(trained.content)
    if "test_return" in result:
        emit(result, as_json, sheet(_policy_lines(result)))
        return
    low, high = result["test_interval"]
    lines = {
        "architecture": result["architecture"],
        "accuracy": f"{result['test_accuracy']:.2%} on test images (95%: {low:.2%} to {high:.2%})",
        "parameters": f"{result['params']:,}, {arithmetic(result, ' MACs an image')}",
        "run": result["run"],
    }
    emit(result, as_json, sheet(lines))


def _policy_lines(result: dict[str, Any]) -> dict[str, str]:
    time = ", ".join(f"{result[f'{what}_share']:.0%} {what}" for what in ("environment", "acting", "learning"))
    return {
        "architecture": result["architecture"],
        **earned(result),
        "speed": f"{result['steps_per_s']:,.0f} steps/s ({time})",
        "parameters": f"{result['params']:,}, {arithmetic(result, ' MACs a frame')}",
        "run": result["run"],
    }
