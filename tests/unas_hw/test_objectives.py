"""The objective is the published one: its values and gradients are those that plain automatic differentiation gives,
although one pass serves weights and architecture; the latency's part is exact over the table.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from latency_tables.table import LatencyTable
from unas_hw.data import Batch, Dataset
from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.latency_model import LatencyModel
from unas_hw.objectives import Gap, LatencyExcess, ObjectiveTerm, TaskLoss
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


def _parts(batches: tuple[Batch, Batch], count: int = 3) -> list[tuple[Batch, Batch]]:
    """What each of the samples sees of the batches."""
    train, valid = ([*zip(b.x.tensor_split(count), b.y.tensor_split(count), strict=True)] for b in batches)
    return [(Batch(*one), Batch(*other)) for one, other in zip(train, valid, strict=True)]


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
    expected = torch.stack(
        [_objective(net, row, part, weight, gap) for row, part in zip(plain, _parts(batches), strict=True)]
    )
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
    pairs = zip(sample.relaxed.detach(), _parts(batches), strict=True)
    mean_loss = torch.stack([_losses(net, row.float(), part[0]).mean() for row, part in pairs]).mean()
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
    expected = torch.stack(
        [_objective(net, path, part, weight, gap) for path, part in zip(sample.paths(), _parts(batches), strict=True)]
    )
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
    pairs = zip(sample.paths(), _parts(batches), strict=True)
    mean_loss = torch.stack([_losses(net, path, part[0]).mean() for path, part in pairs]).mean()
    expected = torch.autograd.grad(mean_loss, list(net.parameters()), allow_unused=True)
    assert sum(grad is None for grad in seen) > 0  # what was not chosen does not learn
    for one, other in zip(seen, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_on_validation_images_alone_the_architecture_learns_from_them_and_the_weights_from_the_others(
    net: Supernet, data: Dataset
) -> None:
    batches = _batches(data, train_is_better=True)
    term = TaskLoss(net, gap_weight=0.5, gap="means", loss_on="valid")
    term.set_batches(*batches)
    one = ArchitectureDistribution((6, 7, 6)).sample(1, generator=torch.Generator().manual_seed(0))
    zeta = one.relaxed.detach().requires_grad_()
    value = term.relaxed(ArchSample(choice=one.choice, relaxed=zeta, log_prob=one.log_prob))
    (seen,) = torch.autograd.grad(value.sum(), zeta)
    plain = zeta.detach().float().requires_grad_()
    valid, train = (_losses(net, plain[0], batch).mean() for batch in reversed(batches))
    torch.testing.assert_close(seen.float(), torch.autograd.grad(valid, plain)[0], atol=1e-5, rtol=1e-4)
    weights = list(net.parameters())
    for weight, wanted in zip(weights, torch.autograd.grad(train, weights), strict=True):
        torch.testing.assert_close(weight.grad, wanted, atol=1e-5, rtol=1e-4)
    assert term.value == pytest.approx(float(valid))
    chosen = _losses(net, one.paths()[0], batches[1]).mean()
    torch.testing.assert_close(term.discrete(one)[0], chosen.detach().double(), atol=1e-6, rtol=1e-6)


class Smooth(Supernet):
    """Two candidates of one decision, without the kinks at which a second derivative does not exist."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, path: Path) -> Tensor:
        assert isinstance(path, Tensor)
        mixed = path[0, 0] * self.first(x) + path[0, 1] * self.second(x)
        logits: Tensor = self.last(torch.tanh(mixed))
        return logits

    def state_of(self, path: object) -> dict[str, Tensor]:
        return {}


def test_the_unrolled_gradient_is_that_of_the_loss_after_a_step_of_the_weights() -> None:
    torch.manual_seed(0)
    net, rate = Smooth().double(), 0.5
    train, valid = (Batch(torch.randn(20, 5).double(), torch.randint(0, 3, (20,))) for _ in range(2))
    term = TaskLoss(net, gap_weight=0, gap="means", loss_on="valid")
    term.set_batches(train, valid)
    term.w_lr = rate
    before = [weight.detach().clone() for weight in net.parameters()]
    zeta = torch.tensor([[[0.3, 0.7]]], dtype=torch.float64, requires_grad=True)
    sample = ArchSample(choice=torch.zeros(1, 1, dtype=torch.long), relaxed=zeta, log_prob=torch.zeros(1))
    value = term.unrolled(sample)
    (seen,) = torch.autograd.grad(value.sum(), zeta)

    leaf = zeta.detach().clone().requires_grad_()
    loss = cross_entropy(net(train.x, leaf[0]), train.y)
    grads = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
    moved = {name: w - rate * g for (name, w), g in zip(net.named_parameters(), grads, strict=True)}
    wanted_value = cross_entropy(torch.func.functional_call(net, moved, (valid.x, leaf[0])), valid.y)
    (wanted,) = torch.autograd.grad(wanted_value, leaf)
    assert float(value) == pytest.approx(float(wanted_value))
    torch.testing.assert_close(seen, wanted, atol=1e-5, rtol=1e-3)
    first_order = torch.autograd.grad(cross_entropy(net(valid.x, leaf[0]), valid.y), leaf)[0]
    assert float((first_order - wanted).abs().max()) > 0.02  # so that a forgotten second order would show
    assert all(torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))


def test_equal_edges_are_penalised_in_choices_and_in_relaxations(net: Supernet, data: Dataset) -> None:
    def count(path_GK: Tensor) -> Tensor:
        return (path_GK[0] * path_GK[2]).sum()

    terms = [TaskLoss(net, gap_weight=0, gap="means", duplicates=count, duplicates_weight=w) for w in (0.0, 0.2)]
    sample = ArchitectureDistribution((6, 7, 6)).sample(1, generator=torch.Generator().manual_seed(0))
    equal = ArchSample(
        choice=torch.tensor([[1, 0, 1]]), relaxed=sample.relaxed.detach().requires_grad_(), log_prob=sample.log_prob
    )
    for term in terms:
        term.set_batches(*_batches(data, train_is_better=True))
    assert float(terms[1].discrete(equal) - terms[0].discrete(equal)) == pytest.approx(0.2)
    plain, penalised = (term.relaxed(equal) for term in terms)
    wanted = 0.2 * count(equal.relaxed[0])
    torch.testing.assert_close((penalised - plain).detach()[0], wanted.detach())
    slopes = [torch.autograd.grad(each.sum(), equal.relaxed)[0] for each in (plain, penalised, wanted)]
    torch.testing.assert_close(slopes[1] - slopes[0], slopes[2], atol=1e-6, rtol=1e-5)


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
        "the task loss": ["discrete", "relaxed", "unrolled"],
    }
    with pytest.raises(TypeError, match="the latency excess has no relaxed value"):
        terms[0].relaxed(sample)
    with pytest.raises(TypeError, match="the task loss has no expected value"):
        terms[1].expected(ArchitectureDistribution((6, 7, 6)))
    with pytest.raises(TypeError, match="the task loss has no table"):
        terms[1].table(sample)
