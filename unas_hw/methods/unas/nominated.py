"""What a search with shared weights nominates for the finals, and what its weights say of thousands of networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from profilers.timing import Floats
from unas_hw.finals.entrants import Nominations, one_hot
from unas_hw.methods.unas.compared import Compared
from unas_hw.search.evidence import WEIGHTS
from unas_hw.search.selection import Path
from unas_hw.terms import Paths

FURTHER = 24
"""Networks that are looked at since a regression expects most of them."""


def nominations(compared: Compared, paths: Sequence[Path], elsewhere: Callable[[Path], Path] | None) -> Nominations:
    """Of networks that were compared, the best first.

    The loss with shared weights is that of a pass for those, and for those of the band that a ridge regression of it on
    the choices, one-hot, expects to be best; of all others what that regression says.

    Args:
        compared: What the search knows.
        paths: That it compared.
        elsewhere: Where networks of the search's space are in that of the finals; nothing is known of others then.
    """
    ranked = compared.ranked(paths)
    if elsewhere is not None:
        return Nominations(paths=list(map(elsewhere, ranked)))
    by = compared.unas.config.ranked_by
    loss, macs, _ = WEIGHTS.get(by, (1, 0, 0))
    weights = {"loss": loss, "macs": macs, "params": 0}

    def scores(paths_NG: Paths) -> Mapping[str, Floats]:
        return {"loss": _losses(compared, [*ranked], paths_NG)}

    return Nominations(paths=ranked, scores=scores, weights=weights)


def _losses(compared: Compared, known: list[Path], paths_NG: Paths) -> Floats:
    """``(N,)``, negative: larger is better."""
    from sklearn.linear_model import Ridge  # takes a second to import

    space, all_paths = compared.unas.space, [tuple(path) for path in paths_NG.tolist()]
    place = {space.running(path): number for number, path in enumerate(all_paths)}
    features = one_hot(paths_NG, space.live(paths_NG))
    expected: Floats = np.zeros(len(all_paths))
    for _ in range(2):
        rows = [place[space.running(path)] for path in known]
        losses = np.array([-float(compared.losses(path).mean()) for path in known])
        expected = np.asarray(Ridge().fit(features[rows], losses).predict(features), float)
        expected[rows] = losses
        best = [all_paths[row] for row in np.argsort(-expected, kind="stable")[:FURTHER]]
        known = list(dict.fromkeys([*known, *best]))
    return expected
