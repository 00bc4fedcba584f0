"""Repair: where the exported file misses its budget, the table is corrected and the nearest neighbour is measured."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import nn

from profilers.units import format_ms
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import Reading, TableMeter
from unas_hw.methods.pruning.config import METHOD
from unas_hw.methods.registry import methods
from unas_hw.methods.unas.compared import Compared
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.network import inherit, recalibrate
from unas_hw.progress import Job, Step
from unas_hw.repair.neighbours import aim_ms, neighbours, scale_of
from unas_hw.runs import Run
from unas_hw.search.limits import constraints_of
from unas_hw.search.run_folder import CHECKPOINT, SUBSPACE
from unas_hw.search.selection import Path
from unas_hw.settings import AS_BEFORE
from unas_hw.space import Architecture
from unas_hw.spaces import SUBSET, find_space
from unas_hw.spaces.subspace import Subspace
from unas_hw.verify.artifact import Context

JOURNAL, STATE = "repair.jsonl", "repair.json"
ROUNDS = 4
HEADROOM = 0.02
"""Share of the budget that the first round leaves for the error of predictions; each further round as much again."""
IMAGES = 256
"""That set the statistics of a network that is only measured: its latency does not depend on them."""
TOLD = 3
"""Changed decisions that a note names."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One neighbour, exported and measured.

    Attributes:
        number: From 1.
        architecture: What was measured.
        predicted_ms: By the table as it is.
        corrected_ms: The same times the scale that was known by then.
        measured_ms: Of the file.
        upper_ms: What it does not exceed with the confidence of the budget.
        distance: Decisions that differ from the network that missed.
    """

    number: int
    architecture: Architecture
    predicted_ms: float
    corrected_ms: float
    measured_ms: float
    upper_ms: float
    distance: int

    def to_json(self) -> dict[str, Any]:
        """As a line of the journal."""
        return {**self.__dict__, "architecture": str(self.architecture)}


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What came of it.

    Attributes:
        architecture: Whose file keeps the budget; None if none was found.
        rounds: All neighbours that were measured.
        reason: Why there is none.
        scale: What the table has to be multiplied by: by the file that keeps the budget, or else by all.
        reading: Of that file.
    """

    architecture: Architecture | None
    rounds: tuple[Round, ...]
    reason: str | None
    scale: float
    reading: Reading | None = None


def repaired_scale(run: Run) -> float:
    """What the table's predictions are multiplied by for this run's device; 1 where nothing was repaired."""
    return float(run.read_json(STATE)["scale"]) if (run.path / STATE).is_file() else 1.0


Known = tuple[dict[str, Any] | None, int]
"""What a run had of repairs: the last one, and lines of the journal."""


def known(run: Run) -> Known:
    """What ``forget`` goes back to."""
    return run.read_json(STATE) if (run.path / STATE).is_file() else None, len(run.lines(JOURNAL))


def forget(run: Run, before: Known) -> None:
    """Leaves nothing of what was measured since."""
    state, lines = before
    run.keep_lines(JOURNAL, lines)
    if state:
        run.write_json(STATE, state)
    else:
        (run.path / STATE).unlink(missing_ok=True)


def repair(
    context: Context,
    budget_ms: float,
    first: Reading,
    measure: Callable[[Architecture, nn.Module], Job[Reading]],
    *,
    label: str,
    rounds: int = ROUNDS,
) -> Job[Repaired]:
    """Measures neighbours of a run's network until the file of one keeps the budget; the run's network stays.

    The table stays as it was measured; what was learnt of its scale is kept in the run. A repair that was killed goes
    on: neighbours that it measured are not measured again, and count as rounds.

    Args:
        context: The run.
        budget_ms: What ``upper_ms`` of a reading must not exceed.
        first: Of the run's own file, which missed.
        measure: Exports a network with weights of the supernet and measures that file.
        label: What the files are, such as ``onnx float32``: those of another label are other files.
        rounds: Neighbours that are measured at most.

    Raises:
        RunError: If the search's checkpoint is damaged.
    """
    if lacking := _lacking(context.run, budget_ms, first):
        return Repaired(
            architecture=None, rounds=(), reason=f"{context.run.path} has no neighbours: {lacking}", scale=1.0
        )
    state = _State(context, budget_ms, first, label)
    while not state.fitting and len(state.rounds) < rounds and (path := state.next()) is not None:
        yield Step("repair", len(state.rounds) + 1, rounds, state.note(path))
        reading = yield from measure(state.unas.space.architecture(path), state.network(path))
        state.add(path, reading)
    if state.fitting:
        # A journal of a larger budget may have several; an unused budget is unused accuracy.
        shipped = max(state.fitting, key=lambda each: each.predicted_ms)
        found = Repaired(
            architecture=shipped.architecture,
            rounds=tuple(state.rounds),
            reason=None,
            scale=state.scale,
            reading=state.readings[state.unas.space.indices(shipped.architecture)],
        )
    else:
        found = Repaired(architecture=None, rounds=tuple(state.rounds), reason=state.reason(), scale=state.scale)
    record = {
        "scale": found.scale,
        "from": state.scaled_by(),
        "table_hash": context.table.hash,
        "architecture_before": str(context.architecture),
        "architecture": str(found.architecture) if found.architecture else None,
        "reason": found.reason,
        "label": label,
        "budget_ms": budget_ms,
        "rounds": [each.to_json() for each in found.rounds],
    }
    context.run.write_json(STATE, record)
    return found


