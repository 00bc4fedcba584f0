"""Bias and variance of alpha's gradient over a supernet: separate and entangled weights, with the gap and without.

    python -m benchmarks.search.gradients [--samples 3000]

A chain of three layers, each k3e3, k5e6 or (the second and third) an identity, on the digits; its weights are those of
a short warm-up. All networks are enumerated on one batch, so the gradient of the expected cost is known. Per supernet
and gap: the largest deviation of REBAR's mean in standard errors (below about 4 where it is unbiased), the variance of
one sample's gradient, and that beside the squared norm of the gradient itself.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.report import keep
from unas_hw.data import batches, load_dataset
from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.estimators import find_estimator
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.entangled import ends_of, supernet_of
from unas_hw.objectives import TaskLoss
from unas_hw.space import SearchSpace
from unas_hw.spaces.building import Chain

WARM_UP, BATCH, RATE = 60, 64, 0.05


def chain() -> SearchSpace:
    """18 networks."""
    made = Chain("three-layers", image_size=8, channels=1)
    made.fixed("stem", made.conv(8, kernel=3))
    for number in range(3):
        blocks = {
            "k3e3": made.mbconv(16, kernel=3, expand=3, stride=1),
            "k5e6": made.mbconv(16, kernel=5, expand=6, stride=1),
        }
        made.choose(f"layer{number}", blocks | ({"id": None} if number else {}))
    made.fixed("classifier", made.classifier(10))
    return made.space(10)


def measure(kind: Literal["separate", "entangled"], gap_weight: float, samples: int) -> dict[str, Any]:
    """One row."""
    space, data = chain(), load_dataset("digits")
    torch.manual_seed(0)
    supernet, entangled = supernet_of(space, UnasConfig(supernet=kind))
    ends = ends_of(space, supernet) if entangled else None
    task = TaskLoss(supernet, gap_weight=gap_weight, gap="means", ends=ends)
    choices = [len(decision.choices) for decision in space.decisions]
    distribution, generator = ArchitectureDistribution(choices), torch.Generator().manual_seed(0)
    train, valid = (batches(split, BATCH, generator) for split in (data.train, data.valid))
    optimizer, estimator = torch.optim.SGD(supernet.parameters(), RATE, momentum=0.9), find_estimator("rebar", task)
    for step in range(WARM_UP):
        optimizer.zero_grad()
        task.set_batches(train[step % len(train)], valid[step % len(valid)])
        task.train_weights(estimator.draw(distribution, 1, generator))
        optimizer.step()
    with torch.no_grad():
        distribution.alpha.copy_(0.5 * torch.randn(distribution.alpha.shape, generator=generator))
    wanted = exact(distribution, task)
    begin, found = time.process_time(), []
    for _ in range(samples):
        sample = estimator.draw(distribution, 1, generator)
        found.append(torch.autograd.grad(estimator.loss(sample, task, distribution), distribution.alpha)[0])
    seconds = (time.process_time() - begin) / samples
    gradients = torch.stack(found)
    error = gradients.std(0) / samples**0.5
    real = distribution.mask & (error > 0)
    deviation = float(((gradients.mean(0) - wanted).abs() / error)[real].max())
    variance, norm = float(gradients.var(0)[real].sum()), float(wanted.square().sum())
    return {
        "supernet": kind,
        "gap_weight": gap_weight,
        "deviation_in_standard_errors": deviation,
        "variance": variance,
        "squared_norm": norm,
        "cpu_s_a_sample": seconds,
    }


def exact(distribution: ArchitectureDistribution, task: TaskLoss) -> Tensor:
    """Of the expected cost of the choices, by enumeration."""
    everything = torch.tensor([*itertools.product(*map(range, distribution.choices))])
    log_prob = distribution.log_prob(everything)
    relaxed = torch.zeros(len(everything), *distribution.alpha.shape, dtype=torch.float64)
    costs = torch.cat(
        [
            task.discrete(ArchSample(choice=each[None], relaxed=relaxed[:1], log_prob=log_prob[:1]))
            for each in everything
        ]
    )
    (found,) = torch.autograd.grad((log_prob.exp() * costs).sum(), distribution.alpha)
    return found


def main() -> None:
    """All four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3000)
    words = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    kinds: tuple[Literal["separate", "entangled"], ...] = ("separate", "entangled")
    for kind, gap_weight in itertools.product(kinds, (0.0, 0.5)):
        rows.append(row := measure(kind, gap_weight, words.samples))
        print(
            f"{kind:<10} gap {gap_weight:.1f}: {row['deviation_in_standard_errors']:.2f} standard errors off, "
            f"variance {row['variance']:.5f}, {row['variance'] / row['squared_norm']:.1f} times the squared norm, "
            f"{1e3 * row['cpu_s_a_sample']:.1f} ms a sample",
            flush=True,
        )
    keep("search_gradients", {"samples": words.samples, "rows": rows})


if __name__ == "__main__":
    main()
