"""The finals of a search: few networks are trained for real, equally, beside random ones; the best is what ships.

Successive halving over nominees of the search, the largest networks within the budgets, the best by a training-free
score and a control group of random networks, which stays to the end, as the verdict needs it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

from torch import nn

from unas_hw.finals.entrants import CONTROL, NOMINEE, Entrants, Nominations
from unas_hw.finals.plan import REPEATS, SHARE, Finals, Plan, Rung, least_s
from unas_hw.finals.trainings import BATCH_SIZE, BEGUN_LR, FRESH_LR, Begins, Trainings
from unas_hw.finals.verdict import verdict
from unas_hw.progress import Job, Step
from unas_hw.search.prepared import Prepared
from unas_hw.search.selection import Path
from unas_hw.training import Recipe, accuracy, train
from unas_hw.training.child import load_weights
from unas_hw.training.workers import Workers, count_of, many, place_of

PLAN, LAST = "finals.json", "finetune"


@final
class FinalsJob:
    """The finals of one search, from its nominees to the verdict.

    Args:
        prepared: The search.
        aim_ms: What networks may take by the table.
        nominated: By the method.
        begins: Makes a network with the weights that it shared; None where all begin with new ones.
    """

    def __init__(self, prepared: Prepared, aim_ms: float, nominated: Nominations, begins: Begins | None = None) -> None:
        self.prepared, self.nominated, self._aim_ms = prepared, nominated, aim_ms
        self.trainings = Trainings(prepared, begins)
        self.images = len(prepared.data.train)
        self._results: list[dict[Path, float]] = []
        self._starting_s = 0.0

    def halving(self) -> Job[None]:
        """All rungs."""
        prepared = self.prepared
        yield Step("finals", 0, 1)
        self._spent_s = self.trainings.seconds / self._workers - time.monotonic()
        with many(prepared.settings.workers, prepared.settings.ray) as workers:
            self.plan = plan = self._planned(workers)
            self.entrants = entrants = Entrants(prepared, self._aim_ms, self.nominated, plan.control)
            control = [path for path, role in entrants.roles.items() if role == CONTROL]
            yield Step("finals", 0, plan.networks, self._said(len(control)))
            entrants.join(max(plan.first - len(entrants.roles), 1), {})
            yield from self._rung(workers, 0, [*entrants.roles])
            plan = self._fewer()
            entrants.join(max(plan.networks - len(entrants.roles), 0), self._results[0])
            yield from self._rung(workers, 0, [*entrants.roles])
            for number in range(1, len(plan.halvings)):
                best = self._ranked(number - 1)[: plan.survivors(number)]
                yield from self._rung(workers, number, [*dict.fromkeys([*best, *control, entrants.largest])])

    def within(self, most_ms: float) -> list[Path]:
        """Networks that take so long at most by the table, the best first: those that went on longest, then all others
        that the method nominated.
        """
        trained = [path for number in reversed(range(len(self._results))) for path in self._ranked(number)]
        able = dict.fromkeys([*trained, *self.nominated.paths])
        return [path for path in able if self.prepared.model.latency_ms(path) <= most_ms]

    def _rung(self, workers: Workers, number: int, paths: Sequence[Path]) -> Job[None]:
        rung, wanted = self._length_of(number), {(path, 0): self.entrants.roles[path] for path in paths}
        stage = f"finals, rung {number + 1} of {len(self.plan.halvings)}"
        lines = yield from self.trainings.do(workers, wanted, number, rung, stage)
        results = [-math.inf if line["loss"] is None else -line["loss"] for line in lines]
        self._results[number:] = [dict(zip(paths, results, strict=True))]

    def _ranked(self, number: int) -> list[Path]:
        steps = sum(rung.seen for rung in self.plan.rungs[: number + 1]) // BATCH_SIZE
        return self.entrants.ranked(self._results[number], steps)

    def closing(self, path: Path) -> Job[tuple[nn.Module, float, dict[str, Any]]]:
        """Trains what ships again, with fresh seeds, for the verdict, and then to the end.

        Returns:
            The network, its accuracy on the validation images, and further keys of the result.
        """
        prepared, halvings = self.prepared, self.plan.halvings
        role, lines = self.entrants.roles.get(path, NOMINEE), list[dict[str, Any]]()
        with many(prepared.settings.workers, prepared.settings.ray) as workers:
            for number, rung in enumerate(halvings):
                wanted = {(path, seed): role for seed in range(1, REPEATS + 1)}
                stage = f"finals, repeats of rung {number + 1}"
                lines = yield from self.trainings.do(workers, wanted, number, rung, stage)
        network, valid_accuracy = yield from self._to_the_end(path)
        first = [
            line for line in self.trainings.known.values() if line["rung"] == len(halvings) - 1 and not line["seed"]
        ]
        largest = self.trainings.name(self.entrants.largest)
        found = verdict(
            [line["accuracy"] for line in lines],
            [[line["accuracy"]] for line in first if line["role"] == CONTROL],
            [line["accuracy"] for line in first if line["architecture"] == largest],
            images=len(prepared.data.valid),
            winner_is="control" if role == CONTROL else "largest" if path == self.entrants.largest else "nominee",
        )
        shutil.rmtree(self.trainings.folder, ignore_errors=True)
        finals = {
            **self.plan.as_json(),
            "networks": len(self._results[0]),
            "trainings": len(self.trainings.known),
            "training_s": self.trainings.seconds,
        }
        return network, valid_accuracy, {"finals": finals, "control": found.as_json()}

    def _to_the_end(self, path: Path) -> Job[tuple[nn.Module, float]]:
        """Goes on with the weights of the last rung that the network has reached."""
        prepared, last = self.prepared, len(self.plan.halvings)
        hardware, seed = prepared.settings.hardware.of_process(), prepared.settings.seed
        with hardware.seeded(seed):
            network = prepared.space.network(prepared.space.architecture(path))
        places = (self.trainings.weights(path, number) for number in reversed(range(-1, last)))
        begins = next((place for place in places if place.exists()), None)
        if begins is not None:
            load_weights(network, begins)
        rung = self._length_of(last)
        lr = FRESH_LR if begins is None else BEGUN_LR
        recipe = Recipe(epochs=rung.epochs, batch_size=BATCH_SIZE, lr=lr, seed=seed)
        for metrics in train(network, prepared.data.train.first(rung.images), recipe, prepared.run, LAST, hardware):
            yield Step("train to the end", metrics["epoch"], recipe.epochs, epoch=metrics)
        with hardware.holding(network):
            return network, accuracy(network, prepared.data.valid)

    def _planned(self, workers: Workers) -> Plan:
        """As it was when the finals began; or made now."""
        run, settings = self.prepared.run, self.prepared.settings
        if (run.path / PLAN).exists():
            return Plan.of(run.read_json(PLAN))
        asked, begun = Finals.parse(settings.ends), self.trainings.begins is not None
        if asked.networks is not None:
            plan = Plan.counted(asked.networks, begun, self.images, BATCH_SIZE)
        else:
            spent_s = time.monotonic() - self.prepared.begin
            step_s, self._starting_s = self.trainings.step_s(workers, self._workers, self.nominated.paths[0])
            seconds = asked.seconds or max(SHARE * spent_s, least_s(step_s, begun))
            plan = replace(Plan.timed(self._left_s(seconds), step_s, begun, self.images, BATCH_SIZE), seconds=seconds)
        run.write_json(PLAN, plan.as_json())
        return plan

    def _fewer(self) -> Plan:
        """The plan with fewer networks, where those that have begun took longer than was thought."""
        if self.plan.seconds is not None and len(self.trainings.known) <= len(self.entrants.roles):
            able = self._left_s(self.plan.seconds) / self.trainings.image_s(together=True)
            self.plan = self.plan.fewer(len(self.entrants.roles), able)
            self.prepared.run.write_json(PLAN, self.plan.as_json())
        return self.plan

    def _length_of(self, number: int) -> Rung:
        """Of a rung, or of the last training; where there is a time, what is left of it says."""
        plan = self.plan
        if number >= plan.begun:
            if plan.seconds is not None:
                together = number < len(plan.halvings)
                able = self._left_s(plan.seconds, together) / self.trainings.image_s(together)
                plan = plan.fitted(number, able, self.images, BATCH_SIZE)
            self.plan = plan = replace(plan, begun=number + 1)
            self.prepared.run.write_json(PLAN, plan.as_json())
        return plan.rungs[number]

    def _left_s(self, seconds: float, repeats: bool = True) -> float:
        """Of so many; without those in which workers start again, where repeats are to come."""
        return max(seconds - self._spent_s - time.monotonic() - self._starting_s * repeats, 0.0)

    @property
    def _workers(self) -> int:
        return count_of(self.prepared.settings.workers)

    def _said(self, control: int) -> str:
        plan, settings = self.plan, self.prepared.settings
        rungs = ", ".join(
            f"{rung.epochs} epoch(s)" + (f" of {rung.images} images" if rung.images < self.images else "")
            for rung in plan.halvings
        )
        begin = "shared weights" if self.trainings.begins else "new weights"
        return (
            f"finals: {plan.networks} networks, {control} of them random, from {begin}, are trained for {rungs} in "
            f"{place_of(settings.workers, settings.ray)}"
        )