def _lacking(run: Run, budget_ms: float, first: Reading) -> str | None:
    """Why the network of this run has no neighbours that could be measured."""
    if run.config.get("table") is None:
        return "it was trained without a search, so no table and no supernet know its neighbours"
    if run.config.get("method") == METHOD:
        told, less = shlex.quote(run.config["space"].removeprefix(SUBSET)), budget_ms**2 / first.upper_ms
        return f"it was pruned; unas-hw prune {told} --latency-budget {less:.3g}ms prunes it further"
    if not _has_supernet(run):
        return f"--method {run.config['method']} trains no network but the one it finds"
    if not (run.path / CHECKPOINT).is_file():
        return f"its search left no {CHECKPOINT}, so no other network has weights"
    return None


def _has_supernet(run: Run) -> bool:
    """Whether UNAS has searched, or ended the search."""
    known = methods().get(run.config["method"])
    return known is not None and UnasConfig.section in (known.config().section, known.config().ends_with)


class _State:
    """A repair under way.

    Attributes:
        unas: The search that found the network, at its end.
        readings: Of all files that were measured, the first one's first.
        rounds: All but the first.
    """

    def __init__(self, context: Context, budget_ms: float, first: Reading, label: str) -> None:
        self.run, self.budget_ms = context.run, budget_ms
        self.unas = searched(context, budget_ms)
        self.compared = Compared(self.unas)
        self.model, self.start = self.unas.model, self.unas.space.indices(context.architecture)
        self.label = {"label": label, "start": str(context.architecture)}
        self.readings: dict[Path, Reading] = {self.start: first}
        self.rounds: list[Round] = []
        for line in self.run.lines(JOURNAL):
            if {name: line[name] for name in self.label} == self.label:
                architecture = self.unas.space.parse(line["architecture"])
                values: dict[str, Any] = {each.name: line[each.name] for each in fields(Round)}
                values["architecture"] = architecture
                self.rounds.append(Round(**values))
                self.readings[self.unas.space.indices(architecture)] = Reading(**line["reading"])

    def predicted_ms(self, path: Path) -> float:
        """By the table as it is."""
        return self.model.latency_ms(path)

    @property
    def scale(self) -> float:
        """Of the table; by the file that ships alone, once there is one: a table may be wrong by more than a factor."""
        fitting = [self.unas.space.indices(each.architecture) for each in self.fitting]
        kept = {path: self.readings[path] for path in fitting} or self.readings
        return scale_of([(self.predicted_ms(path), each.judged_ms) for path, each in kept.items()])

    def scaled_by(self) -> list[dict[str, Any]]:
        """What the scale was learnt from, as plain values."""
        return [
            {"architecture": str(self.unas.space.architecture(path)), "predicted_ms": self.predicted_ms(path)}
            | asdict(reading)
            for path, reading in self.readings.items()
        ]

    @property
    def fitting(self) -> list[Round]:
        return [each for each in self.rounds if each.upper_ms <= self.budget_ms]

    def fits(self, path: Path) -> bool:
        """Whether it keeps all other budgets."""
        return all(each.fits(path) for each in self.unas.constraints)

    def next(self) -> Path | None:
        """The neighbour to measure now.

        By what measurements may be at most, since that is judged. Of the most probable neighbours the one that the
        search would keep.
        """
        seen = [(self.predicted_ms(path), each.upper_ms) for path, each in self.readings.items()]
        log_probs = [probs.detach().log() for probs in self.unas.distribution.probs()]
        # Rounds have to end: each aims lower than the last. All of the budget is better than nothing.
        for headroom in (HEADROOM * len(self.readings), 0.0):
            most_ms = aim_ms(self.budget_ms / (1 + headroom), seen)
            fits = self.fits if self.unas.constraints else None
            found = neighbours(self.model, self.start, log_probs, most_ms, fits=fits, tried=list(self.readings))
            if found:
                return self.compared.best(found)
        # What larger networks say need not hold for the smallest: before giving up it is measured.
        smallest = self.model.smallest
        may_fit = self.predicted_ms(smallest) <= self.budget_ms and self.fits(smallest)
        return smallest if may_fit and smallest not in self.readings else None

    def network(self, path: Path) -> nn.Module:
        """With the weights of the supernet, to be measured."""
        network = self.unas.space.network(self.unas.space.architecture(path))
        inherit(network, self.unas.supernet, path)
        recalibrate(network, self.unas.data.train.first(IMAGES))
        return network

    def add(self, path: Path, reading: Reading) -> None:
        """A round, which is journaled."""
        done = Round(
            number=len(self.rounds) + 1,
            architecture=self.unas.space.architecture(path),
            predicted_ms=self.predicted_ms(path),
            corrected_ms=self.scale * self.predicted_ms(path),
            measured_ms=reading.judged_ms,
            upper_ms=reading.upper_ms,
            distance=len(self._changed(path)),
        )
        self.run.append(JOURNAL, {**self.label, **done.to_json(), "reading": asdict(reading)})
        self.rounds.append(done)
        self.readings[path] = reading

    def note(self, path: Path) -> str:
        """Why this round, and what it changes."""
        last = list(self.readings.values())[-1]
        changed = self._changed(path)
        changes = ", ".join(changed[:TOLD]) + (f" and {len(changed) - TOLD} more" if len(changed) > TOLD else "")
        return (
            f"round {len(self.rounds) + 1}: measured {_measured(last)}, budget {format_ms(self.budget_ms)}: the "
            f"table's scale is x{self.scale:.2f} now; {changes}: {format_ms(self.scale * self.predicted_ms(path))} "
            f"predicted"
        )

    def reason(self) -> str:
        """Why no neighbour keeps the budget."""
        smallest, budget, by = self.model.smallest, format_ms(self.budget_ms), f"corrected table (x{self.scale:.2f})"
        words, smallest_ms = "the smallest network of the space takes", self.scale * self.predicted_ms(smallest)
        if smallest in self.readings:
            return f"{words} {_measured(self.readings[smallest])}, measured: the budget is {budget}"
        if smallest_ms > self.budget_ms:
            return f"{words} {format_ms(smallest_ms)} by the {by}: the budget is {budget}"
        nearest = min(self.readings.values(), key=lambda reading: reading.upper_ms)
        tried = f"the nearest of {len(self.readings)} measured networks takes {_measured(nearest)}"
        if self.next() is None:
            return f"no other network keeps {budget} by the {by} and all other budgets; {tried}"
        return f"{len(self.rounds)} rounds were not enough for the budget of {budget}; {tried}"

    def _changed(self, path: Path) -> list[str]:
        """What differs from the network that missed."""
        pairs = zip(self.unas.space.decisions, self.start, path, strict=True)
        return [f"{each.choices[old]} -> {each.choices[new]} at {each.name}" for each, old, new in pairs if old != new]


