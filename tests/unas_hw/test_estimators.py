"""Estimators are held to the exact gradient, on a space small enough to enumerate and a cost that is no sum over its
decisions: the unbiased ones are unbiased, the biased one is not, and knowing the table makes gradients quieter.

Every comparison is with the estimate's own standard error, from gradients of independent chunks of samples.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.errors import EstimatorError
from unas_hw.estimators import (
    ESTIMATORS,
    Estimator,
    find_estimator,
)
from unas_hw.estimators.base import exact_gradient
from unas_hw.estimators.rebar import rebar_loss
from unas_hw.estimators.reinforce import MovingAverage, reinforce_loss
from unas_hw.estimators.table import exact_residual_loss
from unas_hw.objectives import LatencyExcess, ObjectiveTerm, TaskLoss

CHOICES = (2, 4, 3)
CHUNKS, CHUNK = 200, 1000


def _distribution(softening: float = 0.0) -> ArchitectureDistribution:
    distribution = ArchitectureDistribution(CHOICES, softening=softening)
    with torch.no_grad():
        distribution.alpha.copy_(0.7 * torch.randn(3, 4, generator=torch.Generator().manual_seed(5)))
    return distribution


COST_ABC = torch.randn(CHOICES, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 2.0


class Toy(ObjectiveTerm):
    """A cost with interactions of all orders; its relaxation is no mean over choices, its table a part of it."""

    name = "the toy cost"
    gives = frozenset({"discrete", "relaxed", "unrolled", "expected"})

    def __init__(self, cost_ABC: Tensor = COST_ABC, table_ABC: Tensor | None = None) -> None:
        self.cost_ABC = cost_ABC
        self.table_ABC = cost_ABC.mean((1, 2), keepdim=True).expand_as(cost_ABC) if table_ABC is None else table_ABC

    def of(self, choice: Tensor) -> Tensor:
        return self.cost_ABC[tuple(choice.T)]

    def discrete(self, sample: ArchSample) -> Tensor:
        return self.of(sample.choice)

    def relaxed(self, sample: ArchSample) -> Tensor:
        a, b, c = (sample.relaxed[:, g, :count] for g, count in enumerate(CHOICES))
        linear = torch.einsum("na,nb,nc,abc->n", a, b, c, self.cost_ABC)
        return linear + (a**2).sum(1) - 1  # the same where a is one-hot

    def unrolled(self, sample: ArchSample) -> Tensor:
        return 2 * self.relaxed(sample)

    def expected(self, distribution: ArchitectureDistribution) -> Tensor:
        return torch.einsum("a,b,c,abc->", *distribution.probs(), self.table_ABC)

    def table(self, sample: ArchSample) -> Tensor:
        return self.table_ABC[tuple(sample.choice.T)]


def _gradients(
    name: str, term: ObjectiveTerm, distribution: ArchitectureDistribution, chunks: int = CHUNKS, chunk: int = CHUNK
) -> Tensor:
    """``(chunks, G, K)`` estimates from independent chunks, with the baseline that the estimator keeps itself."""
    estimator = find_estimator(name, term)
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(chunks):
        loss = estimator.loss(estimator.draw(distribution, chunk, generator), term, distribution)
        found.append(torch.autograd.grad(loss, distribution.alpha)[0])
    return torch.stack(found)


def _assert_unbiased(gradients: Tensor, exact: Tensor) -> None:
    error = gradients.std(0) / len(gradients) ** 0.5
    assert float(error.max()) < 0.05 * float(exact.abs().max())  # so quiet that a wrong factor would show
    assert bool(((gradients.mean(0) - exact).abs() <= 5 * error + 1e-9).all())


UNBIASED = ("reinforce-plain", "reinforce", "reinforce-loo", "rebar", "relax", "exact")


@pytest.mark.parametrize("name", UNBIASED)
@pytest.mark.parametrize("softening", [0.0, 0.08])
def test_the_estimate_is_unbiased(name: str, softening: float) -> None:
    distribution, term = _distribution(softening), Toy()
    _assert_unbiased(_gradients(name, term, distribution), exact_gradient(distribution, term.of))


@pytest.mark.parametrize("baseline", [0.0, 2.0, -3.0])
def test_any_constant_baseline_leaves_reinforce_unbiased(baseline: float) -> None:
    distribution, term, generator = _distribution(), Toy(), torch.Generator().manual_seed(1)
    found = []
    for _ in range(CHUNKS):
        sample = distribution.sample(CHUNK, generator=generator, coupling="gumbel")
        loss = reinforce_loss(sample, term.discrete(sample), baseline)
        found.append(torch.autograd.grad(loss, distribution.alpha)[0])
    _assert_unbiased(torch.stack(found), exact_gradient(distribution, term.of))


@pytest.mark.parametrize("tables_share", [0.0, 1.0, -2.0])
def test_any_table_leaves_the_exact_expectation_with_residual_unbiased(tables_share: float) -> None:
    distribution, term = _distribution(), Toy(table_ABC=tables_share * COST_ABC.mean(0, keepdim=True).expand(CHOICES))
    _assert_unbiased(_gradients("exact", term, distribution), exact_gradient(distribution, term.of))


def test_a_table_that_knows_everything_leaves_no_noise() -> None:
    distribution, term = _distribution(), Toy(table_ABC=COST_ABC)
    gradients = _gradients("exact", term, distribution, chunks=3, chunk=2)
    exact = exact_gradient(distribution, term.of)
    torch.testing.assert_close(gradients, exact.expand_as(gradients), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["darts", "gumbel", "straight-through", "binary-gates"])
def test_what_says_that_it_is_biased_is(name: str) -> None:
    distribution, term = _distribution(), Toy()
    gradients, exact = _gradients(name, term, distribution), exact_gradient(distribution, term.of)
    error = gradients.std(0) / CHUNKS**0.5
    bias = (gradients.mean(0) - exact).abs()
    assert bool((bias > 10 * error).any())
    assert float(bias.max()) > 0.1 * float(exact.abs().max())


@pytest.mark.parametrize("name", ["straight-through", "binary-gates"])
def test_the_forward_pass_of_straight_through_sees_the_sampled_network(name: str) -> None:
    distribution, term = _distribution(), Toy()
    sample = find_estimator(name, term).draw(distribution, 20, torch.Generator().manual_seed(0))
    onehot = torch.nn.functional.one_hot(sample.choice, 4).double()
    torch.testing.assert_close(sample.relaxed.detach(), onehot, atol=1e-12, rtol=0)
    torch.testing.assert_close(term.relaxed(sample), term.discrete(sample))


def test_binary_gates_have_the_published_gradient() -> None:
    distribution, term = _distribution(), Toy()
    estimator = find_estimator("binary-gates", term)
    sample = estimator.draw(distribution, 1, torch.Generator().manual_seed(0))
    (seen,) = torch.autograd.grad(estimator.loss(sample, term, distribution), distribution.alpha)
    gates = torch.nn.functional.one_hot(sample.choice, 4).double().requires_grad_()
    cost = term.relaxed(ArchSample(choice=sample.choice, relaxed=gates, log_prob=sample.log_prob)).sum()
    (slope,) = torch.autograd.grad(cost, gates)
    p = distribution.log_q().exp().detach()
    wanted = p * (slope[0] - (p * slope[0]).sum(1, keepdim=True))  # sum_j dL/dg_j p_j (1[i=j] - p_i)
    torch.testing.assert_close(seen, wanted)


def test_darts_sees_the_mixture_of_all_networks_and_has_no_noise() -> None:
    distribution, term = _distribution(), Toy()
    gradients = _gradients("darts", term, distribution, chunks=3, chunk=1)
    q = distribution.log_q().exp()
    mixture = ArchSample(choice=torch.zeros(1, 3, dtype=torch.long), relaxed=q[None], log_prob=torch.zeros(1))
    (wanted,) = torch.autograd.grad(term.relaxed(mixture).sum(), distribution.alpha)
    torch.testing.assert_close(gradients, wanted.expand_as(gradients))
    torch.testing.assert_close(_gradients("darts-second-order", term, distribution, 1, 1)[0], 2 * wanted)


def test_annealing_goes_from_the_first_temperature_to_the_last() -> None:
    estimator = find_estimator("gumbel", Toy(), tau=5.0, tau_end=0.05)
    assert [estimator.temperature(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([5.0, 0.5, 0.05])
    assert find_estimator("gumbel", Toy(), tau=0.4).temperature(0.9) == pytest.approx(0.4)
    gdas = find_estimator("straight-through", Toy(), tau=10.0, tau_end=0.1, tau_falls="linearly")
    assert [gdas.temperature(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([10.0, 5.05, 0.1])


@pytest.mark.slow
def test_a_learned_surrogate_makes_gradients_quieter_and_is_kept_in_the_state() -> None:
    distribution, term = _distribution(), Toy(COST_ABC + 10)  # far from zero, where plain REINFORCE is loud
    estimator, generator = find_estimator("relax", term), torch.Generator().manual_seed(0)

    def variance(estimator_: Estimator, count: int = 300) -> float:
        found = []
        for _ in range(count):
            loss = estimator_.loss(estimator_.draw(distribution, 4, generator), term, distribution)
            found.append(torch.autograd.grad(loss, distribution.alpha)[0])
        return float(torch.stack(found).var(0).sum())

    variance(estimator, 1500)
    taken_up = find_estimator("relax", term)
    taken_up.load(estimator.state())
    assert variance(taken_up) < 0.3 * variance(find_estimator("reinforce-plain", term))


def test_leaving_one_out_needs_others() -> None:
    with pytest.raises(EstimatorError, match="there is 1") as caught:
        find_estimator("reinforce-loo", Toy(), count=1)
    assert caught.value.mend == "add --architectures 2"


def _total_variance(name: str, term: ObjectiveTerm) -> float:
    """Of the estimate from a single sample, over all entries."""
    chunk = 20
    return float(chunk * _gradients(name, term, _distribution(), chunks=1000, chunk=chunk).var(0).sum())


def test_a_table_that_explains_most_of_the_cost_makes_gradients_several_times_quieter_than_rebar() -> None:
    generator = torch.Generator().manual_seed(3)
    parts = [torch.randn(count, dtype=torch.float64, generator=generator) for count in CHOICES]
    table = parts[0][:, None, None] + parts[1][:, None] + parts[2]
    rest = torch.randn(CHOICES, dtype=torch.float64, generator=generator)
    probs = torch.einsum("a,b,c->abc", *_distribution().probs()).detach()

    def variance(values: Tensor) -> Tensor:
        return (probs * (values - (probs * values).sum()) ** 2).sum()

    rest = (rest - (probs * rest).sum()) * (0.05 / 0.95 * variance(table) / variance(rest)).sqrt()
    term = Toy(table + rest, table)
    assert float(variance(rest) / (variance(table) + variance(rest))) == pytest.approx(0.05)
    exact, rebar = _total_variance("exact", term), _total_variance("rebar", term)
    assert 5 * exact < rebar < _total_variance("reinforce", term)


def test_the_exact_gradient_is_the_slope_of_the_expected_cost() -> None:
    distribution = _distribution(softening=0.08)
    gradient, step = exact_gradient(distribution, Toy().of), 1e-5

    @torch.no_grad()
    def expected(decision: int, index: int, change: float) -> float:
        distribution.alpha[decision, index] += change
        value = float(torch.einsum("a,b,c,abc->", *distribution.probs(), COST_ABC))
        distribution.alpha[decision, index] -= change
        return value

    for decision in range(3):
        for index in range(4):
            slope = (expected(decision, index, step) - expected(decision, index, -step)) / (2 * step)
            assert float(gradient[decision, index]) == pytest.approx(slope, abs=1e-8)


def test_choices_that_do_not_exist_get_no_gradient() -> None:
    for name in ESTIMATORS:
        gradients = _gradients(name, Toy(), _distribution(), chunks=5, chunk=50)
        assert bool((gradients[:, 0, 2:] == 0).all()) and bool((gradients[:, 2, 3:] == 0).all())


def test_named_estimators_are_their_formulas() -> None:
    distribution, term = _distribution(), Toy()
    sample = distribution.sample(7, generator=torch.Generator().manual_seed(0))
    cost, relaxed, table = term.discrete(sample), term.relaxed(sample), term.table(sample)
    others = (cost.sum() - cost) / 6
    expected = term.expected(distribution)
    formulas: dict[str, Callable[[], Tensor]] = {
        "reinforce-plain": lambda: reinforce_loss(sample, cost),
        "reinforce": lambda: reinforce_loss(sample, cost, 1.5),
        "reinforce-loo": lambda: reinforce_loss(sample, cost, others),
        "darts": lambda: relaxed.mean(),
        "darts-second-order": lambda: term.unrolled(sample).mean(),
        "gumbel": relaxed.mean,
        "straight-through": lambda: relaxed.mean(),
        "binary-gates": lambda: relaxed.mean(),
        "rebar": lambda: rebar_loss(sample, cost, relaxed),
        "relax": lambda: rebar_loss(sample, cost, torch.zeros(7)),  # the surrogate begins as zero
        "exact": lambda: exact_residual_loss(sample, expected, cost, table, 1.5),
        "expected": lambda: expected,
    }
    assert formulas.keys() == ESTIMATORS.keys()
    for name, formula in formulas.items():
        estimator = find_estimator(name, term)
        if {"baseline"} == estimator.state().keys():
            estimator.load({"baseline": torch.tensor(1.5)})
        torch.testing.assert_close(estimator.loss(sample, term, distribution), formula())


def test_a_moving_average_moves_slowly_and_sees_a_sample_only_afterwards() -> None:
    distribution, average = _distribution(), MovingAverage(value=1.0, keep=0.9)
    sample = distribution.sample(4, generator=torch.Generator().manual_seed(0))
    cost = torch.full((4,), 11.0, dtype=torch.float64)
    torch.testing.assert_close(average.loss(sample, cost), (10 * sample.log_prob).mean())
    assert average.value == pytest.approx(2.0)  # nine parts old, one part new
    for _ in range(200):
        average.loss(sample, cost)
    assert average.value == pytest.approx(11.0)


@pytest.mark.parametrize(
    ("name", "term", "lacking", "able"),
    [
        ("rebar", LatencyExcess, "relaxed", "reinforce-plain, reinforce, reinforce-loo, relax, exact, expected"),
        ("gumbel", LatencyExcess, "relaxed", "reinforce-plain, reinforce, reinforce-loo, relax, exact, expected"),
        (
            "exact",
            TaskLoss,
            "expected",
            "reinforce-plain, reinforce, reinforce-loo, darts, darts-second-order, gumbel, straight-through, "
            "binary-gates, rebar, relax",
        ),
    ],
)
def test_an_impossible_pairing_is_refused_and_the_possible_ones_are_named(
    name: str, term: type[ObjectiveTerm], lacking: str, able: str
) -> None:
    with pytest.raises(EstimatorError, match=f"{name!r} needs the {lacking} value of {term.name}") as caught:
        find_estimator(name, term.__new__(term))
    assert caught.value.mend == f"for {term.name} choose one of {able}"


def test_an_unknown_estimator_is_refused_with_those_that_would_work() -> None:
    excess = LatencyExcess.__new__(LatencyExcess)
    with pytest.raises(EstimatorError, match="no estimator is called 'annealing'") as caught:
        find_estimator("annealing", excess)
    assert caught.value.mend == "choose one of reinforce-plain, reinforce, reinforce-loo, relax, exact, expected"
    with pytest.raises(EstimatorError) as caught:
        find_estimator("reinfroce", excess)
    assert caught.value.mend == "did you mean 'reinforce'?"


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_possible_pairing_is_found(name: str) -> None:
    assert isinstance(find_estimator(name, Toy()), ESTIMATORS[name])
