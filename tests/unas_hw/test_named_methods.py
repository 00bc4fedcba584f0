"""Each method of the field is a configuration of one search: the table says which, and all of them run."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import log
from typing import Any, Literal

import pytest
import torch

from latency_tables.table import LatencyTable
from profilers.registry import open_profiler
from unas_hw.data import Dataset
from unas_hw.distributed import ALONE
from unas_hw.errors import MethodError
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import Meter
from unas_hw.methods.registry import find_method, methods
from unas_hw.methods.unas.checks import check
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.metrics import GRADIENTS, METRICS
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.objectives.forms import FACTORS, FORMS, HINGE, LINEAR, departure, unit_of
from unas_hw.resources import Macs, Params
from unas_hw.runs import RUNS, Run
from unas_hw.search.constraints import Constraint
from unas_hw.spaces.chain import ChainSpace

QUICK: dict[str, Any] = {
    "warmup_epochs": 0, "epochs": 2, "batch_size": 24, "diagnose_every": 2, "multiplier_rate": 1.0
}  # fmt: skip
CONFIG = UnasConfig(**QUICK)
TERMS = {
    "unas": ("rebar", "train", 0.0, "both", "exact", "hinge"),
    "darts": ("darts", "valid", 0.0, "relaxed", "expected", "hinge"),
    "snas": ("gumbel", "train", 0.0, "relaxed", "expected", "hinge"),
    "gdas": ("straight-through", "valid", 0.0, "choice", "expected", "hinge"),
    "reinforce": ("reinforce", "valid", 0.0, "choice", "reinforce", "hinge"),
    "proxylessnas": ("binary-gates", "valid", 0.0, "choice", "expected", "proxylessnas"),
    "fbnet": ("gumbel", "valid", 0.0, "relaxed", "expected", "fbnet"),
}


METHODS = [name for name, method in methods().items() if isinstance(method.config(), UnasConfig)]


def named(name: str, **changes: Any) -> UnasConfig:
    config = find_method(name).config()
    assert isinstance(config, UnasConfig)
    return replace(config, **changes)


def _search(
    space: ChainSpace,
    table: LatencyTable,
    data: Dataset,
    config: UnasConfig,
    *,
    share: float = 0.4,
    constraints: tuple[Constraint, ...] = (),
) -> UnasSearch:
    run, model = Run.begin(RUNS / "one", {}), LatencyModel(space, table)
    low, high = model.latency_ms(model.smallest), model.latency_ms(model.largest)
    with open_profiler(table.header["device"]) as profiler:
        meter = Meter(space, table, profiler, run=run)
        search = UnasSearch(space, model, meter, data, low + share * (high - low), config, run, constraints)
        for _ in search.steps():
            pass
    return search


def test_the_table_is_that_of_the_documentation() -> None:
    assert set(METHODS) == TERMS.keys()
    for name, terms in TERMS.items():
        config = named(name)
        seen = (config.estimator, config.loss_on, config.gap_weight, config.weights_from)
        assert (*seen, config.latency_estimator, config.budget_form) == terms, name
    annealed = {
        "snas": (5.0, 0.5, "exponentially"),
        "fbnet": (5.0, 0.5, "exponentially"),
        "gdas": (10.0, 0.1, "linearly"),
    }
    for name in TERMS:
        config = named(name)
        assert (config.tau, config.tau_end, config.tau_falls) == annealed.get(name, (0.4, None, "exponentially")), name
    assert named("unas") == UnasConfig()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_every_method_learns_weights_and_architecture(
    space: ChainSpace, table: LatencyTable, data: Dataset, method: str
) -> None:
    search = _search(space, table, data, named(method, **QUICK))
    lines = search.run.lines(METRICS)
    assert len(lines) == 2 and all(line["cost"] > 0 for line in lines)
    assert lines[-1]["mode_valid_loss"] > 0 and 0 <= lines[-1]["mode_valid_accuracy"] <= 1
    assert bool((search.distribution.alpha != 0).any())
    assert all(bool(value.isfinite().all()) for value in search.supernet.state_dict().values())
    measured = search.run.lines(Meter.JOURNAL)
    assert bool(measured) == (named(method).latency_estimator != "expected")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_latency_pulls_towards_faster_networks(
    space: ChainSpace, table: LatencyTable, data: Dataset, form: str
) -> None:
    config = replace(CONFIG, epochs=0, budget_form=form, latency_estimator="expected", multiplier="ascent")
    search = _search(space, table, data, config)
    search.latency.dual.multiplier.value = 1.0
    distribution = search.distribution
    sample = distribution.sample(1, generator=torch.Generator().manual_seed(0))
    expected_ms = search.model.distribution(distribution.probs()).expectation()
    (wanted,) = torch.autograd.grad(expected_ms, distribution.alpha)
    task = torch.zeros_like(wanted)
    seen = search.latency.gradient(sample, 0, task, 2.0)
    assert float(torch.nn.functional.cosine_similarity(wanted.flatten(), seen.flatten(), dim=0)) > 0.8
    factors = search.latency.gradient(sample, 0, task + 1, 2.0) - seen + 1
    assert bool((factors > 0).all()) and bool((factors == 1).all()) == (form in (HINGE, LINEAR))


def test_published_forms_have_their_published_constants() -> None:
    expected_ms = torch.tensor([30.0, 90.0], dtype=torch.float64)
    unit_ms = unit_of(20.0)
    assert unit_ms == 1.0
    seen = {form: FACTORS[form](expected_ms, 60.0, unit_ms).tolist() for form in FACTORS}
    assert seen == {
        "mnasnet": pytest.approx([(ms / 60) ** 0.07 for ms in (30, 90)]),
        "proxylessnas": pytest.approx([0.2 * (log(ms) / log(60)) ** 0.3 for ms in (30, 90)]),
        "fbnet": pytest.approx([0.2 * log(ms) ** 0.6 for ms in (30, 90)]),
    }
    assert not any(departure(form, 20.0) for form in FORMS)


@pytest.mark.parametrize("form", ["proxylessnas", "fbnet"])
def test_a_millisecond_and_less_is_taken_in_microseconds_which_is_told(form: str) -> None:
    short_ms = torch.tensor([0.2], dtype=torch.float64)
    assert not FACTORS[form](short_ms, 1.5, 1.0).isfinite()  # as published
    for shortest_ms in (0.1, 1.0):
        assert unit_of(shortest_ms) == 1e-3
        assert "logarithms of microseconds, not of milliseconds as published" in departure(form, shortest_ms)
    assert FACTORS[form](short_ms, 0.1, 1e-3).isfinite()
    assert departure("hinge", 0.1) == departure("mnasnet", 0.1) == ""


@pytest.mark.parametrize("multiplier", ["solved", "ascent"])
def test_other_budgets_are_kept_by_dual_variables_of_their_own(
    space: ChainSpace, table: LatencyTable, data: Dataset, multiplier: Literal["solved", "ascent"]
) -> None:
    params, macs = Params(space), Macs(space)

    def limited(resource: Params | Macs, share: float) -> Constraint:
        low, high = resource.value(resource.smallest), resource.value(resource.largest)
        return Constraint(resource, low + share * (high - low))

    config = replace(CONFIG, epochs=12, latency_estimator="expected", multiplier_rate=2.0, multiplier=multiplier)
    tight = _search(
        space, table, data, config, share=1.2, constraints=tuple(limited(each, 0.2) for each in (params, macs))
    )
    first, last = (tight.run.lines(METRICS)[place] for place in (0, -1))
    for name, dual in zip(("params", "macs"), tight.latency.others, strict=True):
        constraint = dual.constraint
        if multiplier == "solved":
            assert last[name]["expected"] <= constraint.limit * 1.01  # solved in turn, each beside the others
        else:
            assert last[name]["expected"] < first[name]["expected"]
        assert last[name]["limit"] == constraint.limit
        assert constraint.fits(params.smallest) and not constraint.fits(params.largest)
    assert any(dual.multiplier.value > 0 for dual in tight.latency.others)
    assert tight.latency.dual.multiplier.value == 0  # of the latency, whose budget binds nothing


def test_the_gradients_of_both_branches_are_watched(space: ChainSpace, table: LatencyTable, data: Dataset) -> None:
    search = _search(space, table, data, replace(CONFIG, epochs=3))
    lines = search.run.lines(GRADIENTS)
    assert [line["step"] for line in lines] == [2, 4, 6]
    for line in lines:
        assert line["task"]["variance"] > 0 and -1 <= line["task"]["cosine"] <= 1
        assert line["latency"]["norm"] >= 0


def test_the_probability_of_skipping_is_told(space: ChainSpace, table: LatencyTable, data: Dataset) -> None:
    search = _search(space, table, data, CONFIG)
    share = search.run.lines(METRICS)[-1]["skipping"]
    offers = [g for g, decision in enumerate(space.decisions) if "id" in decision.choices]
    probs = search.distribution.probs()
    wanted = sum(float(probs[g][space.decisions[g].choices.index("id")]) for g in offers) / len(offers)
    assert share == pytest.approx(wanted)


def test_settings_that_contradict_each_other_are_refused(space: ChainSpace, table: LatencyTable, data: Dataset) -> None:
    with pytest.raises(MethodError, match="no method is called 'dart'") as caught:
        find_method("dart")
    assert caught.value.mend == "did you mean 'darts'?"
    with pytest.raises(MethodError, match="no form of the latency is called 'log'"):
        _search(space, table, data, replace(CONFIG, budget_form="log"))
    with pytest.raises(MethodError, match=r"'fbnet' takes logarithms of times, .* no meaning at 0\.50 us") as caught:
        check(replace(CONFIG, budget_form="fbnet"), LatencyModel(space, table), data, 5e-4, ALONE)
    assert "--budget-form mnasnet" in caught.value.mend
    with pytest.raises(MethodError, match="share 2 images") as caught:
        _search(space, table, data, replace(CONFIG, batch_size=2, architectures=3))
    assert "--batch-size 12" in caught.value.mend
    assert asdict(CONFIG)["method"] == "unas"
