"""A child: one network trained for a little while, in whatever process; all that it is told is plain data.

As a program (``python -m unas_hw.training.child``) it trains one child after another, each told by a line of JSON
and answered by another. It ends with its input, or when nobody is left to read the answer.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from profilers.errors import UnasError
from unas_hw.data import Dataset, load_dataset
from unas_hw.errors import RunError
from unas_hw.runs import Run
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.training.evaluation import evaluate
from unas_hw.training.hardware import Hardware
from unas_hw.training.loop import train
from unas_hw.training.recipes import Recipe


def told_child(
    space: SearchSpace, data: Dataset, image_size: int | None, seed: int, choices: tuple[str, ...], recipe: Recipe
) -> dict[str, Any]:
    """What ``train_child`` has to be told of a network.

    The seed of a child follows from the search's and from what it is, so its accuracy depends neither on who trains it
    nor on when.
    """
    words = f"{seed} {space.title} {','.join(choices)}"
    return {
        "space": space.origin,
        "input_shape": list(space.input_shape),
        "classes": space.classes,
        "precision": space.precision,
        "dataset": data.origin,
        "image_size": image_size,
        "data_seed": seed,
        "choices": list(choices),
        "recipe": {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "lr": recipe.lr},
        "seed": int(sha256(words.encode()).hexdigest()[:8], 16) % 2**31,
    }


def train_child(told: Mapping[str, Any], alive: Callable[[], bool] = lambda: True) -> dict[str, Any]:
    """Trains a network, on one thread, and says what it does on the validation images.

    Args:
        told: By ``told_child``. Beside it may be ``weights``, a file that the trained weights are written to;
            ``begins``, one of weights that it begins with; ``images``, how many of the training images it has; and
            ``hardware``, fields of ``Hardware`` that it is trained on.
        alive: Asked after each epoch whether anyone still waits.

    Returns:
        ``accuracy`` (0 to 1) and ``loss``, 0 and None where the loss of the training was no number any more, and
        ``seconds``.

    Raises:
        UnasError: If space or data cannot be opened here.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more add up in another order: the same child would get another accuracy
    try:
        return _trained(told, alive)
    finally:
        torch.set_num_threads(threads)


def _trained(told: Mapping[str, Any], alive: Callable[[], bool]) -> dict[str, Any]:
    begin = time.monotonic()
    space, data = _opened(json.dumps({name: told[name] for name in _PLACE}))
    recipe, hardware = Recipe(**told["recipe"], seed=told["seed"]), Hardware(**told.get("hardware", {}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = space.network(space.parse(json.dumps({"space": space.name, "choices": told["choices"]})))
    if "begins" in told:
        load_weights(network, Path(told["begins"]))
    images = data.train.first(told["images"]) if "images" in told else data.train
    found: dict[str, Any] = {"accuracy": 0.0, "loss": None}
    with tempfile.TemporaryDirectory(prefix="unas-hw-child-") as folder, suppress(RunError):
        # The loss is no number any more where RunError is raised: such a network is worth nothing, which is an answer.
        for _ in train(network, images, recipe, Run(Path(folder), {}), ".", hardware):
            if not alive():
                raise SystemExit
        seen = evaluate(network, data.valid, hardware.device)
        found = {"accuracy": seen.top1, "loss": seen.loss}
    if "weights" in told:
        save_weights(network, Path(told["weights"]))
    return {**found, "seconds": time.monotonic() - begin}


def save_weights(network: nn.Module, path: Path) -> None:
    """The network's state as a safetensors file, at once."""
    Run(path.parent, {}).save_tensors(path.name, network.state_dict(), {})


def load_weights(network: nn.Module, path: Path) -> None:
    """The inverse; raises ``RunError`` where there is no such file."""
    if (saved := Run(path.parent, {}).load_tensors(path.name)) is None:
        raise RunError(f"there is no {path}", mend="weights have to lie where all workers can read them")
    network.load_state_dict(saved[0])


_PLACE = ("space", "input_shape", "classes", "precision", "dataset", "image_size", "data_seed")


@lru_cache(maxsize=1)
def _opened(place: str) -> tuple[SearchSpace, Dataset]:
    """Space and images, which children have in common."""
    told = json.loads(place)
    batch, *image = told["input_shape"]
    space = find_space(
        told["space"],
        image_shape=(image[0], image[1], image[2]),
        classes=told["classes"],
        batch=batch,
        precision=told["precision"],
    )
    return space, load_dataset(told["dataset"], image_size=told["image_size"], seed=told["data_seed"])


def main() -> None:
    """Trains what it is told until its input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    parent = os.getppid()
    for line in sys.stdin:
        try:
            answer = train_child(json.loads(line), alive=lambda: os.getppid() == parent)
        except UnasError as error:
            answer = {"error": error.what, "mend": error.mend}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
