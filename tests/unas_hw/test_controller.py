"""The controller is the distribution that it says it is, learns by REINFORCE, and goes on bit for bit."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from unas_hw.search.controller import Controller, Reinforce

CHOICES = (3, 2, 4)
EVERY = torch.tensor(list(product(*map(range, CHOICES))))


def taught(controller: Controller, steps: int = 20, seed: int = 5) -> Reinforce:
    """So that it is not uniform any more: it likes high numbers, and depends on what it chose before."""
    teacher = Reinforce(controller, lr=2e-2)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        condition = torch.rand(8, controller.condition, generator=generator, dtype=torch.float64)
        sample = controller.sample(8, generator, condition)
        reward = (sample.choice[:, 0] * sample.choice[:, 2] + sample.choice[:, 1]).double()
        teacher.step(sample.log_prob, sample.entropy, reward)
    return teacher


@pytest.mark.parametrize("softening", [0.0, 0.2])
def test_probabilities_of_all_architectures_sum_to_one_taught_or_not(softening: float) -> None:
    controller = Controller(CHOICES, softening=softening)
    uniform, _ = controller.log_prob(EVERY)
    assert torch.allclose(uniform, torch.full_like(uniform, -math.log(24)))
    taught(controller)
    log_prob, _ = controller.log_prob(EVERY)
    assert log_prob.exp().sum().item() == pytest.approx(1)
    assert log_prob.max() - log_prob.min() > 0.5


def test_softening_bounds_every_probability_from_below() -> None:
    controller = Controller(CHOICES, softening=0.2)
    with torch.no_grad():
        controller.heads[0].bias[0] = 100.0  # type: ignore[operator]
    shares = controller.log_prob(EVERY)[0].exp().reshape(CHOICES).sum((1, 2))
    assert shares.tolist() == pytest.approx([0.8 + 0.2 / 3, 0.2 / 3, 0.2 / 3])


def test_samples_come_as_often_as_their_probability_says_and_know_it() -> None:
    controller = Controller(CHOICES, softening=0.1)
    taught(controller)
    sample = controller.sample(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(controller.log_prob(sample.choice)[0], sample.log_prob)
    seen = torch.zeros(CHOICES)
    for path in sample.paths():
        seen[path] += 1 / 20_000
    expected = controller.log_prob(EVERY)[0].exp().reshape(CHOICES)
    assert (seen - expected).abs().max() < 0.012


def test_masked_choices_are_never_drawn_and_the_others_share_their_probability() -> None:
    masks = [torch.tensor([True, False, True]), torch.tensor([True, True]), torch.tensor([False, False, True, True])]
    controller = Controller(CHOICES, softening=0.5)
    taught(controller)
    log_prob, entropy = controller.log_prob(EVERY, masks=masks)
    allowed = masks[0][EVERY[:, 0]] & masks[2][EVERY[:, 2]]
    assert (log_prob.exp() > 0).tolist() == allowed.tolist()
    assert log_prob.exp().sum().item() == pytest.approx(1)
    assert entropy.isfinite().all()
    assert controller.sample(2_000, masks=masks).choice.unique(dim=0).shape[0] == 8
    assert masks[0][controller.mode(masks=masks)[0]]
    (gradient, *_) = torch.autograd.grad(log_prob[allowed].sum(), list(controller.parameters()))
    assert gradient.isfinite().all()


def test_the_entropy_is_that_of_the_distribution_on_average() -> None:
    controller = Controller(CHOICES)
    taught(controller)
    log_prob, entropy = controller.log_prob(EVERY)
    exact = -(log_prob.exp() * log_prob).sum()
    assert (log_prob.exp() * entropy).sum().item() == pytest.approx(exact.item())
    assert exact < math.log(24)


def test_the_gradient_of_reinforce_is_that_of_the_expected_reward() -> None:
    """Exactly so when every architecture is given with its probability, whatever the baseline is."""
    controller = Controller(CHOICES)
    taught(controller)
    reward = (EVERY[:, 0] + 2 * EVERY[:, 2]).double()
    weights = list(controller.parameters())
    log_prob, _ = controller.log_prob(EVERY)
    exact = torch.autograd.grad((log_prob.exp() * reward).sum(), weights)
    log_prob, _ = controller.log_prob(EVERY)
    scored = torch.autograd.grad((log_prob.exp().detach() * (reward - 3.0) * log_prob).sum(), weights)
    for one, other in zip(exact, scored, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.slow
def test_it_finds_the_best_architecture_for_each_condition() -> None:
    torch.manual_seed(1)
    controller = Controller(CHOICES, condition=1)
    teacher, generator = Reinforce(controller, lr=1e-2), torch.Generator().manual_seed(0)
    for _ in range(300):
        condition = torch.randint(0, 2, (8, 1), generator=generator).double()
        sample = controller.sample(8, generator, condition)
        ups, downs = sample.choice.sum(1).double(), -sample.choice.sum(1).double()
        weights = torch.cat([condition, 1 - condition], 1)
        teacher.step(sample.log_prob, sample.entropy, torch.stack([ups, downs], 1), weights)
    assert controller.mode(torch.ones(1, 1)) == (2, 1, 3)
    assert controller.mode(torch.zeros(1, 1)) == (0, 0, 0)


def advantages(teacher: Reinforce, reward: list[float]) -> list[float]:
    """What each architecture's log-probability is pushed by."""
    log_prob = torch.zeros(len(reward), dtype=torch.float64, requires_grad=True)
    anchor = sum((weight.sum() * 0 for weight in teacher.controller.parameters()), torch.zeros(()))
    teacher.step(log_prob + anchor, torch.zeros(len(reward)), torch.tensor(reward))
    assert log_prob.grad is not None
    gradient: list[float] = (-len(reward) * log_prob.grad).tolist()
    return gradient


