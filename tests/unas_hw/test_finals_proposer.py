"""The proposer of finals: better networks than at random for as many trainings, and no model that knows less than MACs.

The pool is made up: five choices of four, whose accuracy is a sum of effects, an interaction, and noise of a training.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from profilers.timing import Floats
from unas_hw.finals.proposer import MIN_RESULTS, Proposer

CHOICES = np.array([*product(range(4), repeat=5)])
ONE_HOT = (CHOICES[:, :, None] == np.arange(4)).reshape(len(CHOICES), -1).astype(float)
EFFECTS = np.random.default_rng(0).normal(size=ONE_HOT.shape[1])
TRUE: Floats = 80 + ONE_HOT @ EFFECTS + 2 * (CHOICES[:, 0] == CHOICES[:, 1])
NOISY: Floats = TRUE + np.random.default_rng(1).normal(size=len(TRUE))
MACS: Floats = TRUE + np.random.default_rng(2).normal(scale=5, size=len(TRUE))


def trained(proposer: Proposer, count: int, results: Floats = NOISY) -> list[int]:
    rows = list[int]()
    while len(rows) < count:
        batch = proposer.propose(min(8, count - len(rows)))
        for row in batch:
            proposer.tell(row, float(results[row]))
        rows += batch
    return rows


def regret(row: int) -> float:
    return float(TRUE.max() - TRUE[row])


def test_better_than_random_ones_and_than_the_prior_for_as_many_trainings() -> None:
    best, by_prior = set(np.argsort(-TRUE)[:20].tolist()), set(np.argsort(-MACS)[:48].tolist())
    found, at_random, trained_of_best = list[float](), list[float](), list[int]()
    for seed in range(4):
        proposer = Proposer(ONE_HOT, {"macs": MACS}, seed)
        rows = set(trained(proposer, 48))
        assert len(rows) == 48
        assert proposer.speaks == "gp"
        found.append(regret(proposer.best()))
        trained_of_best.append(len(best & rows))
        drawn = np.random.default_rng(seed).choice(len(TRUE), 48, replace=False)
        at_random.append(regret(drawn[NOISY[drawn].argmax()]))
    assert np.mean(found) < 0.5 * np.mean(at_random)
    assert np.mean(trained_of_best) > 1.25 * len(best & by_prior)


def test_the_model_is_nearer_to_the_truth_than_the_trainings_are() -> None:
    proposer = Proposer(ONE_HOT, {"macs": MACS}, 0)
    rows = trained(proposer, 96)
    worth = proposer.worth()
    assert np.mean((worth[rows] - TRUE[rows]) ** 2) < 0.8 * np.mean((NOISY[rows] - TRUE[rows]) ** 2)
    assert np.corrcoef(worth, TRUE)[0, 1] > np.corrcoef(MACS, TRUE)[0, 1] + 0.1, "of unknown ones too"


def test_a_model_that_macs_beat_does_not_speak() -> None:
    """The features say nothing, and accuracies are those that the score says, but for the noise."""
    rng = np.random.default_rng(0)
    nothing = rng.normal(size=(200, 30)) * 3
    macs = rng.normal(size=200)
    results = 80 + macs + rng.normal(scale=0.1, size=200)
    proposer = Proposer(nothing, {"macs": macs, "other": rng.normal(size=200)}, 0)
    for row in range(MIN_RESULTS):
        assert proposer.speaks == "prior"
        proposer.tell(row, float(results[row]))
    assert proposer.speaks == "macs"
    assert proposer.errors["macs"] < proposer.errors["gp"]
    assert proposer.best() == results[:MIN_RESULTS].argmax()
    assert np.corrcoef(proposer.worth(), macs)[0, 1] > 0.99


def test_before_any_result_the_best_by_prior_are_proposed_and_some_of_any() -> None:
    proposer = Proposer(ONE_HOT, {"macs": MACS, "params": -MACS}, 0, weights={"params": 0.0})
    assert np.argsort(proposer.prior()).tolist() == np.argsort(MACS).tolist()
    proposed = proposer.propose(16)
    assert set(np.argsort(-MACS)[:12].tolist()) <= set(proposed)
    assert not set(np.argsort(-MACS)[:100].tolist()) >= set(proposed), "and some of any"
    with pytest.raises(ValueError, match="no network has been trained"):
        proposer.best()


def test_a_seed_gives_the_same_proposals_and_another_one_others() -> None:
    first, again, other = (trained(Proposer(ONE_HOT, {"macs": MACS}, seed), 32) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_what_is_the_same_network_is_trained_once_and_all_are_proposed_in_the_end() -> None:
    twice = np.repeat(ONE_HOT[:20], 2, axis=0)
    proposer = Proposer(twice, {"macs": np.repeat(MACS[:20], 2)}, 0)
    rows = trained(proposer, 16, np.repeat(NOISY[:20], 2))
    rows += proposer.propose(10)
    assert sorted(row // 2 for row in rows) == [*range(20)]


def test_scores_and_results_that_are_no_numbers_are_the_worst() -> None:
    macs = MACS.copy()
    macs[[0, 1, 2]] = np.nan, np.inf, -np.inf
    proposer = Proposer(ONE_HOT, {"macs": macs, "nothing": np.full(len(macs), np.nan)}, 0)
    assert np.isfinite(proposer.prior()).all()
    assert set(proposer.prior()[:3]) == {proposer.prior().min()}
    rows = trained(proposer, 15)
    proposer.tell(proposer.propose(1)[0], float("nan"))
    assert np.isfinite(proposer.worth()).all()
    assert proposer.best() in rows


def test_equal_results_are_no_ground_to_fail() -> None:
    proposer = Proposer(ONE_HOT, {"macs": np.ones(len(MACS))}, 0)
    trained(proposer, 16, np.full(len(MACS), 10.0))
    assert np.allclose(proposer.worth(), 10) or proposer.speaks == "prior"
