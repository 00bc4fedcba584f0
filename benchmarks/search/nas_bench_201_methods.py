"""The methods of ``nas_bench_201``: what each asks next, knowing only what it has asked before."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, final

import numpy as np
import optuna
import torch
from torch import Tensor

from benchmarks.tables.nas_bench_201 import OPS
from profilers.timing import Floats
from unas_hw.budget import Multiplier
from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.estimators import find_estimator
from unas_hw.objectives import ObjectiveTerm
from unas_hw.ops.nas_bench_201 import EDGES, live_edges

PLACES = len(OPS) ** np.arange(len(EDGES))[::-1]
NETWORKS = len(OPS) ** len(EDGES)
PATHS = np.arange(NETWORKS)[:, None] // PLACES % len(OPS)
"""``(networks, 6)``: network number n is row n."""
QUERIES = 1_000
REPEATS = 20
"""Known networks in a row before an unknown one is drawn at random."""


class Spent(Exception):  # noqa: N818 - it ends a run, and nothing is wrong
    """All queries are made."""


@final
class Ledger:
    """What a search may know: networks cost a query the first time they are asked for, and nothing after that.

    Args:
        accuracy: Of all networks, in percent.
        latency_ms: Of all networks.
        budget_ms: Which latency is feasible.
        seed: Of the networks drawn where a method repeats itself.
        repeats: Known networks in a row before one is.

    Attributes:
        known: Whether a network has been asked for.
        order: The networks asked for, in that order.
        forced: How many of them were drawn because of that.
    """

    def __init__(
        self, accuracy: Floats, latency_ms: Floats, budget_ms: float, seed: int, repeats: int = REPEATS
    ) -> None:
        self._accuracy, self._latency_ms = accuracy, latency_ms
        self.budget_ms, self._repeats = budget_ms, repeats
        self.known = np.zeros(len(accuracy), bool)
        self.order: list[int] = []
        self.forced = self._repeated = 0
        self._rng = np.random.default_rng([seed, 1])

    def ask(self, network: int) -> tuple[float, float]:
        """Accuracy and latency; raises ``Spent`` with the last query."""
        if not self.known[network]:
            self._query(network)
        else:
            self._repeated += 1
            if self._repeated == self._repeats:
                self.forced += 1
                self._query(int(self._rng.choice(np.flatnonzero(~self.known))))
        return float(self._accuracy[network]), float(self._latency_ms[network])

    def _query(self, network: int) -> None:
        self._repeated = 0
        self.known[network] = True
        self.order.append(network)
        if len(self.order) == QUERIES:
            raise Spent

    def results(self, networks: Sequence[int]) -> tuple[Floats, Floats]:
        """Accuracies and latencies of networks that are known."""
        assert self.known[networks].all()
        return self._accuracy[networks], self._latency_ms[networks]


Method = Callable[[Ledger, int], None]
"""Asks, from this seed, until the ledger raises ``Spent``."""


def random_search(ledger: Ledger, seed: int) -> None:
    """Without repetition."""
    for network in np.random.default_rng(seed).permutation(NETWORKS).tolist():
        ledger.ask(network)


def evolution(ledger: Ledger, seed: int, population: int = 50, tournament: int = 10) -> None:
    """Regularised evolution (Real et al. 2019): one edge is changed, the oldest dies.

    Feasible networks beat others and each other by accuracy; others beat each other by latency.
    """
    rng = np.random.default_rng(seed)

    def individual(network: int) -> tuple[bool, float, int]:
        accuracy, latency_ms = ledger.ask(network)
        feasible = latency_ms <= ledger.budget_ms
        return feasible, accuracy if feasible else -latency_ms, network

    alive = deque(individual(int(each)) for each in rng.choice(NETWORKS, population, replace=False))
    while True:
        _, _, parent = max(alive[place] for place in rng.choice(population, tournament, replace=False))
        child = PATHS[parent].copy()
        edge = rng.integers(len(EDGES))
        child[edge] = (child[edge] + rng.integers(1, len(OPS))) % len(OPS)
        alive.append(individual(int(child @ PLACES)))
        alive.popleft()


def with_optuna(ledger: Ledger, seed: int, sampler: Callable[..., optuna.samplers.BaseSampler]) -> None:
    """A sampler of Optuna with its defaults and a constraint; repeats are told again, as Optuna's users do."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    edges: dict[str, optuna.distributions.BaseDistribution] = {
        str(edge): optuna.distributions.CategoricalDistribution(OPS) for edge in range(len(EDGES))
    }
    study = optuna.create_study(
        direction="maximize", sampler=sampler(seed=seed, constraints_func=lambda trial: trial.user_attrs["excess"])
    )
    while True:
        trial = study.ask(edges)
        path = np.array([OPS.index(str(trial.params[edge])) for edge in edges])
        accuracy, latency_ms = ledger.ask(int(path @ PLACES))
        trial.set_user_attr("excess", (latency_ms / ledger.budget_ms - 1,))
        study.tell(trial, accuracy)


@final
class Rank(ObjectiveTerm):
    """``log`` of the share of known networks that are at least as accurate: scale-free, and the best count most."""

    name = "the rank of the accuracy"
    gives = frozenset({"discrete"})

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sorted: list[float] = []

    def discrete(self, sample: ArchSample) -> Tensor:
        for accuracy in self._ledger.results(self._ledger.order[len(self._sorted) :])[0].tolist():
            insort(self._sorted, accuracy)
        count = len(self._sorted)
        accuracies, _ = self._ledger.results(_networks(sample))
        shares = [(count - bisect_left(self._sorted, accuracy)) / count for accuracy in accuracies.tolist()]
        return torch.tensor(shares, dtype=torch.float64).log()


