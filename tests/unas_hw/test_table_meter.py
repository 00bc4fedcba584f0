"""Where a table is all there is, its predictions are the verdict: the whole budget may be used, and is."""

from __future__ import annotations

import torch

from latency_tables.table import LatencyTable
from profilers.timing import TimingRule
from unas_hw.distribution import ArchitectureDistribution
from unas_hw.export import find_format
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import TableMeter
from unas_hw.search.selection import BAND, select
from unas_hw.spaces.chain import ChainSpace
from unas_hw.verify import budget_missed, published_check


def test_candidates_use_the_whole_budget_and_the_mode_is_one_only_if_it_does(
    space: ChainSpace, table: LatencyTable, rule: TimingRule
) -> None:
    model = LatencyModel(space, table)
    distribution = ArchitectureDistribution([len(decision.choices) for decision in space.decisions])
    with torch.no_grad():
        for row, choice in zip(distribution.alpha, model.smallest, strict=True):
            row[choice] += 1.0  # the mode is the fastest network
    meter = TableMeter(model)
    assert meter.headroom == 0
    low, high = model.latency_ms(model.smallest), model.latency_ms(model.largest)
    budget_ms = low + 0.6 * (high - low)
    *_, found = select(
        distribution, model, meter, budget_ms, lambda path: torch.full((4,), float(sum(path))), rule, meter.headroom
    )
    assert model.smallest not in found.readings
    assert all(BAND * budget_ms <= model.latency_ms(path) <= budget_ms for path in found.readings)
    assert found.best in found.readings


def test_a_prediction_above_the_budget_is_a_missed_budget() -> None:
    assert not budget_missed([published_check(79.0, 80.0)])
    assert budget_missed([published_check(81.0, 80.0)])


def test_any_runtime_may_run_a_file_of_a_table_that_names_none() -> None:
    assert find_format("torch", None).name == "torch"
    assert find_format(None, None).name == "onnx"
