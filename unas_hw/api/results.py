"""What the functions of the face return: frozen objects that show themselves, and are files and tables when asked."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np

from profilers.errors import MissingDependencyError
from profilers.files import as_plain, read_text, write_atomic
from profilers.units import format_ms
from unas_hw.errors import ConfigurationError
from unas_hw.search.front import front

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def axes(given: Axes | None) -> Axes:
    """Where to draw; raises ``MissingDependencyError`` without matplotlib."""
    if given is not None:
        return given
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingDependencyError(
            "plots are drawn by matplotlib, which is not installed", mend="pip install 'unas-hw[plot]'"
        ) from None
    return pyplot.subplots(layout="constrained")[1]


def html_of(title: str, pairs: Mapping[str, object]) -> str:
    """A small table, with everything in it escaped."""
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in pairs.items())
    return f"<table><caption>{escape(title)}</caption>{''.join(rows)}</table>"


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a job says; equal to another of its kind that says the same.

    Attributes:
        content: By the keys of ``docs/json.md``, each of which is an attribute too.
    """

    content: Mapping[str, Any]
    _shown: ClassVar[tuple[str, ...]] = ()
    _telltale: ClassVar[str]

    if not TYPE_CHECKING:  # which knows the attributes that a class names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name not in self.content:
                raise AttributeError(f"{type(self).__name__} has no {name!r}")
            return self.content[name]

    def to_json(self) -> dict[str, Any]:
        """What the command line prints with ``--json``."""
        plain: dict[str, Any] = as_plain(self.content)
        return plain

    def to_pandas(self) -> pd.DataFrame:
        """One row, with a column for every key of ``to_json``: ``pandas.concat`` makes a table of several results."""
        import pandas as pd

        return pd.DataFrame([self.to_json()])

    def save(self, path: str | Path) -> Path:
        """Writes ``to_json`` to a file, which ``load`` reads again."""
        write_atomic(Path(path), json.dumps(self.to_json(), indent=2) + "\n")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What ``save`` wrote, or a command with ``--json`` printed; raises ``FileError`` or ``ConfigurationError``."""
        try:
            content = json.loads(read_text(Path(path)))
        except json.JSONDecodeError:
            content = None
        if not isinstance(content, dict) or cls._telltale not in content:
            mend = f"give a file that {cls.__name__}.save wrote"
            raise ConfigurationError(f"{path} holds no {cls.__name__}", mend=mend)
        return cls(content)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Result) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # it holds dictionaries

    def _summary(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self._shown if name in (*self.content, *vars(type(self)))}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self._summary().items())})"

    def _repr_html_(self) -> str:
        return html_of(type(self).__name__, self._summary())


@final
@dataclass(frozen=True)
class Latency:
    """What a network takes, and what it may take.

    Attributes:
        predicted_ms: By the table.
        measured_ms: What is judged against the budget; None where only a published table knows the device.
        budget_ms: Of a search without a budget twice what the largest network takes.
    """

    predicted_ms: float | None = None
    measured_ms: float | None = None
    budget_ms: float | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Latency:
        """As a result has it."""
        return cls(*(content.get(name) for name in cls.__dataclass_fields__))

    def __str__(self) -> str:
        known = {"measured": self.measured_ms, "predicted": self.predicted_ms, "budget": self.budget_ms}
        return ", ".join(f"{name} {format_ms(ms)}" for name, ms in known.items() if ms is not None)


@final
class Predicted(Result):
    """The latency of a network that was not measured, and what else it costs; no latency where there is no table."""

    _shown = ("architecture", "predicted_ms", "interval", "coverage", "params", "macs")
    _telltale = "coverage"
    architecture: str
    predicted_ms: float | None
    low_ms: float | None
    high_ms: float | None
    coverage: float
    params: int
    macs: int

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """Milliseconds between which such a network lies with 90% confidence."""
        return self.low_ms, self.high_ms


@final
class Evaluated(Result):
    """What a network is worth on images, see ``evaluate`` in ``docs/json.md``; of a policy ``test_return`` instead."""

    _shown = ("architecture", "top1", "interval_95", "test_return", "test_interval")
    _telltale = "weights"
    architecture: str
    top1: float
    interval_95: Sequence[float]
    test_return: float


@final
class Trained(Result):
    """A network that was trained from scratch, and what it is worth on images that it had never seen.

    Of a policy there is ``test_return`` instead of the accuracy; ``test_interval`` is of either.
    """

    _shown = ("run", "architecture", "test_accuracy", "test_return", "test_interval")
    _telltale = "hardware"
    run: str
    architecture: str
    test_accuracy: float
    test_return: float
    test_interval: Sequence[float]


@final
class Front(Result):
    """Networks that a search knows the cost and the worth of, and which of them no other beats in both.

    Attributes:
        rows: Of every network ``architecture``, ``on_front`` and what is known of it.
        cost: Which value is the cost: the less, the better.
        worth: Which says how good it is: ``accuracy``, or ``valid_loss``, of which less is better; None where it is not
            known of several networks, and only the one that was found is on the front.
        budget: What the cost must not exceed; None where that is no latency.
    """

    _telltale = "rows"
    rows: Sequence[Mapping[str, Any]]
    cost: str
    worth: str | None
    budget: float | None

    @classmethod
    def of(
        cls, rows: Sequence[Mapping[str, Any]], best: Collection[str], *, cost: str, worth: str | None, budget: float
    ) -> Front:
        """Rows with ``architecture``, of which the best are on the front."""
        marked = [{**row, "on_front": row["architecture"] in best} for row in rows]
        return cls({"rows": marked, "cost": cost, "worth": worth, "budget": budget if cost == "latency_ms" else None})

    @classmethod
    def of_losses(cls, rows: Sequence[Mapping[str, Any]], *, found: str, budget: float) -> Front:
        """Of latencies and validation losses, of which those that are known are compared."""
        known = [row for row in rows if row.get("valid_loss") is not None]
        points = np.array([(-row["valid_loss"], -row["latency_ms"]) for row in known])
        best = {known[place]["architecture"] for place in front(points)} if known else {found}
        return cls.of(rows, best, cost="latency_ms", worth="valid_loss" if known else None, budget=budget)

    def __len__(self) -> int:
        """How many are on the front."""
        return sum(row["on_front"] for row in self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """A row for every network, the least costly first; the front is ``frame[frame.on_front]``."""
        import pandas as pd

        return pd.DataFrame(list(self.rows)).sort_values(self.cost, ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Every network by cost and worth, the front as a line; needs matplotlib."""
        ax, frame, worth = axes(ax), self.to_pandas(), self.worth or "network"
        frame = frame.assign(network=frame.index)
        best = frame[frame["on_front"]]
        ax.plot(frame[self.cost], frame[worth], "o", markersize=4, color="tab:gray", label="measured")
        ax.plot(best[self.cost], best[worth], "o-", color="tab:red", label="front" if self.worth else "found")
        if self.budget is not None:
            ax.axvline(self.budget, color="tab:blue", linestyle="--", label="budget")
        ax.set(xlabel=self.cost, ylabel=worth)
        ax.legend()
        return ax

    def _summary(self) -> dict[str, object]:
        return {"networks": len(self.rows), "on the front": len(self), "cost": self.cost, "worth": self.worth}
