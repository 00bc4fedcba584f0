"""Evaluate: what the network of a run is worth on images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from unas_hw.data import Dataset, Split, load_dataset, telling
from unas_hw.errors import DataError, RunError
from unas_hw.methods.rl_darts.policy import judged
from unas_hw.ops.impala import Policy
from unas_hw.progress import Job, Step
from unas_hw.resources import arithmetic_of
from unas_hw.tasks import find_task, is_task
from unas_hw.training import evaluate
from unas_hw.verify.artifact import Context, open_run

WEIGHTS = {"train": "train/weights.safetensors", "search": "weights.safetensors"}
Part = Literal["test", "valid", "train"]
WORST = 3


def evaluate_run(
    name: str | None,
    *,
    dataset: str | None = None,
    part: Part = "test",
    weights: str | None = None,
    device: str | None = None,
) -> Job[dict[str, Any]]:
    """Evaluates the network of a run, the last one by default.

    Args:
        name: Of the run.
        dataset: Other images of the same classes, seen as the network's own were (their size, mean and deviation).
        part: Of the data set.
        weights: ``train``, ``search`` or the path of a file; by default the trained ones if there are any.
        device: As torch names it; the CPU by default.

    Returns:
        ``run``, ``architecture``, ``dataset``, ``split``, ``weights``, ``images``, ``top1``, ``interval_95`` of it,
        ``top5`` (null for fewer than ten classes), ``loss``, ``worst_classes`` (``class``, ``accuracy``, ``images``),
        ``images_per_s``, ``device``, ``params``, ``macs`` of one image. Of a policy what
        ``unas_hw.methods.rl_darts.policy.judged``
        says instead, after playing on the CPU.

    Raises:
        RunError: If there are no such weights, or they are another network's.
        DataError: If the images do not fit.
    """
    context = open_run(name)
    network, path = _network(context, weights)
    if is_task(context.data.origin):
        if dataset is not None or part != "test":
            raise DataError("a policy plays its own task, in all levels", mend="leave out --dataset and --split")
        yield Step("play", 0, 1)
        return _played(context, network, path)
    data = _data(context, dataset)
    if dataset is not None:
        yield from telling(data)
    yield Step("evaluate", 0, 1)
    found = evaluate(network, {"test": data.test, "valid": data.valid, "train": data.train}[part], device or "cpu")
    worst = [
        {
            "class": data.class_names[label] if data.class_names else str(label),
            "accuracy": found.right[label] / found.of_class[label],
            "images": found.of_class[label],
        }
        for label in found.worst(WORST)
    ]
    return {
        **_subject(context, data, path),
        "split": part,
        "images": found.images,
        "top1": found.top1,
        "interval_95": list(found.interval),
        "top5": found.top5,
        "loss": found.loss,
        "worst_classes": worst,
        "images_per_s": found.images_per_s,
        "device": device or "cpu",
        "data_notes": list(data.notes),
        **_size(context, network),
    }


def _played(context: Context, policy: nn.Module, path: Path) -> dict[str, Any]:
    assert isinstance(policy, Policy)  # no other space is one of policies
    judgement = judged(policy, find_task(context.data.origin))
    return {**_subject(context, context.data, path), **judgement, **_size(context, policy)}


def _subject(context: Context, data: Dataset, weights: Path) -> dict[str, Any]:
    run, architecture = str(context.run.path), str(context.architecture)
    return {"run": run, "architecture": architecture, "dataset": data.name, "weights": str(weights)}


def _size(context: Context, network: nn.Module) -> dict[str, Any]:
    """Learned numbers, and multiply-accumulates of one image."""
    params = sum(weight.numel() for weight in network.parameters())
    return {"params": params, **arithmetic_of(context.space, context.architecture)}


def _network(context: Context, weights: str | None) -> tuple[nn.Module, Path]:
    run = context.run
    if weights is None:
        weights = next((word for word, name in WEIGHTS.items() if (run.path / name).exists()), "train")
    path = run.path / WEIGHTS[weights] if weights in WEIGHTS else Path(weights)
    saved = run.load_tensors(str(path.absolute()))
    if saved is None:
        mends = {"train": f"unas-hw train --run {run.path.name}", "search": f"unas-hw evaluate --run {run.path.name}"}
        raise RunError(f"there are no weights in {path}", mend=mends.get(weights, "give --weights a .safetensors file"))
    network = context.space.network(context.architecture)
    try:
        network.load_state_dict(saved[0])
    except RuntimeError as error:
        raise RunError(
            f"{path} does not hold weights of {context.architecture}: {str(error).splitlines()[1].strip()}",
            mend="give the --run whose network it is",
        ) from error
    return network.eval(), path


def _data(context: Context, dataset: str | None) -> Dataset:
    """The run's images, or others in their form."""
    own = context.data
    if dataset is None:
        return own
    other = load_dataset(dataset, image_size=own.image_shape[1], seed=context.run.config["seed"])
    if (other.image_shape, other.classes) != (own.image_shape, own.classes):
        raise DataError(
            f"{dataset} has {other.classes} classes and images of {other.image_shape}, the network of "
            f"{context.run.path} is for {own.classes} and {own.image_shape}",
            mend=f"train for these images: unas-hw train --run {context.run.path.name} --dataset {dataset}",
        )

    def seen(split: Split) -> Split:
        form = split.form and replace(split.form, mean=own.mean, std=own.std)
        return Split(split.pixels, split.y, rows=split.rows, form=form)

    return replace(other, train=seen(other.train), valid=seen(other.valid), test=seen(other.test))
