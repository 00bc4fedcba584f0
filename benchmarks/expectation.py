"""The exact expectation: against enumeration on small spaces, its stated bounds on the grid, its time on a large one.

python -m benchmarks.expectation
"""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.report import keep
from latency_tables.expectation import GridPlan, LatencyDistribution, latency_distribution

SMALL = ((3, 3), (2, 4, 3), (7, 6, 7, 6), (5, 5, 5, 5, 5))


def main() -> None:
    """Errors, bounds, milliseconds."""
    generator = torch.Generator().manual_seed(0)
    worst = {"hinge": 0.0, "cdf": 0.0, "gradient": 0.0}
    grid = {"hinge_over_bound": 0.0, "cdf_outside_bounds": 0, "mean": 0.0}
    for choices in SMALL:
        times = [torch.rand(count, generator=generator, dtype=torch.float64) * 3 for count in choices]
        alpha = [torch.randn(count, generator=generator, dtype=torch.float64).requires_grad_() for count in choices]
        probs = [torch.softmax(a, 0) for a in alpha]
        everything = torch.cartesian_prod(*(torch.arange(count) for count in choices))
        mass = torch.stack([p[z] for p, z in zip(probs, everything.T, strict=True)]).prod(0)
        value = 0.5 + torch.stack([t[z] for t, z in zip(times, everything.T, strict=True)]).sum(0)
        exact, gridded = latency_distribution(probs, times, 0.5), GridPlan(times, 0.5).distribution(probs)
        for budget in torch.quantile(value, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).tolist():
            hinge = (mass * (value / budget - 1).clamp_min(0)).sum()
            cdf = (mass * (value <= budget)).sum()
            wanted = torch.autograd.grad(hinge, alpha, retain_graph=True)
            seen = torch.autograd.grad(exact.hinge(budget), alpha, retain_graph=True)
            worst["hinge"] = max(worst["hinge"], float((exact.hinge(budget) - hinge).detach().abs()))
            worst["cdf"] = max(worst["cdf"], float((exact.cdf(budget) - cdf).detach().abs()))
            apart = max(float((a - b).abs().max()) for a, b in zip(wanted, seen, strict=True))
            worst["gradient"] = max(worst["gradient"], apart)
            off = float((gridded.hinge(budget) - hinge).detach().abs()) / (gridded.deviation_ms / budget)
            grid["hinge_over_bound"] = max(grid["hinge_over_bound"], off)
            low, high = gridded.cdf_bounds(budget)
            grid["cdf_outside_bounds"] += not low - 1e-9 <= float(cdf.detach()) <= high + 1e-9
        mean = (mass * value).sum()
        grid["mean"] = max(grid["mean"], float((gridded.expectation() - mean).detach().abs()))
    milliseconds, large = timed(generator)
    result = {
        "enumerated_spaces": {f"max error of {name}": error for name, error in worst.items()},
        "grid_on_the_same_spaces": grid,
        "large": {
            "space": "21 decisions x 7 choices",
            "forward_and_backward_ms_median": milliseconds,
            "no_network_further_off_than_share_of_range": large.shift_ms
            / float(large.values_ms[-1] - large.values_ms[0]),
            "threads": torch.get_num_threads(),
        },
    }
    print(result)
    keep("expectation", result)


def timed(generator: torch.Generator) -> tuple[float, LatencyDistribution]:
    """Median time of hinge and gradient, 21 layers of 7 operations; the grid's plan is made once per search."""
    times = [torch.rand(7, generator=generator, dtype=torch.float64) * 3 for _ in range(21)]
    alpha = torch.randn(21, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    plan, taken = GridPlan(times, 0.5), []
    for _ in range(50):
        begin = time.perf_counter()
        plan.distribution(list(torch.softmax(alpha, 1))).hinge(30.0).backward()
        taken.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(taken[5:]), plan.distribution(list(torch.softmax(alpha, 1)))


if __name__ == "__main__":
    main()
