"""Runs: the network that was found, trained, evaluated, exported and verified."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from profilers.files import read_text
from profilers.precision import parse_precision
from profilers.timing import timing_rule
from profilers.units import parse_count
from unas_hw.api.results import Evaluated, Front, Latency, Result, Trained
from unas_hw.api.running import Callback, follow
from unas_hw.api.told import shared_out
from unas_hw.errors import RecipeError, RunError
from unas_hw.jobs.evaluate import Part, evaluate_run
from unas_hw.jobs.export import ExportSettings
from unas_hw.jobs.export import export as exported
from unas_hw.jobs.train import Elsewhere, plays, retrain
from unas_hw.jobs.verify import verify as verified
from unas_hw.meter import FINAL, Meter, Reading
from unas_hw.methods.monas.job import CHILDREN, FRONT
from unas_hw.methods.rl_darts.config import PpoConfig, ppo_for
from unas_hw.network import load_network
from unas_hw.runs import Run
from unas_hw.search.run_folder import CANDIDATES, RESULT
from unas_hw.settings import whole
from unas_hw.space import Architecture
from unas_hw.tasks import find_task
from unas_hw.training import Hardware, Recipe, find_recipe
from unas_hw.verify import Check, Verdict
from unas_hw.verify.artifact import open_network

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import nn

COSTS = {"energy": "energy_mj", "latency": "latency_ms", "macs": "macs", "params": "params"}
"""Columns of what MONAS calls the cost."""


@final
class Found(Result):
    """What a search or a pruning found, and what can be done with it; it lies in a run folder.

    ``feasible``: whether it was measured to keep all budgets. Where no network can, ``run`` and ``architecture`` are
    None; otherwise it is the nearest. ``valid_accuracy`` is None of what nobody has trained yet.
    """

    _shown = ("architecture", "latency", "feasible", "valid_accuracy", "verdict", "run")
    _telltale = "feasible"
    run: str | None
    feasible: bool
    valid_accuracy: float | None

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        _ = self.run and self.path  # now, so that it is found from another folder, too

    @cached_property
    def path(self) -> Path:
        """Of the run folder; raises ``RunError`` where nothing was found."""
        if self.run is None:
            raise RunError(
                f"no network of {self.content['space']} meets the budget, so nothing was found",
                mend="search again with a larger budget; to_json() says what the space has",
            )
        return Path(self.run).resolve()

    @property
    def architecture(self) -> Architecture | None:
        """Its choices."""
        if (text := self.content["architecture"]) is None:
            return None
        space, _, choices = text.rpartition(":")
        return Architecture(space, tuple(choices.split(",")))

    @property
    def latency(self) -> Latency:
        """Predicted, measured, and the budget."""
        return Latency.of(self.content)

    @property
    def control(self) -> Mapping[str, Any] | None:
        """What the search was worth: the accuracy of what it found against random networks and the largest one, see
        docs/finals.md; None where no finals were held.
        """
        return self.content.get("control")

    @property
    def verdict(self) -> str | None:
        """The same in words."""
        return self.control["words"] if self.control else None

    @property
    def front(self) -> Front:
        """The networks that were measured at the end, or of MONAS all children, and which of them are the best."""
        run, budget_ms = Run.open(self.path), self.content["budget_ms"]
        if not (children := run.lines(CHILDREN)):
            rows = run.lines(CANDIDATES) or _readings(run)
            return Front.of_losses(rows, found=self.content["architecture"], budget=budget_ms)
        best = {row["architecture"] for row in csv.DictReader(read_text(self.path / FRONT).splitlines())}
        return Front.of(children, best, cost=COSTS[self.content["cost"]], worth="accuracy", budget=budget_ms)

    def network(self) -> nn.Module:
        """The network in evaluation mode, with the weights of ``train``, or else of the search."""
        run, space, _ = open_network(str(self.path))
        return load_network(run, space)

    def train(self, recipe: str = "short", **settings: Any) -> Trained:
        """Trains the network from scratch; ``export`` ships these weights then. See ``unas_hw.train``."""
        return train(self.path, recipe=recipe, **settings)

    def evaluate(self, **settings: Any) -> Evaluated:
        """What the network is worth on images; see ``unas_hw.evaluate``."""
        return evaluate(self.path, **settings)

    def export(self, format: str | None = None, **settings: Any) -> Exported:
        """Writes the network as a file, verified and measured; see ``unas_hw.export``."""
        return export(self.path, format=format, **settings)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The front, see there."""
        return self.front.plot(ax)


