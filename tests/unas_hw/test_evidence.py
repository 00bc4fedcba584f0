"""Evidence: networks in order by several scores, each as it leads by."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import zscore

from unas_hw.data import load_dataset
from unas_hw.resources import Macs
from unas_hw.search import evidence
from unas_hw.search.evidence import Evidence
from unas_hw.space import SearchSpace
from unas_hw.spaces.building import Chain
from unas_hw.zero_cost.proxies import Batch, fresh_network, naswot

PATHS: list[tuple[int, ...]] = [*product(range(3), range(2))]


@pytest.fixture
def space() -> SearchSpace:
    chain = Chain("small", image_size=8, channels=1)
    chain.choose("first", {f"e{e}": chain.mbconv(4, kernel=3, expand=e, stride=1) for e in (1, 2, 6)})
    chain.choose("second", {f"k{k}": chain.mbconv(4, kernel=k, expand=2, stride=1) for k in (3, 5)})
    chain.fixed("classifier", chain.classifier(3))
    return chain.space(3)


@pytest.mark.parametrize(("ranked_by", "weights"), [("loss+macs", (3, 1, 0)), ("evidence", (1, 1, 1))])
def test_scores_count_by_their_weights(space: SearchSpace, npz: Path, ranked_by: str, weights: tuple[int, ...]) -> None:
    data, losses = load_dataset(str(npz)), {path: float(number % 4) for number, path in enumerate(PATHS)}
    asked = []

    def loss(path: tuple[int, ...]) -> torch.Tensor:
        asked.append(path)
        return torch.tensor([losses[path] - 1, losses[path] + 1])

    found = Evidence(space, loss, data, seed=3, ranked_by=ranked_by)
    first = data.train.first(evidence.IMAGES)
    rectifiers = [
        naswot(fresh_network(space, space.architecture(path), 3), Batch(first.x, first.y, 3)) for path in PATHS
    ]
    scores = [[-losses[path] for path in PATHS], Macs(space).values(np.array(PATHS)), rectifiers]
    total = np.array(weights) @ zscore(scores, axis=1)
    wanted = [PATHS[place] for place in np.argsort(-total, kind="stable")]
    assert found.order(PATHS) == wanted
    assert found.order(wanted[::-2]) == wanted[1::2], "as among all that are known"
    assert sorted(asked) == PATHS, "each once"


def test_what_is_no_number_is_as_bad_as_the_worst(
    space: SearchSpace, npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(evidence.WEIGHTS, "loss+macs", (1, 0, 0))
    data = load_dataset(str(npz))

    def order(loss: Callable[[tuple[int, ...]], float]) -> Callable[[list[tuple[int, ...]]], list[tuple[int, ...]]]:
        return Evidence(space, lambda path: torch.tensor(loss(path)), data, 0, "loss+macs").order

    ordered = order(lambda path: float("nan" if path == (0, 0) else sum(path)))
    assert ordered(PATHS) == [(0, 1), (1, 0), (1, 1), (2, 0), (0, 0), (2, 1)]
    nothing = order(lambda _: float("nan"))
    assert nothing(PATHS) == PATHS, "no reason to prefer any"
