"""Samples come from the distribution that was asked for, and a sample's choice, relaxation and log-probability belong
together, however the relaxation is coupled.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, Coupling

CHOICES = (2, 5, 3)
COUPLINGS: tuple[Coupling, ...] = ("gumbel", "rebar")


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def distribution() -> ArchitectureDistribution:
    made = ArchitectureDistribution(CHOICES)
    with torch.no_grad():
        made.alpha.copy_(torch.randn(3, 5, generator=_generator(1)))
    return made


def _everything() -> Tensor:
    return torch.cartesian_prod(*map(torch.arange, CHOICES))


def test_nothing_is_preferred_at_first() -> None:
    for probs, count in zip(ArchitectureDistribution(CHOICES).probs(), CHOICES, strict=True):
        torch.testing.assert_close(probs.detach(), torch.full((count,), 1 / count, dtype=torch.float64))


@pytest.mark.parametrize("softening", [0.0, 0.08])
def test_the_probabilities_of_all_architectures_add_up_to_one(softening: float) -> None:
    distribution = ArchitectureDistribution(CHOICES, softening=softening)
    with torch.no_grad():
        distribution.alpha.copy_(3 * torch.randn(3, 5, generator=_generator(1)))
    probs = distribution.log_prob(_everything()).exp()
    assert float(probs.sum()) == pytest.approx(1, abs=1e-12)
    rows = distribution.probs()
    for choice, prob in zip(_everything().tolist(), probs.tolist(), strict=True):
        expected = math.prod(float(row[index]) for row, index in zip(rows, choice, strict=True))
        assert prob == pytest.approx(expected, rel=1e-9)


def test_frequencies_of_samples_are_the_probabilities(distribution: ArchitectureDistribution) -> None:
    count = 100_000
    choice = distribution.sample(count, generator=_generator()).choice
    for column, probs in zip(choice.T, distribution.probs(), strict=True):
        seen = torch.bincount(column, minlength=len(probs)) / count
        error = (probs * (1 - probs) / count).sqrt()
        assert bool(((seen - probs).abs() <= 5 * error).all())


def test_decisions_are_independent(distribution: ArchitectureDistribution) -> None:
    count = 100_000
    choice = distribution.sample(count, generator=_generator()).choice
    first, _, third = distribution.probs()
    for a in range(2):
        for c in range(3):
            prob = float(first[a] * third[c])
            seen = float(((choice[:, 0] == a) & (choice[:, 2] == c)).double().mean())
            assert abs(seen - prob) <= 5 * math.sqrt(prob * (1 - prob) / count)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_choices_that_do_not_exist_are_never_drawn_and_have_no_weight(
    distribution: ArchitectureDistribution, coupling: Coupling
) -> None:
    sample = distribution.sample(20_000, generator=_generator(), coupling=coupling)
    assert bool((sample.choice < torch.tensor(CHOICES)).all())
    for decision, count in enumerate(CHOICES):
        assert bool((sample.relaxed[:, decision, count:] == 0).all())


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_relaxation_lies_on_the_simplex_and_prefers_its_choice(
    distribution: ArchitectureDistribution, coupling: Coupling
) -> None:
    sample = distribution.sample(5_000, generator=_generator(), coupling=coupling)
    torch.testing.assert_close(sample.relaxed.sum(2), torch.ones(5_000, 3, dtype=torch.float64))
    assert float(sample.relaxed.min()) >= 0
    assert torch.equal(sample.relaxed.argmax(2), sample.choice)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_sample_knows_the_probability_of_its_choice(
    distribution: ArchitectureDistribution, coupling: Coupling
) -> None:
    sample = distribution.sample(100, generator=_generator(), coupling=coupling)
    torch.testing.assert_close(sample.log_prob, distribution.log_prob(sample.choice))


def test_a_lower_temperature_is_nearer_to_the_choice(distribution: ArchitectureDistribution) -> None:
    warm, cold = (distribution.sample(500, generator=_generator(), tau=tau).relaxed.amax(2) for tau in (1.0, 0.1))
    assert bool((cold >= warm).all()) and float(cold.mean()) > float(warm.mean()) + 0.1


def test_couplings_differ_in_gradients_only(distribution: ArchitectureDistribution) -> None:
    gumbel, rebar = (distribution.sample(200, generator=_generator(), coupling=each) for each in COUPLINGS)
    torch.testing.assert_close(rebar.relaxed, gumbel.relaxed, atol=1e-12, rtol=0)
    assert torch.equal(rebar.choice, gumbel.choice)
    cost = torch.randn(3, 5, dtype=torch.float64, generator=_generator(3))
    plain, corrected = (torch.autograd.grad((s.relaxed * cost).sum(), distribution.alpha)[0] for s in (gumbel, rebar))
    assert not torch.allclose(plain, corrected, atol=1e-3)


def test_gumbels_drawn_again_given_the_choice_are_the_ones_it_was_drawn_with(
    distribution: ArchitectureDistribution,
) -> None:
    """The coupling of REBAR: only then does one forward pass serve all three parts of the estimator."""
    u = torch.rand(1000, 3, 5, dtype=torch.float64, generator=_generator()).clamp(1e-6, 1 - 1e-6)
    log_q = distribution.log_q().masked_fill(~distribution.mask, -1e9)
    g = log_q - torch.log(-torch.log(u))
    again = distribution._conditional(log_q, u, g.argmax(2))
    shared = distribution.mask.expand_as(g)
    torch.testing.assert_close(again[shared], g[shared], atol=1e-6, rtol=1e-6)


def test_the_same_generator_draws_the_same_sample(distribution: ArchitectureDistribution) -> None:
    first, same, other = (distribution.sample(50, generator=_generator(seed)) for seed in (4, 4, 5))
    assert torch.equal(first.relaxed, same.relaxed)
    assert not torch.equal(first.relaxed, other.relaxed)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_gradients_are_finite_even_where_a_decision_has_settled(coupling: Coupling) -> None:
    distribution = ArchitectureDistribution(CHOICES)
    with torch.no_grad():
        distribution.alpha[:, 0] = 60.0
    sample = distribution.sample(500, generator=_generator(), coupling=coupling)
    (grad,) = torch.autograd.grad((sample.relaxed**2).sum() + sample.log_prob.sum(), distribution.alpha)
    assert bool(torch.isfinite(grad).all())


def test_the_mode_is_the_most_probable_architecture(distribution: ArchitectureDistribution) -> None:
    everything = _everything()
    best = int(distribution.log_prob(everything).argmax())
    assert distribution.mode() == tuple(everything[best].tolist())


def test_the_mode_is_never_a_choice_that_does_not_exist() -> None:
    distribution = ArchitectureDistribution(CHOICES)
    with torch.no_grad():
        distribution.alpha[0, 4] = 100.0
        distribution.alpha[0, 1] = 1.0
    assert distribution.mode()[0] == 1


def test_entropy_is_that_of_the_enumerated_distribution(distribution: ArchitectureDistribution) -> None:
    log_probs = distribution.log_prob(_everything())
    assert float(distribution.entropy()) == pytest.approx(float(-(log_probs.exp() * log_probs).sum()), rel=1e-9)
    assert float(ArchitectureDistribution(CHOICES).entropy()) == pytest.approx(math.log(2 * 5 * 3))


def test_softening_keeps_every_choice_alive() -> None:
    eps = 0.08
    distribution = ArchitectureDistribution(CHOICES, softening=eps)
    with torch.no_grad():
        distribution.alpha[:, 0] = 1000.0
    for probs, count in zip(distribution.probs(), CHOICES, strict=True):
        torch.testing.assert_close(probs[1:].detach(), torch.full((count - 1,), eps / (1 + count * eps)).double())
        assert float(probs.sum()) == pytest.approx(1)
    settled = ArchitectureDistribution(CHOICES)
    with torch.no_grad():
        settled.alpha[:, 0] = 1000.0
    assert all(float(probs[1:].max()) == 0 for probs in settled.probs())


def test_paths_are_the_choices_as_tuples(distribution: ArchitectureDistribution) -> None:
    sample = distribution.sample(3, generator=_generator())
    assert sample.paths() == [tuple(row) for row in sample.choice.tolist()]
    assert all(isinstance(index, int) for path in sample.paths() for index in path)