@final
class Exported(Result):
    """A file, what it takes where it runs, and the verdict: whether it is the network and keeps the budget.

    ``budget_missed``: whether nothing else failed than the budget.
    """

    _shown = ("path", "format", "precision", "passed", "latency")
    _telltale = "checks"
    path: str
    format: str
    precision: str
    passed: bool
    budget_missed: bool

    @property
    def latency(self) -> Latency:
        """Predicted, measured, and the budget."""
        return Latency.of(self.content)

    @property
    def verdict(self) -> Verdict:
        """Every check; ``print`` shows them."""

        def number(value: float | None) -> float:
            return math.nan if value is None else value  # JSON has no NaN

        checks = self.content["checks"]
        return Verdict(
            tuple(Check(each["name"], number(each["seen"]), number(each["allowed"]), each["words"]) for each in checks)
        )

    @property
    def found(self) -> Found:
        """The run as it is now: a repair has replaced the network that missed the budget."""
        return load_run(self.content["run"])


def _readings(run: Run) -> list[dict[str, Any]]:
    """What was measured at the end of a run that knows no losses: of one that pruned."""
    found = []
    for line in run.lines(Meter.JOURNAL):
        if line["label"] == FINAL:
            reading = Reading(**{name: line[name] for name in Reading.__dataclass_fields__})
            found.append({"architecture": line["architecture"], "latency_ms": reading.judged_ms})
    return found


def load_run(path: str | Path | None = None) -> Found:
    """What a search or a pruning found.

    Args:
        path: Of the run folder, or its name under ``runs/``; by default the last run.

    Raises:
        RunError: If there is none, or its search has not ended.
    """
    run, _, architecture = open_network(_text(path))
    result = run.read_json(RESULT) if (run.path / RESULT).is_file() else {}
    nothing = {"run": str(run.path), "architecture": str(architecture), "feasible": False, "valid_accuracy": None}
    return Found(nothing | result)


def train(
    run: str | Path | None = None,
    *,
    recipe: str = "short",
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
    **settings: Any,
) -> Trained:
    """Trains a network from scratch: that of a run, the last one by default, or another in a run folder of its own.

    Stopped, the same call goes on where it was. The policy of a run with a task is trained by PPO instead.

    Args:
        run: Its folder, or its name under ``runs/``.
        recipe: ``short``, ``modern``, or published: ``cifar``, ``cifar100``, ``imagenet-darts``, ``imagenet-mbconv``.
        callbacks: What is told of it.
        progress: Whether there is a bar; by default in a terminal and in a notebook.
        settings: Fields of ``unas_hw.training.Recipe`` (``epochs``, ``lr``, ``seed``, ...), by which it differs from
            the recipe; of ``Hardware`` (``device``, ``bf16``, ``channels_last``, ``compile``); of another network
            ``architecture``, ``space``, ``dataset``, ``image_size`` and ``name``, its folder; of a policy ``steps``
            and ``ppo``, a dictionary.

    Raises:
        RecipeError: If there is no such recipe, or it cannot have such a value.
        RunError: If there is no such run, or training diverges.
    """
    told = {name: value for name, value in settings.items() if value is not None}
    played = dict(told.pop("ppo", {}))
    if "steps" in told:
        played["steps"] = whole(parse_count(str(told.pop("steps"))), "steps")
    other, hardware, changes = shared_out(told, Elsewhere, Hardware, Recipe)
    ways, changed = Hardware.choose(**hardware), find_recipe(recipe, **changes)
    if run is not None and "architecture" in other:
        raise RecipeError("--run and --architecture both say what is trained", mend="--name is the new run's folder")
    name = _text(run)
    elsewhere = Elsewhere(run=name, **{**other, "architecture": _text(other.get("architecture"))}) if other else None
    task = plays(name, elsewhere)
    idle = [name for name in ("steps", "ppo") if settings.get(name)] if task is None else changes.keys() - {"seed"}
    for each in idle:
        whose = "the policy of a task" if task is None else "networks for images"
        raise RecipeError(f"--{each.replace('_', '-')} is for {whose}", mend="leave it out")
    (played,) = shared_out(played, PpoConfig)
    ppo = None if task is None else replace(ppo_for(find_task(task), PpoConfig()), **played)
    return follow(retrain(name, changed, ways, elsewhere, ppo), Trained, callbacks, progress)