def test_the_baseline_is_the_average_of_what_came_before_the_sample_and_forgets_slowly() -> None:
    teacher = Reinforce(Controller(CHOICES), decay=0.75, entropy=0.0)
    assert advantages(teacher, [4.0, 8.0]) == pytest.approx([-2.0, 2.0])  # nothing came before: its own
    assert teacher.baseline.tolist() == pytest.approx([6.0])
    assert advantages(teacher, [10.0, 10.0]) == pytest.approx([4.0, 4.0])
    assert teacher.baseline.tolist() == pytest.approx([0.75 * 6 + 0.25 * 10])


def test_the_entropy_bonus_keeps_it_from_deciding() -> None:
    def end(entropy: float) -> float:
        torch.manual_seed(0)
        controller, generator = Controller(CHOICES), torch.Generator().manual_seed(0)
        teacher = Reinforce(controller, lr=2e-2, entropy=entropy)
        for _ in range(60):
            sample = controller.sample(8, generator)
            teacher.step(sample.log_prob, sample.entropy, sample.choice.sum(1).double())
        return float(controller.log_prob(EVERY)[0].max().exp())

    assert end(10.0) < 0.15 < 0.6 < end(0.0)


def test_a_loaded_state_goes_on_bit_for_bit() -> None:
    torch.manual_seed(0)
    whole = taught(Controller(CHOICES, condition=2), steps=5)
    kept = {name: tensor.detach().clone() for name, tensor in whole.state().items()}
    other = Reinforce(Controller(CHOICES, condition=2), lr=2e-2)
    other.load(kept)

    def go_on(teacher: Reinforce) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(9)
        for _ in range(3):
            sample = teacher.controller.sample(4, generator, torch.ones(4, 2))
            teacher.step(sample.log_prob, sample.entropy, sample.choice.sum(1).double())
        return teacher.state()

    expected, found = go_on(whole), go_on(other)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not torch.equal(expected["controller.cell.weight_hh"], kept["controller.cell.weight_hh"])
