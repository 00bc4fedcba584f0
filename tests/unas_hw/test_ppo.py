"""PPO: what it estimates, that it learns, and that it can be stopped anywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.unas_hw.bright import EPISODE, QUARTERS, TASK, Bright
from unas_hw.errors import MethodError
from unas_hw.methods.rl_darts import ppo
from unas_hw.methods.rl_darts.config import PpoConfig
from unas_hw.methods.rl_darts.policy import Uniform, judged
from unas_hw.methods.rl_darts.ppo import Ppo, Spread, evaluate, seen
from unas_hw.ops.impala import Policy, impala_cnn

SHORT = PpoConfig(steps=1024, environments=8, horizon=16, passes=2, minibatch=32, lr=3e-3, gamma=0.9, gae_lambda=0.8)


def fresh(seed: int = 0) -> Policy:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return impala_cnn(TASK.image_shape, (4,), TASK.actions)


def begun(config: PpoConfig = SHORT, policy: Policy | None = None, **more: Any) -> Ppo:
    policy = policy or fresh()
    optimizer = torch.optim.Adam(policy.parameters(), config.lr, eps=1e-5)
    return Ppo(policy, optimizer, Bright(config.environments, 0), config, 0, **more)


def test_advantages_are_the_discounted_sums_of_errors_up_to_the_end_of_the_episode() -> None:
    config = replace(SHORT, normalise_rewards=False)
    learner = begun(config)
    twin = Bright(config.environments, 0)
    (_, actions, _, values, advantages, returns), _, episodes = learner.play()
    T, N = config.horizon, config.environments
    rewards, ends = np.zeros((T, N)), np.zeros((T, N))
    for t, action in enumerate(actions.view(T, N).numpy()):
        rewards[t], ends[t] = twin.step(action)
    with torch.no_grad():
        last = learner.actor.both(seen(twin.frames))[1]
    v = torch.cat([values.view(T, N), last[None]]).numpy()
    expected = np.zeros((T, N))
    for begin in range(T):  # equation 16 of GAE, term by term
        alive, factor = np.ones(N), 1.0
        for t in range(begin, T):
            error = rewards[t] + config.gamma * (1 - ends[t]) * v[t + 1] - v[t]
            expected[begin] += alive * factor * error
            alive, factor = alive * (1 - ends[t]), factor * config.gamma * config.gae_lambda
    assert np.allclose(advantages.view(T, N).numpy(), expected, atol=1e-5)
    assert torch.allclose(returns, advantages + values)
    assert episodes == ends.sum() == N * (T // EPISODE)


def test_actions_are_drawn_as_often_as_they_are_probable() -> None:
    class Fixed(Uniform):
        def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(len(x), 4), torch.zeros(len(x))

    learner = begun(replace(SHORT, environments=64, horizon=64))
    learner.actor = Fixed(QUARTERS)
    (_, actions, log_probs, *_), _, _ = learner.play()
    share = actions.bincount(minlength=4) / len(actions)
    assert torch.allclose(share, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.025)
    assert torch.allclose(log_probs.exp(), 0.1 * (actions + 1))


class Rows(nn.Module):
    """Logits and values of its own for every frame, whose first pixel is its number."""

    def __init__(self, logits: Tensor, values: Tensor) -> None:
        super().__init__()
        self.logits, self.values = nn.Parameter(logits.clone()), nn.Parameter(values.clone())

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = (x[:, 0, 0, 0] * 255).round().long()
        return self.logits[rows], self.values[rows]


def moved(rows: Rows, *played: Tensor, **told: Any) -> tuple[Tensor, Tensor]:
    """N times the gradients of the logits and the values, by one step of length one."""
    before, N = [each.detach().clone() for each in rows.parameters()], len(rows.values)
    config = replace(SHORT, passes=1, minibatch=N, max_grad_norm=1e9, **told)
    frames = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, *TASK.image_shape)
    Ppo(rows, torch.optim.SGD(rows.parameters(), 1.0), Bright(8, 0), config, 0).learn(frames, *played)
    logits, values = (N * (old - new.detach()) for old, new in zip(before, rows.parameters(), strict=True))
    return logits, values


def test_the_gradient_is_that_of_the_clipped_objective() -> None:
    N, random = 64, torch.Generator().manual_seed(0)
    logits, values, old_values, goals = (torch.randn(N, *more, generator=random) for more in ((4,), (), (), ()))
    old_values = values + 0.3 * old_values
    actions = torch.arange(N) % 4
    p = logits.softmax(1)
    log_probs = p.log()[range(N), actions]
    old_log_probs = log_probs + 0.3 * torch.randn(N, generator=random)
    advantages = torch.randn(N, generator=random)
    played = (actions, old_log_probs, old_values, advantages, goals)
    of_logits, of_values = moved(Rows(logits, values), *played, entropy_weight=0.0, value_weight=0.5)

    # A ratio that has left the range on the side that the advantage favours moves nothing any more.
    A, ratio = (advantages - advantages.mean()) / advantages.std(), (log_probs - old_log_probs).exp()
    stopped = ((A > 0) & (ratio > 1.2)) | ((A < 0) & (ratio < 0.8))
    assert 4 < stopped.sum() < N - 4 and ((ratio < 0.8) & ~stopped).any() and ((ratio > 1.2) & ~stopped).any()
    expected = -(A * ratio * ~stopped)[:, None] * (nn.functional.one_hot(actions, 4) - p)
    torch.testing.assert_close(of_logits, expected, rtol=1e-3, atol=1e-4)

    # Nor does a value that has left the old one towards its goal.
    left = (values - old_values).abs() > 0.2
    nearer = (values - goals).abs() < (old_values + (values - old_values).clamp(-0.2, 0.2) - goals).abs()
    assert (left & nearer).any() and (left & ~nearer).any() and (~left).any()
    torch.testing.assert_close(of_values, 0.5 * (values - goals) * ~(left & nearer), rtol=1e-3, atol=1e-4)


def test_entropy_is_rewarded() -> None:
    logits, zeros = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(8)
    played = (torch.zeros(8, dtype=torch.long), logits.log_softmax(1)[:, 0], zeros, zeros, zeros)
    of_logits, _ = moved(Rows(logits, zeros), *played, entropy_weight=0.01)
    p = logits.softmax(1)
    torch.testing.assert_close(
        of_logits, 0.01 * p * (p.log() - (p * p.log()).sum(1, keepdim=True)), rtol=1e-2, atol=1e-5
    )


def test_rewards_are_learnt_from_as_shares_of_the_deviation_of_discounted_sums_within_episodes() -> None:
    config = replace(SHORT, horizon=4 * EPISODE, gae_lambda=0.0)
    learner, twin = begun(config), Bright(config.environments, 0)
    learner.actor = Uniform(QUARTERS)  # all values are zero: what an action returned is its reward
    (_, actions, _, _, _, returns), _, _ = learner.play()
    sums, episodes, seen_sums, whole = np.zeros(8), np.zeros(8), list[float](), list[float]()
    for t, (chosen, scaled) in enumerate(zip(actions.view(-1, 8).numpy(), returns.view(-1, 8).numpy(), strict=True)):
        rewards, ended = twin.step(chosen)
        sums, episodes = config.gamma * sums + rewards, episodes + rewards
        seen_sums += sums.tolist()
        if t > 4:  # before, it is mostly what it began with
            assert np.allclose(scaled, rewards / np.std(seen_sums), rtol=0.01)
        whole += episodes[ended].tolist()
        sums[ended] = episodes[ended] = 0
    assert learner.recent == whole


@pytest.mark.slow
def test_it_learns_to_press_the_right_button() -> None:
    policy = fresh()
    before = judged(policy, TASK, 40)
    lines = list(begun(replace(SHORT, steps=4_000), policy).updates())
    after = judged(policy, TASK, 40)
    assert abs(before["test_return"] - before["random_return"]) < 0.8
    assert after["test_return"] > 0.9 * EPISODE and after["normalised_return"] > 0.85
    assert after["test_interval"][0] < after["test_return"] < after["test_interval"][1]
    assert lines[-1]["return"] > lines[0]["return"] and lines[-1]["entropy"] < lines[0]["entropy"]
    assert lines[-1]["steps"] >= 4_000 and all(line["clipped"] <= 1 for line in lines)


def test_a_training_that_was_stopped_goes_on_bit_for_bit() -> None:
    whole, stopped = fresh(), fresh()
    told = [{k: v for k, v in line.items() if not k.endswith("_s")} for line in begun(policy=whole).updates()]
    first = begun(policy=stopped)
    updates = first.updates()
    begin = [next(updates) for _ in range(3)]
    tensors, scalars = first.state()
    tensors = {name: each.clone() for name, each in tensors.items()}
    second = begun(policy=stopped)
    second.restore(tensors, scalars)
    end = list(second.updates())
    assert told == [{k: v for k, v in line.items() if not k.endswith("_s")} for line in begin + end]
    for mine, other in zip(whole.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_penalty_is_part_of_the_loss_of_every_minibatch() -> None:
    policy, called = fresh(), []

    def penalty() -> Tensor:
        called.append(1)
        return 100 * policy.head.value.bias.square().sum()

    policy.head.value.bias.data.fill_(1.0)
    learner = begun(replace(SHORT, steps=SHORT.environments * SHORT.horizon, lr=0.05), policy, penalty=penalty)
    list(learner.updates())
    assert len(called) == SHORT.passes * SHORT.environments * SHORT.horizon // SHORT.minibatch
    assert abs(float(policy.head.value.bias)) < 0.7


def test_a_minibatch_computed_in_parts_moves_the_weights_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(SHORT, steps=SHORT.environments * SHORT.horizon, max_grad_norm=1e6)
    moved = []
    for part in (512, 10):  # of 32 rows: four parts of 8
        monkeypatch.setattr(ppo, "PART", part)
        policy = fresh()
        optimizer = torch.optim.SGD(policy.parameters(), 0.1)  # Adam would not tell gradients from their multiples
        (line,) = Ppo(policy, optimizer, Bright(config.environments, 0), config, 0).updates()
        moved.append(([weight.detach() for weight in policy.parameters()], line["value_loss"]))
    for one, other in zip(moved[0][0], moved[1][0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert moved[0][1] == pytest.approx(moved[1][1], rel=1e-3)


def test_the_learning_rate_falls_from_its_begin_towards_zero() -> None:
    learner = begun()
    rates = [learner.optimizer.param_groups[0]["lr"] for _ in learner.updates()]
    assert rates[0] == SHORT.lr and rates[-1] == pytest.approx(SHORT.lr / SHORT.updates)
    assert rates == sorted(rates, reverse=True)


def test_rewards_are_divided_by_the_deviation_of_what_was_added_up_to_now() -> None:
    values, spread = np.random.default_rng(0).normal(5, 3, (40, 16)), Spread()
    for each in values:
        spread.add(each)
    assert spread.deviation == pytest.approx(values.std(), rel=1e-3)
    assert Spread(*spread.numbers).deviation == spread.deviation


def test_every_environment_is_judged_by_as_many_episodes() -> None:
    class Uneven(Bright):
        """The first of them ends five times as often, and earns nothing."""

        def step(self, actions: Any) -> Any:
            rewards, ended = super().step(actions)
            rewards[:], ended[0] = np.arange(self.count) > 0, True
            return rewards, ended

    found = evaluate(Uniform(QUARTERS), Uneven(2, 0), 6, 0)
    assert sorted(found) == [0, 0, 0, EPISODE, EPISODE, EPISODE]


def test_values_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(MethodError, match="gamma=2"):
        replace(SHORT, gamma=2.0).check()
    with pytest.raises(MethodError, match="horizon=1"):
        replace(SHORT, horizon=1).check()
    SHORT.check()
