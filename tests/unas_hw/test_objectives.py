"""The objective is the published one: its values and gradients are those that plain automatic differentiation gives,
although one pass serves weights and architecture; the latency's part is exact over the table.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from latency_tables.table import LatencyTable
from unas_hw.data import Dataset
from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.latency_model import LatencyModel
from unas_hw.objectives import Batch, Gap, LatencyExcess, ObjectiveTerm, TaskLoss
from unas_hw.spaces.chain import ChainSpace
from unas_hw.supernet import Path, Supernet

GAPS: tuple[Gap, ...] = ("means", "elementwise")


@pytest.fixture
def net(space: ChainSpace) -> Supernet:
    return space.supernet().eval()  # without dropout, so that two passes give the same


@pytest.fixture
def sample() -> ArchSample:
    distribution = ArchitectureDistribution((6, 7, 6))
    return distribution.sample(3, generator=torch.Generator().manual_seed(0))


def _batches(data: Dataset, *, train_is_better: bool) -> tuple[Batch, Batch]:
    """Two batches of unequal size, the first or the second with labels that the images do not have."""
    near = Batch(data.train.x[:20], data.train.y[:20])
    far = Batch(data.valid.x[:16] * 3, (data.valid.y[:16] + 1) % 3)
    return (near, far) if train_is_better else (far, near)


def _losses(net: Supernet, path: Path, batch: Batch) -> Tensor:
    return cross_entropy(net(batch.x, path), batch.y, reduction="none")


def _objective(net: Supernet, path: Path, batches: tuple[Batch, Batch], weight: float, gap: Gap) -> Tensor:
    """``L_train + lam * |L_val - L_train|``, as it is written."""
    train, valid = (_losses(net, path, batch) for batch in batches)
    count = min(len(train), len(valid))
    if gap == "means":
        return train.mean() + weight * (valid.mean() - train.mean()).abs()
    return train.mean() + weight * (valid[:count] - train[:count]).abs().mean()


def _trained_a_little(net: Supernet, batch: Batch) -> None:
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        _losses(net, (1, 1, 1), batch).mean().backward()
        optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("train_is_better", [True, False])
@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("weight", [0.5, 2.0, 0.0])
def test_the_relaxed_value_and_its_gradient_are_those_of_the_whole_objective(
    net: Supernet, data: Dataset, sample: ArchSample, gap: Gap, weight: float, train_is_better: bool
) -> None:
    batches = _batches(data, train_is_better=train_is_better)
    _trained_a_little(net, Batch(data.train.x, data.train.y))
    term = TaskLoss(net, gap_weight=weight, gap=gap)
    term.set_batches(*batches)
    zeta = sample.relaxed.detach().requires_grad_()
    values = term.relaxed(ArchSample(choice=sample.choice, relaxed=zeta, log_prob=sample.log_prob))
    (seen,) = torch.autograd.grad((values * torch.tensor([1.0, -2.0, 3.0])).sum(), zeta)

    plain = zeta.detach().float().requires_grad_()
    expected = torch.stack([_objective(net, row, batches, weight, gap) for row in plain])
    (wanted,) = torch.autograd.grad((expected * torch.tensor([1.0, -2.0, 3.0])).sum(), plain)
    torch.testing.assert_close(values.detach(), expected.detach().double(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen.float(), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_the_weights_get_the_gradient_of_the_training_loss_alone(
    net: Supernet, data: Dataset, sample: ArchSample, gap: Gap, weight: float
) -> None:
    batches = _batches(data, train_is_better=True)
    term = TaskLoss(net, gap_weight=weight, gap=gap)
    term.set_batches(*batches)
    value = term.relaxed(sample)
    seen = [parameter.grad for parameter in net.parameters()]
    mean_loss = torch.stack([_losses(net, row.float(), batches[0]).mean() for row in sample.relaxed.detach()]).mean()
    expected = torch.autograd.grad(mean_loss, list(net.parameters()))
    for one, other in zip(seen, expected, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    value.sum().backward()
    assert all(parameter.grad is grad for parameter, grad in zip(net.parameters(), seen, strict=True))


def test_the_gradient_reaches_the_logits_through_the_sample(net: Supernet, data: Dataset) -> None:
    distribution = ArchitectureDistribution((6, 7, 6))
    term = TaskLoss(net, gap_weight=0.5, gap="means")
    term.set_batches(*_batches(data, train_is_better=True))
    sample = distribution.sample(1, generator=torch.Generator().manual_seed(0), coupling="gumbel")
    (grad,) = torch.autograd.grad(term.relaxed(sample).sum(), distribution.alpha)
    assert float(grad.abs().sum()) > 0
    assert float(grad[0, 6]) == 0  # the first decision has six choices


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_the_discrete_value_is_the_objective_of_the_choice(
    net: Supernet, data: Dataset, sample: ArchSample, gap: Gap, weight: float
) -> None:
    batches = _batches(data, train_is_better=False)
    term = TaskLoss(net, gap_weight=weight, gap=gap)
    term.set_batches(*batches)
    expected = torch.stack([_objective(net, path, batches, weight, gap) for path in sample.paths()])
    seen = term.discrete(sample)
    torch.testing.assert_close(seen, expected.detach().double(), atol=1e-6, rtol=1e-6)
    assert not seen.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_elementwise_gap_is_positive_even_for_equal_distributions(net: Supernet, data: Dataset) -> None:
    batch = Batch(data.train.x[:20], data.train.y[:20])
    turned = Batch(batch.x.flip(0), batch.y.flip(0))
    sample = ArchitectureDistribution((6, 7, 6)).sample(1, generator=torch.Generator().manual_seed(0))
    values = []
    for gap in GAPS:
        term = TaskLoss(net, gap_weight=1.0, gap=gap)
        term.set_batches(batch, turned)
        values.append(float(term.discrete(sample)))
    train = float(_losses(net, sample.paths()[0], batch).mean())
    assert values[0] == pytest.approx(train, abs=1e-5)
    assert values[1] > train + 0.1


def test_estimators_without_a_relaxation_train_the_chosen_networks(
    net: Supernet, data: Dataset, sample: ArchSample
) -> None:
    batches = _batches(data, train_is_better=True)
    term = TaskLoss(net, gap_weight=0.5, gap="means")
    term.set_batches(*batches)
    term.train_weights(sample)
    seen = [parameter.grad for parameter in net.parameters()]
    mean_loss = torch.stack([_losses(net, path, batches[0]).mean() for path in sample.paths()]).mean()
    expected = torch.autograd.grad(mean_loss, list(net.parameters()), allow_unused=True)
    assert sum(grad is None for grad in seen) > 0  # what was not chosen does not learn
    for one, other in zip(seen, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.fixture
def model(space: ChainSpace, table: LatencyTable) -> LatencyModel:
    return LatencyModel(space, table)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_expected_excess_is_the_mean_over_all_networks(model: LatencyModel, share: float) -> None:
    low, high = model.latency_ms(model.smallest), model.latency_ms(model.largest)
    budget_ms = low + share * (high - low)
    distribution = ArchitectureDistribution((6, 7, 6))
    with torch.no_grad():
        distribution.alpha.copy_(torch.randn(3, 7))
    term = LatencyExcess(model, budget_ms, lambda path: 1.0)
    everything = torch.tensor(list(itertools.product(range(6), range(7), range(6))))
    excess = torch.tensor([max(0.0, model.latency_ms(path) / budget_ms - 1) for path in everything.tolist()])
    wanted = (distribution.log_prob(everything).exp() * excess).sum()
    seen = term.expected(distribution)
    assert float(seen) == pytest.approx(float(wanted), rel=1e-6)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, distribution.alpha)[0] for value in (seen, wanted)), atol=1e-7, rtol=1e-5
    )


def test_the_discrete_excess_is_measured_and_the_tables_is_not(model: LatencyModel, sample: ArchSample) -> None:
    measured = dict(zip(sample.paths(), (2.0, 1.0, 0.5), strict=True))
    term = LatencyExcess(model, 0.8, measured.__getitem__)
    torch.testing.assert_close(term.discrete(sample), torch.tensor([1.5, 0.25, 0.0]).double())
    expected = [max(0.0, model.latency_ms(path) / 0.8 - 1) for path in sample.paths()]
    torch.testing.assert_close(term.table(sample), torch.tensor(expected).double())


def test_a_value_that_an_objective_does_not_give_is_refused_by_name(
    model: LatencyModel, net: Supernet, sample: ArchSample
) -> None:
    terms: list[ObjectiveTerm] = [LatencyExcess(model, 1.0, lambda path: 1.0), TaskLoss(net, gap_weight=0, gap="means")]
    assert {term.name: sorted(term.gives) for term in terms} == {
        "the latency excess": ["discrete", "expected"],
        "the task loss": ["discrete", "relaxed"],
    }
    with pytest.raises(TypeError, match="the latency excess has no relaxed value"):
        terms[0].relaxed(sample)
    with pytest.raises(TypeError, match="the task loss has no expected value"):
        terms[1].expected(ArchitectureDistribution((6, 7, 6)))
    with pytest.raises(TypeError, match="the task loss has no table"):
        terms[1].table(sample)
