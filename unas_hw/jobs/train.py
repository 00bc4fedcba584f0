"""Train: the architecture of a run, from scratch; also elsewhere: in a sibling of its space, on other images."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from unas_hw.data import DIGITS, load_dataset, telling
from unas_hw.jobs.predict import said
from unas_hw.methods.rl_darts.config import PpoConfig
from unas_hw.methods.rl_darts.policy import train_policy
from unas_hw.progress import Job
from unas_hw.runs import RUNS, Run
from unas_hw.space import Architecture, SearchSpace
from unas_hw.spaces import default_space, find_space
from unas_hw.spaces.published import find_published_architecture
from unas_hw.tasks import is_task
from unas_hw.training import Hardware, Recipe
from unas_hw.training.retraining import retrained
from unas_hw.verify.artifact import Context, open_run

PROMISE = ("table", "table_hash", "budget", "budget_ms", "percentile", "confidence")
"""What a run's configuration says of its budget."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """What is trained other than a run's network on that run's images; None means as there.

    Attributes:
        run: Whose architecture it is; the last one by default.
        architecture: Instead of a run's: ``k3e3,id,...``, with or without ``space:`` before it, or a file.
        space: With the same decisions, such as a wider one.
        dataset: Images; of an architecture alone the digits.
        image_size: Pixels; as the images are by default.
        name: Of the run folder that is made; by default made of all this.
    """

    run: str | None = None
    architecture: str | None = None
    space: str | None = None
    dataset: str | None = None
    image_size: int | None = None
    name: str | None = None


def retrain(
    name: str | None,
    recipe: Recipe,
    hardware: Hardware | None = None,
    elsewhere: Elsewhere | None = None,
    ppo: PpoConfig | None = None,
) -> Job[dict[str, Any]]:
    """Trains the network of a run (the last one by default) and saves its weights there.

    Args:
        name: Of the run.
        recipe: How.
        hardware: On what; the CPU by default.
        elsewhere: Something else is trained, in a run of its own; ``name`` is not used then.
        ppo: How a policy is trained, instead of a recipe, of which only the seed counts; by default as suits its task.

    Returns:
        ``run``, ``architecture``, ``test_accuracy``, ``test_interval`` (95%), ``test_loss``, ``epochs``, ``params``,
        ``macs`` of one image, ``seconds``, ``recipe``, ``hardware``, and ``trained_without``: what the recipe asks for
        and the network does not take. Of a policy see ``unas_hw.methods.rl_darts.policy.train_policy``.
    """
    begin = time.monotonic()
    context = open_run(name) if elsewhere is None else _begin(elsewhere, recipe.seed)
    if elsewhere is not None:
        yield from telling(context.data)
    with context.run.alone():
        if is_task(context.data.origin):
            return (yield from train_policy(context, ppo, recipe.seed, hardware or Hardware(), begin))
        return (
            yield from retrained(
                context.run, context.space, context.architecture, context.data, recipe, hardware or Hardware()
            )
        )


def plays(name: str | None, elsewhere: Elsewhere | None = None) -> str | None:
    """The task that would be trained for; None where it is images."""
    source = elsewhere or Elsewhere(run=name)
    dataset = source.dataset or ("" if source.architecture else Run.find(source.run).config["dataset"])
    return dataset if is_task(dataset) else None


def _begin(told: Elsewhere, seed: int) -> Context:
    """The run of its own, made or taken up."""
    if told.architecture is not None:
        told = replace(told, architecture=str(find_published_architecture(told.architecture) or told.architecture))
    source = open_run(told.run) if told.architecture is None else None
    config: dict[str, Any] = source.run.config if source else {"dataset": DIGITS, "image_size": None, "seed": seed}
    size = told.image_size or (None if told.dataset else config["image_size"])
    # With the seed of the search, so that its test images are still unseen.
    data = load_dataset(told.dataset or config["dataset"], image_size=size, seed=config["seed"])
    named = source.space.origin if source else said(told.architecture or "").get("space")
    name = told.space or named or default_space(data.image_shape[1], data.origin)
    space = find_space(name, image_shape=data.image_shape, classes=data.classes)
    architecture = _architecture(told.architecture, space, named) if source is None else source.architecture
    architecture = _moved(architecture, space)
    shape = list(space.input_shape)
    content = {
        "method": "none",
        "space": space.origin,
        "architecture": str(architecture),
        "input_shape": shape,
        "classes": space.classes,
        "precision": space.precision,
        "dataset": data.origin,
        "image_size": size,
        "seed": config["seed"],
        "from": str(source.run.path.resolve()) if source else None,
    }
    promised = _promise(source, space) if source else {}
    run = Run.begin(
        RUNS / (told.name or _named(content)), content | {each: promised[each] for each in PROMISE if each in promised}
    )
    if promised:
        run.write_json("result.json", promised)
    saved = {"space": space.name, "version": 1, "choices": list(architecture.choices)}
    run.write_json("architecture.json", {**saved, "input_shape": shape, "classes": space.classes})
    return Context(run, space, architecture, data)


def _promise(source: Context, space: SearchSpace) -> dict[str, Any]:
    """The budget that came with the architecture, for ``export``; none in another space or for other images."""
    same = (space.origin, space.input_shape, space.precision) == (
        source.space.origin,
        source.space.input_shape,
        source.space.precision,
    )
    result = source.run.path / "result.json"
    priced_otherwise = source.run.config.get("priced_input_shape", list(space.input_shape)) != list(space.input_shape)
    if not same or priced_otherwise or "table" not in source.run.config or not result.is_file():
        return {}
    # But for the outputs it is the same network: what is predicted is off by what a class more or less costs.
    found = source.run.read_json("result.json")
    return {each: source.run.config[each] for each in PROMISE} | {
        each: found[each] for each in ("budget_ms", "predicted_ms", "measured_ms")
    }


def _architecture(text: str | None, space: SearchSpace, named: str | None) -> Architecture:
    """What a text or a file says, of its own space."""
    own = space if not named or named in (space.name, space.origin) else find_space(named)
    return own.parse(text or "")


def _moved(architecture: Architecture, space: SearchSpace) -> Architecture:
    """The same choices in another space; raises ``ArchitectureError`` where it has not the same decisions."""
    return space.parse(json.dumps({"space": space.name, "choices": architecture.choices}))


def _named(content: dict[str, Any]) -> str:
    image, network = "x".join(map(str, content["input_shape"])), sha256(content["architecture"].encode()).hexdigest()
    name = f"{Path(content['space']).stem}@{image}-{Path(content['dataset']).stem}-{network[:6]}-s{content['seed']}"
    return re.sub(r"[^\w.@=-]+", "-", name)
