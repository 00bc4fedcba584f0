"""Who takes part in the finals: what the search nominates, the largest, the best untrained, and a control group.

All of them are within the budgets, by the table. The control group is drawn at random from the networks that use as
much of the budget as those that a search returns: what chance would have found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from profilers.timing import Floats
from unas_hw.finals.proposer import Proposer
from unas_hw.resources import Macs, Params
from unas_hw.search.band import drawn, most
from unas_hw.search.prepared import Prepared
from unas_hw.search.selection import BAND, Path
from unas_hw.terms import Mask, Paths
from unas_hw.zero_cost.proxies import Batch, fresh_network, naswot

CONTROL, LARGEST, NOMINEE = "control", "largest", "nominee"
POOL, UNTRAINED, IMAGES = 4096, 48, 64
"""Networks of the band that are ranked; of which NASWOT is looked at; images that it looks at."""
SHORT = 600
"""Steps after which a training counts as much as all that was known before.

Chosen on development bands of NAS-Bench-Macro, where the losses after 38 and after 156 steps hardly ranked networks,
and what was known before did: both together were best where that counted eight and four times as much, or more.
"""
Scores = Callable[[Paths], Mapping[str, Floats]]
"""``(N,)`` by name for networks ``(N, G)``, larger is better: what a method knows of networks."""


@final
@dataclass(frozen=True, kw_only=True)
class Nominations:
    """What a method knows before any network was trained on its own.

    Attributes:
        paths: Networks that it would return, the best first.
        scores: What it knows of any; none where it knows nothing.
        weights: Of its scores, of MACs (``macs``) and parameters (``params``) in the ranking; 1 where there is none.
    """

    paths: Sequence[Path]
    scores: Scores = lambda paths_NG: {}
    weights: Mapping[str, float] = field(default_factory=dict)


@final
class Entrants:
    """The pool of one search, in its order: control group, largest, best untrained, and nominees as they are needed.

    Args:
        prepared: The search.
        aim_ms: What networks may take by the table.
        nominated: By the method.
        control: Random networks.

    Attributes:
        roles: Of the networks that take part, by path; in the order in which they began.
    """

    def __init__(self, prepared: Prepared, aim_ms: float, nominated: Nominations, control: int) -> None:
        space, model, seed = prepared.space, prepared.model, prepared.settings.seed
        fits = prepared.fits if prepared.constraints else None
        for low, high in ((BAND * aim_ms, aim_ms), (0.0, aim_ms)):
            pool = drawn(model, low, high, POOL, seed, fits)
            if len(pool) > control:
                break
        same: dict[Path, Path] = {}  # paths that differ in dead operations only are one network

        def one(path: Path) -> Path:
            return same.setdefault(space.running(path), path)

        macs, params = Macs(space), Params(space)
        paths_NG = np.array(pool or [model.smallest])
        self.roles: dict[Path, str] = dict.fromkeys(map(one, pool[:control]), CONTROL)
        self.largest = one(most(model, macs, 0.0, aim_ms, paths_NG, fits) or model.smallest)
        heaviest = one(most(model, params, 0.0, aim_ms, paths_NG, fits) or model.smallest)
        for path, role in ((self.largest, LARGEST), (heaviest, "most parameters")):
            self.roles.setdefault(path, role)
        if pool:
            untrained = self._untrained(prepared, pool[control : control + UNTRAINED] or pool)
            self.roles.setdefault(one(untrained), "untrained")
        self.paths = list(dict.fromkeys([*self.roles, *map(one, pool), *map(one, nominated.paths)]))
        self._place = {path: number for number, path in enumerate(self.paths)}
        paths_NG = np.array(self.paths)
        own = dict(nominated.scores(paths_NG))
        self._scores = {**own, "macs": macs.values(paths_NG), "params": params.values(paths_NG)}
        self._features, self._weights, self._seed = one_hot(paths_NG, space.live(paths_NG)), nominated.weights, seed
        self._nominees = iter([one(path) for path in nominated.paths])

    def _untrained(self, prepared: Prepared, paths: Sequence[Path]) -> Path:
        space, first = prepared.space, prepared.data.train.first(IMAGES)
        batch = Batch(first.x, first.y, prepared.settings.seed)
        return max(paths, key=lambda path: naswot(fresh_network(space, space.architecture(path), batch.seed), batch))

    def join(self, count: int, results: Mapping[Path, float]) -> list[Path]:
        """So many further networks take part, which these are: half of them nominees, half proposed by the model.

        Until there are results, of trainings of one length, the model has nothing to say, and all are nominees.
        """
        proposer, new = self._told(results), list[Path]()
        proposed = proposer.propose(count // 2) if results else []
        for rows in (proposed, None, proposer.propose(count)):
            source = self._nominees if rows is None else (self.paths[row] for row in rows)
            while len(new) < count and (path := next(source, None)) is not None:
                if path not in self.roles:
                    self.roles[path] = NOMINEE
                    new.append(path)
        return new

    def ranked(self, results: Mapping[Path, float], steps: int) -> list[Path]:
        """Networks that were trained for so many steps, the best first: by their results and, the more the shorter
        trainings were, by what was known before.
        """
        proposer = self._told(results)
        rows = [self._place[path] for path in results]
        worth = _standard(proposer.worth()[rows]) + SHORT / max(steps, 1) * _standard(proposer.prior()[rows])
        return [path for _, path in sorted(zip(-worth, results, strict=True))]

    def _told(self, results: Mapping[Path, float]) -> Proposer:
        proposer = Proposer(self._features, self._scores, self._seed + len(results), self._weights)
        for path, worth in results.items():
            proposer.tell(self._place[path], worth)
        return proposer


def _standard(values: Floats) -> Floats:
    spread = values.std()
    standard: Floats = (values - values.mean()) / (spread or 1.0)
    return standard


def one_hot(paths_NG: Paths, live_NG: Mask) -> Floats:
    """``(N, sum K)``: which choices networks run."""
    columns = [
        ((paths_NG[:, g] == choice) & live_NG[:, g]).astype(float)
        for g in range(paths_NG.shape[1])
        for choice in range(int(paths_NG[:, g].max()) + 1)
    ]
    return np.stack(columns, 1)