@final
class Excess(ObjectiveTerm):
    """``max(0, latency / T - 1)``, with an additive table over live edges that is fitted to the known networks."""

    name = "the latency excess"
    gives = frozenset({"discrete", "expected"})

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        live = live_edges(PATHS != 0)
        parts = [(op == PATHS) & live for op in range(1, len(OPS))]
        self._design = np.column_stack([*parts, np.ones(NETWORKS)]).astype(np.float64)
        self._gram, self._moments = np.eye(self._design.shape[1]), np.zeros(self._design.shape[1])
        self._fitted = 0
        self._table = torch.zeros(NETWORKS, dtype=torch.float64)

    def _excess(self, latency_ms: Floats) -> Tensor:
        return torch.from_numpy(np.maximum(latency_ms / self._ledger.budget_ms - 1, 0))

    def fit(self) -> None:
        """Ridge regression on what is known; before a step, so that it is independent of what the step draws."""
        new = self._ledger.order[self._fitted :]
        rows = self._design[new]
        self._gram += rows.T @ rows
        self._moments += rows.T @ (self._ledger.results(new)[1] - self._ledger.budget_ms)
        self._fitted += len(new)
        self._table = self._excess(self._design @ np.linalg.solve(self._gram, self._moments) + self._ledger.budget_ms)

    def discrete(self, sample: ArchSample) -> Tensor:
        return self._excess(self._ledger.results(_networks(sample))[1])

    def table(self, sample: ArchSample) -> Tensor:
        return self._table[_networks(sample)]

    def expected(self, distribution: ArchitectureDistribution) -> Tensor:
        expected = self._table.reshape((len(OPS),) * len(EDGES))
        for probs in reversed(distribution.probs()):
            expected = expected @ probs
        return expected


def _networks(sample: ArchSample) -> list[int]:
    networks: list[int] = (sample.choice.numpy() @ PLACES).tolist()
    return networks


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a search with one of the project's estimators.

    Attributes:
        estimator: Of the task, by name.
        latency: Of the latency excess, by name.
        count: Networks a step.
        lr: Of Adam on the logits.
        softening: Of the distribution.
        multiplier_rate: Of the budget's dual variable.
        draws: Networks drawn a step, of which the first ``count`` unknown ones are taken.
    """

    estimator: str
    latency: Literal["same", "exact"] = "same"
    count: int = 2
    lr: float = 0.15
    softening: float = 0.005
    multiplier_rate: float = 0.1
    draws: int = 128


def policy(ledger: Ledger, seed: int, settings: Settings) -> None:
    """A distribution over networks that descends ``E[rank] + mu E[excess]``; mu is the budget's dual variable.

    Known networks are drawn again until they are not, so the estimate is that of the distribution over unknown ones;
    where ``draws`` do not suffice, known ones fill the step up.
    """
    generator = torch.Generator().manual_seed(seed)
    distribution = ArchitectureDistribution([len(OPS)] * len(EDGES), softening=settings.softening)
    optimizer = torch.optim.Adam(distribution.parameters(), settings.lr, foreach=False)
    rank, excess = Rank(ledger), Excess(ledger)
    task = find_estimator(settings.estimator, rank, count=settings.count)
    exact = settings.latency == "exact"
    latency = find_estimator("exact" if exact else settings.estimator, excess, count=settings.count)
    multiplier = Multiplier(settings.multiplier_rate)
    while True:
        if exact:
            excess.fit()
        drawn = task.draw(distribution, settings.draws, generator)
        places = _unknown_first(ledger, _networks(drawn))[: settings.count]
        sample = ArchSample(choice=drawn.choice[places], relaxed=drawn.relaxed[places], log_prob=drawn.log_prob[places])
        latencies_ms = [ledger.ask(network)[1] for network in _networks(sample)]
        loss = task.loss(sample, rank, distribution)
        loss = loss + multiplier.value * latency.loss(sample, excess, distribution)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        multiplier.step(float(np.mean(latencies_ms)), ledger.budget_ms)


def _unknown_first(ledger: Ledger, networks: Sequence[int]) -> list[int]:
    """Places, of unknown networks once each and then of all others; otherwise in order."""
    first: dict[int, int] = {}
    for place, network in enumerate(networks):
        if not ledger.known[network]:
            first.setdefault(network, place)
    unknown = set(first.values())
    return [*first.values(), *(place for place in range(len(networks)) if place not in unknown)]


OURS: Mapping[str, Settings] = MappingProxyType(
    {
        "reinforce": Settings(estimator="reinforce", count=1, lr=0.1, softening=0.01),
        "reinforce-loo": Settings(estimator="reinforce-loo"),
        "relax": Settings(estimator="relax", softening=0.03, draws=64),
        "reinforce-loo, exact latency": Settings(estimator="reinforce-loo", latency="exact", softening=0.01),
    }
)
NOMINATED = "reinforce-loo"
OPTUNA: Mapping[str, Method] = MappingProxyType(
    {
        "optuna TPE": partial(with_optuna, sampler=optuna.samplers.TPESampler),
        "optuna NSGA-II": partial(with_optuna, sampler=optuna.samplers.NSGAIISampler),
    }
)
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "random": random_search,
        "evolution": evolution,
        **{name: partial(policy, settings=settings) for name, settings in OURS.items()},
        **OPTUNA,
    }
)
PATIENT = {"evolution": 100}
"""What it takes in the place of ``REPEATS``: random networks do it harm, and its repeats take no time."""
SLOW = ("relax", "reinforce-loo, exact latency", *OPTUNA)
"""Which take seconds a run."""