def evaluate(
    run: str | Path | None = None,
    *,
    dataset: str | None = None,
    split: Part = "test",
    weights: str | None = None,
    device: str | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
) -> Evaluated:
    """What the network of a run is worth on images, with its interval; of a policy its return.

    Args:
        run: Its folder, or its name under ``runs/``; by default the last one.
        dataset: Other images of the same classes; by default those of the run.
        split: ``test``, ``valid`` or ``train``: part of the data set.
        weights: ``train``, ``search`` or the path of a file; by default those of ``train``, if there are any.
        device: ``cpu``, ``gpu`` or ``gpu:1``; by default a GPU where there is one.
        callbacks: What is told of it.
        progress: Whether there is a bar; by default in a terminal and in a notebook.

    Raises:
        RunError: If there is no such run, or no such weights.
        DataError: If the images do not fit.
    """
    where = Hardware.choose(device).device
    job = evaluate_run(_text(run), dataset=dataset, part=split, weights=weights, device=where)
    return follow(job, Evaluated, callbacks, progress)


def export(
    run: str | Path | None = None,
    *,
    format: str | None = None,
    precision: str | None = None,
    batch: str | int | None = None,
    repair: bool | None = None,
    device: str | None = None,
    rounds: int | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
    **settings: Any,
) -> Exported:
    """Writes a run's network as a file, compares it with the network, measures it against the budget.

    Args:
        run: Its folder, or its name under ``runs/``; by default the last one.
        format: ``onnx``, ``tensorrt``, ``openvino``, ``litert``, ``ncnn``, ``torch`` or ``torch-export``; by default
            what the table's runtime runs.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``tf32``; by default the one that was searched for.
        batch: Images at a time that the file takes: ``1``, ``dynamic`` or ``dynamic:1-64``.
        repair: Whether the nearest network that keeps the budget is shipped where the file misses it; by default where
            that costs no training, in the table's runtime and precision.
        device: Where the file is verified and measured; by default the table's.
        rounds: Samples at most.
        callbacks: What is told of it.
        progress: Whether there is a bar; by default in a terminal and in a notebook.
        settings: ``opset`` of ONNX, ``preprocess``, ``capabilities``: see ``unas_hw.jobs.export.ExportSettings``.

    Raises:
        ExportError: If the format has not what is asked for.
        MissingDependencyError: If a library is missing; the mend installs it.
    """
    (more,) = shared_out(settings, ExportSettings)
    precision = precision and parse_precision(precision)
    told = ExportSettings(
        run=_text(run), format=format, precision=precision, batches=_text(batch), repair=repair, device=device, **more
    )
    return follow(exported(told, timing_rule(rounds)), Exported, callbacks, progress)


def verify(
    artifact: str | Path | None = None,
    *,
    run: str | Path | None = None,
    format: str | None = None,
    device: str | None = None,
    rounds: int | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
) -> Exported:
    """Verifies an exported file again, or what a run, the last one by default, has exported last.

    Args:
        artifact: One of its files, with the manifest that ``export`` wrote beside it.
        run: Its folder, or its name under ``runs/``.
        format: Of a run; by default what was exported last.
        device: Where it is run and measured; by default the device of the run's table.
        rounds: Samples at most.
        callbacks: What is told of it.
        progress: Whether there is a bar; by default in a terminal and in a notebook.

    Raises:
        ExportError: If there is no such file, or nothing tells what it should be.
    """
    job = verified(_text(artifact), run=_text(run), format_name=format, device=device, rule=timing_rule(rounds))
    return follow(job, Exported, callbacks, progress)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