def _measured(reading: Reading) -> str:
    return f"{format_ms(reading.judged_ms)} (at most {format_ms(reading.upper_ms)})"


def searched(context: Context, budget_ms: float) -> UnasSearch:
    """The search of a run at its end: supernet and distribution; nothing is trained.

    Raises:
        RunError: If its checkpoint is damaged.
    """
    config, space = context.run.config, context.space
    priced = space
    if "priced_input_shape" in config:
        batch, channels, size, _ = config["priced_input_shape"]
        image, classes = (channels, size, size), config["priced_classes"]
        priced = find_space(space.origin, image_shape=image, classes=classes, batch=batch, precision=space.precision)
    if (context.run.path / SUBSPACE).is_file():  # of a run of RADARS; nothing else has weights
        kept, same = context.run.read_json(SUBSPACE)["kept"], priced is space
        space = Subspace(space, kept)
        priced = space if same else Subspace(priced, kept)
    names = {each.name for each in fields(UnasConfig)} & (config.keys() | AS_BEFORE.keys())
    unas_config = UnasConfig(**{name: context.run.told(name) for name in names})
    model = LatencyModel(priced, context.table, config["percentile"])
    limits = constraints_of(config.get("limits", {}), space, context.table)
    unas = UnasSearch(space, model, TableMeter(model), context.data, budget_ms, unas_config, context.run, limits)
    unas.resume()
    return unas
