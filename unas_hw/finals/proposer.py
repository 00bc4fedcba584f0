"""Which networks are trained at the end of a search, and which of them is best.

First those are trained that several scores agree on, then those of which a model that was fitted to the trainings
expects most. A short training is a noisy witness: what the model says of a network counts as much as its own result,
and a little what is known of it otherwise, since large networks gain most from what a short training leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import final

import numpy as np
import numpy.typing as npt

from profilers.timing import Floats
from unas_hw.finals.surrogate import GP, Surrogate

Rows = npt.NDArray[np.int64]
PRIOR = "prior"
MIN_RESULTS = 8
"""Below which no model is asked."""
MODEL_SHARE, ANY_SHARE = 0.5, 0.25
"""Of a batch, what the model proposes where it may speak, and what is drawn from all: both can be blind."""
OWN_SHARE, PRIOR_SHARE = 0.5, 0.1
"""Of a network's own result in what it is worth beside the model; of the prior, in deviations of the accuracy."""


@final
class Proposer:
    """Which networks of a pool are trained next, and which of those that were is best.

    Half of a batch is what the model expects most of, a quarter is drawn from all, the rest are the best by prior;
    three quarters are where the model does not speak. No network is proposed twice, nor one that looks like a known
    one in all features and scores.

    Args:
        features_NF: Of N networks that may all be the answer, such as choices one-hot; those of like size count alike.
        scores: ``(N,)`` by name; larger is meant to be better, and what is not finite is as bad as the worst.
        seed: Of what is drawn.
        weights: Of the standardised scores in the prior, by name; 1 where there is none.
    """

    def __init__(
        self, features_NF: Floats, scores: Mapping[str, Floats], seed: int, weights: Mapping[str, float] | None = None
    ) -> None:
        standard = {name: _standard(score) for name, score in scores.items()}
        scores_NS = np.column_stack([*standard.values()])
        self._prior = _standard(scores_NS @ np.array([(weights or {}).get(name, 1.0) for name in scores]))
        inputs_NF = np.column_stack([features_NF, scores_NS])
        _, kinds = np.unique(inputs_NF, axis=0, return_inverse=True)
        self._kinds: Rows = kinds.ravel()
        self._rng = np.random.default_rng(seed)
        self._known: dict[int, float] = {}
        self._surrogate = Surrogate(inputs_NF, {**standard, PRIOR: self._prior})
        self._fitted = 0

    def prior(self) -> Floats:
        """``(N,)``, the weighed sum of the standardised scores, standardised."""
        return self._prior

    @property
    def speaks(self) -> str:
        """What is nearest to the known accuracies by leave-one-out: ``gp``, a score, or ``prior``; that until then."""
        self._fit()
        return self._surrogate.speaks if self._fitted else PRIOR

    @property
    def errors(self) -> Mapping[str, float]:
        """Of leave-one-out, of the process and of a line through each score, in the unit of the accuracy."""
        self._fit()
        return self._surrogate.errors

    def propose(self, count: int) -> list[int]:
        """Unknown rows to train next, distinct; fewer if there are no more."""
        free = ~np.isin(self._kinds, self._kinds[[*self._known]])
        rows: list[int] = []
        if self.speaks == GP:
            order = np.argsort(-self._surrogate.mean, kind="stable")
            rows += self._take(order, int(MODEL_SHARE * count), free)
        rows += self._take(self._rng.permutation(len(free)), int(ANY_SHARE * count), free)
        return rows + self._take(np.argsort(-self._prior, kind="stable"), count - len(rows), free)

    def tell(self, row: int, accuracy: float) -> None:
        """The result of a training; what is not finite counts as the worst one."""
        self._known[row] = accuracy
        self._fitted = 0

    def worth(self) -> Floats:
        """``(N,)`` best estimates of the accuracy; of known networks that and their own result, weighed.

        Before the model may speak that is the prior, and the accuracy of those that are known.
        """
        self._fit()
        rows, accuracies = self._results()
        worth = (self._surrogate.mean if self._fitted else self._prior).copy()
        if len(rows):
            own = OWN_SHARE if self.speaks == GP else 1.0
            worth[rows] += own * (accuracies - worth[rows])
        return worth

    def best(self) -> int:
        """The best of the trained networks: the most worth, and the prior counts a little where the model speaks."""
        rows = self._results()[0]
        if not len(rows):
            raise ValueError("no network has been trained yet, so none is best")
        worth = self.worth()[rows]
        if self.speaks == GP:
            worth = worth + PRIOR_SHARE * self._surrogate.unit * self._prior[rows]
        return int(rows[worth.argmax()])

    def _results(self) -> tuple[Rows, Floats]:
        """Known rows and their accuracies."""
        accuracies = np.array([*self._known.values()], float)
        finite = np.isfinite(accuracies)
        worst = accuracies[finite].min() if finite.any() else 0.0
        return np.array([*self._known], np.int64), np.where(finite, accuracies, worst)

    def _fit(self) -> None:
        """Once for the same results."""
        if len(self._known) >= MIN_RESULTS and self._fitted != len(self._known):
            self._surrogate.fit(*self._results())
            self._fitted = len(self._known)

    def _take(self, order: Iterable[int], count: int, free: npt.NDArray[np.bool_]) -> list[int]:
        """The first rows that are free; they, and what is the same, are not free any more."""
        taken: list[int] = []
        for row in order:
            if len(taken) == count:
                break
            if free[row]:
                taken.append(int(row))
                free[self._kinds == self._kinds[row]] = False
        return taken


def _standard(score: Floats) -> Floats:
    """Of mean 0 and variance 1, or all 0; what is no number, or infinite, is as bad as the worst."""
    finite = np.isfinite(score)
    score = np.where(finite, score, score[finite].min() if finite.any() else 0.0)
    standard: Floats = (score - score.mean()) / (score.std() or 1.0)
    return standard
