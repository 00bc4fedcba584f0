"""The trainings of finals: what a worker is told of each, their weights, and the journal of those that are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path as FilePath
from statistics import fmean
from typing import Any, final

from torch import nn

from unas_hw.finals.plan import Rung
from unas_hw.progress import Job, Step
from unas_hw.search.prepared import Prepared
from unas_hw.search.selection import Path
from unas_hw.training import Recipe
from unas_hw.training.child import save_weights, told_child
from unas_hw.training.workers import Workers, count_of

JOURNAL, FOLDER = "finals.jsonl", "finals"
BATCH_SIZE, BEGUN_LR, FRESH_LR = 64, 2e-3, 4e-3
"""Images a step; learning rates of weights that were trained before, and of new ones."""
PROBES = 2, 2, 10
"""Steps of trainings; the difference of the last two is timed, since the first opens the images."""
Begins = Callable[[Path], nn.Module]
"""The network of these choices with the weights that it shared."""


@final
class Trainings:
    """Of networks of one search, rung by rung: each goes on with the weights that it had after the rung before.

    All see the same images in the same order. A repeat, of another seed, sees them in another, from the first rung on.

    Args:
        prepared: The search; its run keeps a line of every training that is finished, which is not done again.
        begins: Networks with shared weights, which the first rung begins with; None where they are new.
    """

    def __init__(self, prepared: Prepared, begins: Begins | None) -> None:
        self.prepared, self.begins = prepared, begins
        self.known = {_key(line): line for line in prepared.run.lines(JOURNAL)}
        self.folder = prepared.run.path.resolve() / FOLDER
        self._wall = 0.0, 0

    @property
    def seconds(self) -> float:
        """That all of them took, one after the other."""
        return float(sum(line["seconds"] for line in self.known.values()))

    def image_s(self, together: bool) -> float:
        """That an image takes, each as often as it is seen: one worker, or all of them together, who wait for each
        other where few networks are left.
        """
        wall_s, seen = self._wall
        if together and seen:
            return wall_s / seen
        alone_s = self.seconds / float(sum(line["epochs"] * line["images"] for line in self.known.values()))
        return alone_s / count_of(self.prepared.settings.workers) if together else alone_s

    def do(
        self, workers: Workers, wanted: Mapping[tuple[Path, int], str], number: int, rung: Rung, stage: str
    ) -> Job[list[dict[str, Any]]]:
        """A rung of networks and seeds, with what they take part as; their lines of the journal, in order.

        The longest are begun first, so that nobody waits for one that began last.
        """
        keys = {each: (self.name(each[0]), number, each[1]) for each in wanted}
        new = [each for each in wanted if keys[each] not in self.known]
        new.sort(key=lambda each: -self.prepared.model.latency_ms(each[0]))
        told = [self._told(path, number, rung, seed) for path, seed in new]
        yield Step(stage, len(wanted) - len(new), len(wanted))
        begin = time.monotonic()
        for done, (place, answer) in enumerate(workers.train(told), len(wanted) - len(new) + 1):
            name, _, seed = key = keys[new[place]]
            line = {"architecture": name, "role": wanted[new[place]], "rung": number, "seed": seed, **asdict(rung)}
            self.known[key] = {**line, **answer}
            self.prepared.run.append(JOURNAL, self.known[key])
            yield Step(stage, done, len(wanted))
        self._wall = self._wall[0] + time.monotonic() - begin, self._wall[1] + rung.seen * len(new)
        return [self.known[key] for key in keys.values()]

    def name(self, path: Path) -> str:
        """As the journal has it."""
        return str(self.prepared.space.architecture(path))

    def weights(self, path: Path, number: int, seed: int = 0) -> FilePath:
        """A file; of rung -1 that with the shared weights."""
        words = f"{self.name(path)} {number} {seed if number >= 0 else 0}"
        return self.folder / f"{sha256(words.encode()).hexdigest()[:16]}.safetensors"

    def _told(self, path: Path, number: int, rung: Rung, seed: int) -> dict[str, Any]:
        prepared, begun = self.prepared, number > 0 or self.begins is not None
        recipe = Recipe(epochs=rung.epochs, batch_size=BATCH_SIZE, lr=BEGUN_LR if begun else FRESH_LR)
        size, choices = prepared.run.config["image_size"], prepared.space.architecture(path).choices
        told = told_child(prepared.space, prepared.data, size, prepared.settings.seed, choices, recipe)
        told |= {"images": rung.images, "weights": str(self.weights(path, number, seed))}
        told |= {"seed": (prepared.settings.seed * 100 + seed) * 10 + number}
        # Compiling takes longer than such a training.
        told |= {"hardware": {**asdict(prepared.settings.hardware.of_process()), "compile": False}}
        if begun:
            begins = self.weights(path, number - 1, seed)
            if number == 0 and self.begins and not begins.exists():
                save_weights(self.begins(path), begins)
            told["begins"] = str(begins)
        return told

    def step_s(self, workers: Workers, count: int, path: Path) -> tuple[float, float]:
        """Seconds after which all of so many workers have done a step of this network, divided by their number; and
        seconds in which they start.

        They are at it together: workers that share a core are slower than one.
        """
        seconds, begin, started_s = [], time.monotonic(), 0.0
        for steps in PROBES:
            told = self._told(path, 0, Rung(1, steps * BATCH_SIZE), 0)
            del told["weights"]
            seconds.append(fmean(answer["seconds"] for _, answer in workers.train([told] * count)))
            started_s = started_s or time.monotonic() - begin
        return max(seconds[-1] - seconds[-2], 1e-4) / (PROBES[-1] - PROBES[-2]) / count, started_s


def _key(line: Mapping[str, Any]) -> tuple[str, int, int]:
    return line["architecture"], line["rung"], line["seed"]
