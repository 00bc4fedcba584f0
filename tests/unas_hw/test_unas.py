"""The method learns what it says it learns: weights while warming up, then architectures that move towards the budget;
and it can be stopped after any step and goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import islice, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from latency_tables.table import LatencyTable
from profilers.profiler import Profiler
from profilers.registry import open_profiler
from unas_hw.data import Batch, Dataset
from unas_hw.errors import EstimatorError, MethodError
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import Meter
from unas_hw.methods.registry import PRESETS
from unas_hw.methods.settings import settings_of
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.metrics import METRICS, logits_of, valid_logits
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.runs import RUNS, Run
from unas_hw.search.run_folder import CHECKPOINT
from unas_hw.search.settings import SearchSettings
from unas_hw.spaces.chain import ChainSpace

CONFIG = UnasConfig(warmup_epochs=1, epochs=3, batch_size=24, gap_weight=0, weights_from="relaxed", measure_every=2)
STEPS = 2
"""Of an epoch: 48 images in batches of 24."""

Begin = Callable[..., UnasSearch]


@pytest.fixture
def profiler(table: LatencyTable) -> Iterator[Profiler]:
    with open_profiler(table.header["device"]) as opened:
        yield opened


@pytest.fixture
def model(space: ChainSpace, table: LatencyTable) -> LatencyModel:
    return LatencyModel(space, table)


@pytest.fixture
def begin(space: ChainSpace, table: LatencyTable, model: LatencyModel, profiler: Profiler, data: Dataset) -> Begin:
    """A search as a new process would begin or take it up: nothing but the run folder is shared."""

    def make(name: str, config: UnasConfig = CONFIG, share: float = 0.3) -> UnasSearch:
        run = Run.begin(RUNS / name, {})
        meter = Meter(space, table, profiler, run=run)
        low, high = model.latency_ms(model.smallest), model.latency_ms(model.largest)
        search = UnasSearch(space, model, meter, data, low + share * (high - low), config, run)
        search.resume()
        return search

    return make


def _run(search: UnasSearch, steps: int | None = None) -> UnasSearch:
    """To the end, or killed after so many steps."""
    for _ in islice(search.steps(), steps):
        pass
    return search


def _state(search: UnasSearch) -> dict[str, Tensor]:
    saved = search.run.load_tensors(CHECKPOINT)
    assert saved is not None
    tensors, scalars = saved
    return dict(tensors) | {name: torch.tensor(value, dtype=torch.float64) for name, value in scalars.items()}


def _assert_same(one: UnasSearch, other: UnasSearch) -> None:
    left, right = _state(one), _state(other)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    assert torch.equal(one.distribution.alpha, other.distribution.alpha)
    assert (one.run.path / METRICS).read_bytes() == (other.run.path / METRICS).read_bytes()
    journal = Meter.JOURNAL
    assert (one.run.path / journal).read_bytes() == (other.run.path / journal).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"gap_weight": 0.5, "weights_from": "both"},
        {"estimator": "reinforce", "gap_weight": 0.5},
        {"softening": 0.05},
        {"estimator": "relax", "architectures": 2, "diagnose_every": 3},
        {"estimator": "gumbel", "tau": 5.0, "tau_end": 0.5, "loss_on": "valid"},
    ],
    ids=["default", "reinforce", "softened", "relax", "annealed"],
)
def test_ten_epochs_equal_five_and_five_after_a_restart(begin: Begin, change: dict[str, Any]) -> None:
    config = replace(CONFIG, warmup_epochs=2, epochs=8, batch_size=48, **change)
    whole = _run(begin("whole", config))
    _run(begin("halves", config), 5 * 2)  # a report after the one step of an epoch and one after the epoch
    second = begin("halves", config)
    assert second.epoch == 5
    _assert_same(_run(second), whole)


def test_a_search_that_is_stopped_after_any_step_goes_on_as_if_it_was_not(begin: Begin) -> None:
    whole = _run(begin("whole"))
    for steps in (1, 4, 6, 8, 11):  # within epochs and between them
        _run(begin("torn"), steps)  # each time from where the last one was killed
    _assert_same(_run(begin("torn")), whole)


def test_what_came_after_the_last_checkpoint_is_forgotten(begin: Begin) -> None:
    config = replace(CONFIG, epochs=1)
    whole = _run(begin("whole", config))
    torn = _run(begin("torn", config), STEPS + 1)
    torn.run.append(METRICS, {"epoch": 2, "stage": "search"})  # killed between the line and the checkpoint
    _assert_same(_run(begin("torn", config)), whole)


def test_another_seed_is_another_search(begin: Begin) -> None:
    config = replace(CONFIG, epochs=1)
    one, same, other = (_run(begin(name, replace(config, seed=s))) for name, s in (("a", 0), ("b", 0), ("c", 1)))
    _assert_same(one, same)
    assert not torch.equal(one.distribution.alpha, other.distribution.alpha)


def test_warming_up_moves_the_weights_only(begin: Begin) -> None:
    search = begin("one", replace(CONFIG, epochs=0))
    before = [weight.clone() for weight in search.supernet.parameters()]
    _run(search)
    assert bool((search.distribution.alpha == 0).all())
    assert search.latency.dual.multiplier.value == 0
    assert search.run.lines(Meter.JOURNAL) == []
    moved = [not torch.equal(*pair) for pair in zip(before, search.supernet.parameters(), strict=True)]
    assert any(moved)
    assert [line["cost"] for line in search.run.lines(METRICS)] == [None]


@pytest.mark.parametrize("share", [0.2, 0.3, 0.8], ids=["20%", "30%", "80%"])
def test_a_solved_multiplier_keeps_the_expected_latency_at_the_target(begin: Begin, share: float) -> None:
    search = begin("one", replace(CONFIG, warmup_epochs=0, epochs=4), share=share)
    for progress in search.steps():
        assert (search.latency.dual.multiplier.value > 0) == (share < 0.5)
        if progress.step > 3:  # after two it is there
            expected_ms, residual = search.latency.dual.expected(), search.latency.seen_residual
            assert residual is not None and abs(residual) < 0.02
            assert expected_ms == pytest.approx(search.budget_ms * (1 - residual), rel=1e-6)
    assert search.distribution.alpha.abs().max() < 1  # it has learnt of the task for eight steps; mu keeps the budget


def test_dual_ascent_brings_the_expected_latency_towards_the_budget(begin: Begin, model: LatencyModel) -> None:
    config = replace(CONFIG, epochs=16, batch_size=48, measure_every=10, multiplier="ascent", multiplier_rate=1.0)
    search = _run(begin("one", config, share=0.3))
    lines = [line for line in search.run.lines(METRICS) if line["stage"] == "search"]
    first, last = lines[0], lines[-1]
    assert first["expected_ms"] > 1.1 * search.budget_ms
    assert last["expected_ms"] < first["expected_ms"]
    assert abs(last["expected_ms"] - search.budget_ms) < 0.35 * (first["expected_ms"] - search.budget_ms)
    assert last["within_budget"] > first["within_budget"] + 0.2
    assert max(line["multiplier"] for line in lines) > 0.2
    assert last["entropy"] < first["entropy"]


def test_a_budget_that_binds_nothing_leaves_the_multiplier_at_zero(begin: Begin) -> None:
    search = _run(begin("one", share=1.2))
    assert {line["multiplier"] for line in search.run.lines(METRICS)} == {0.0}
    assert search.run.lines(METRICS)[-1]["within_budget"] == pytest.approx(1)


def test_metrics_are_of_the_distribution_as_it_is(begin: Begin, space: ChainSpace, model: LatencyModel) -> None:
    search = _run(begin("one"))
    lines = search.run.lines(METRICS)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["stage"] for line in lines] == ["warm-up"] + ["search"] * 3
    mode, last = search.distribution.mode(), lines[-1]
    assert last["mode"] == str(space.architecture(mode))
    assert last["mode_ms"] == model.latency_ms(mode)
    assert last["mode_valid_loss"] == pytest.approx(float(search.valid_losses(mode).mean()))
    distribution = model.distribution(search.distribution.probs())
    assert last["expected_ms"] == float(distribution.expectation())
    assert last["within_budget"] == float(distribution.cdf(search.budget_ms))


def test_sampled_networks_are_measured_every_few_steps(begin: Begin) -> None:
    search = _run(begin("one", replace(CONFIG, epochs=5, measure_every=4)))
    lines = search.run.lines(Meter.JOURNAL)
    assert {line["label"] for line in lines} == {"search"}
    assert len(lines) == 3  # of ten steps the first, the fifth and the ninth


def test_what_the_table_does_not_know_reaches_the_architecture(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, warmup_epochs=0, epochs=5, measure_every=1, multiplier_rate=5.0)
    plain = _run(begin("plain", config))
    slower = begin("slower", config)
    measure = slower.latency.excess.measure
    monkeypatch.setattr(slower.latency.excess, "measure", lambda path: measure(path) * (3.0 if path[0] < 3 else 1.0))
    _run(slower)
    residuals = [each.run.lines(METRICS)[-1]["residual"] for each in (plain, slower)]
    assert abs(residuals[0]) < 0.02
    assert residuals[1] > 0.1
    shares = [float(each.distribution.probs()[0][:3].sum()) for each in (plain, slower)]
    assert shares[1] < shares[0] - 0.05


def test_progress_counts_the_steps_of_the_whole_search(begin: Begin) -> None:
    seen = list(begin("one", replace(CONFIG, epochs=1)).steps())
    assert {each.steps for each in seen} == {2 * STEPS}
    assert seen[-1].step == 2 * STEPS
    assert all(before.step <= after.step for before, after in pairwise(seen))
    assert [each.metrics is not None for each in seen] == ([False] * STEPS + [True]) * 2
    assert [each.stage for each in seen] == ["warm-up"] * 3 + ["search"] * 3


def test_rates_begin_at_the_highest_and_reach_the_lowest(begin: Begin) -> None:
    search = begin("one")
    rates = [
        (search.w_optimizer.param_groups[0]["lr"], search.alpha_optimizer.param_groups[0]["lr"])
        for progress in search.steps()
        if progress.metrics is None
    ]
    warmup = CONFIG.warmup_epochs * STEPS
    assert rates[0][0] == pytest.approx(CONFIG.w_lr)
    assert rates[warmup][1] == pytest.approx(CONFIG.alpha_lr)  # its own cosine begins where it learns
    assert rates[warmup + 1][1] < CONFIG.alpha_lr
    assert rates[-1] == pytest.approx((CONFIG.w_lr_min, CONFIG.alpha_lr_min))
    assert all(before[0] >= after[0] and before[1] >= after[1] for before, after in pairwise(rates))


def test_validation_knows_no_dropout_and_leaves_none_behind(begin: Begin, data: Dataset) -> None:
    search = begin("one")
    first, second = valid_logits(search, (1, 0, 1)), valid_logits(search, (1, 0, 1))
    assert torch.equal(first, second)
    assert first.shape == (len(data.valid), 3)
    assert search.supernet.training


def test_networks_are_compared_on_as_many_training_images_as_there_are_of_validation(
    begin: Begin, data: Dataset
) -> None:
    search, alone = begin("both"), begin("alone", replace(CONFIG, compared_on="valid"))
    path, count = (1, 0, 1), len(data.valid)
    losses = search.compared_losses(path)
    assert losses.shape == (2 * count,)
    images = data.train.first(count)
    own = cross_entropy(logits_of(search, path, images, count), images.y, reduction="none")
    assert torch.allclose(losses[count:], own, atol=1e-6)
    assert torch.equal(alone.compared_losses(path), alone.valid_losses(path))


def test_randomness_outside_does_not_reach_the_search(begin: Begin) -> None:
    config = replace(CONFIG, epochs=1)
    quiet, loud = _run(begin("quiet", config)), begin("loud", config)
    for progress in loud.steps():
        if progress.metrics is not None:
            torch.manual_seed(progress.step)
            torch.rand(7)
    _assert_same(loud, quiet)


def test_an_estimator_that_cannot_work_is_refused_before_the_search_begins(begin: Begin) -> None:
    with pytest.raises(EstimatorError, match="'exact' needs the expected value of the task loss") as caught:
        begin("one", replace(CONFIG, estimator="exact"))
    assert "gumbel, straight-through, binary-gates, rebar" in caught.value.mend


PUBLISHED = {
    #                       space     epochs  images  weights       alpha         eps   networks a step
    "unas-cifar": ("darts", (15, 85), 4 * 32, (6e-4, 1e-4), (2e-3, 3e-4), 0.0, 128),
    "unas-imagenet": ("darts", (5, 15), 8 * 24, (3e-4, 1e-4), (1e-3, 3e-4), 0.08, 1),
    "unas-imagenet-mbconv": ("mbconv", (20, 15), 8 * 24, (3e-4, 1e-4), (1e-3, 3e-4), 0.08, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_papers_settings(name: str) -> None:
    settings = settings_of(budget="50%", preset=name)
    config = settings.config
    assert isinstance(config, UnasConfig)
    rates = (config.w_lr, config.w_lr_min), (config.alpha_lr, config.alpha_lr_min)
    told = (settings.space, (config.warmup_epochs, config.epochs), config.batch_size, *rates)
    assert (*told, config.softening, config.architectures) == PUBLISHED[name]
    assert (config.w_decay, config.w_clip, config.tau, config.tau_end) == (3e-4, 5.0, 0.4, None)
    assert (config.gap_weight, config.gap, config.duplicates_weight) == (0.5, "means", 0.2)
    assert (config.estimator, config.supernet, config.loss_on) == ("rebar", "separate", "train")
    assert (config.weights_from, config.warmup_from) == ("relaxed", "relaxed")
    assert name in {each.name: each for each in fields(SearchSettings)}["preset"].metadata["setting"].help


def test_what_is_said_counts_more_than_a_preset(begin: Begin) -> None:
    told = settings_of(
        budget="50%", preset="unas-imagenet-mbconv", space="mbconv-mobile", epochs=3, unas={"tau": 1.0}, seed=2
    )
    config = told.config
    assert isinstance(config, UnasConfig)
    assert (told.space, config.epochs, config.tau, config.seed) == ("mbconv-mobile", 3, 1.0, 2)
    assert config.warmup_epochs == 20  # not what would suit phones
    again = {name.replace("-", "_"): value for name, value in told.told.items()}
    again["budget"] = again.pop("latency_budget")
    assert settings_of(**again) == told
    begin("one", replace(config, batch_size=24))  # can be


def test_a_preset_that_is_unknown_or_of_another_method_is_refused() -> None:
    with pytest.raises(MethodError, match="no preset is called 'unas-cifr'") as caught:
        settings_of(budget="50%", preset="unas-cifr")
    assert caught.value.mend == "did you mean 'unas-cifar'?"
    for other in ({"method": "gdas"}, {"method": "radars"}, {"task": "minatar:breakout"}):
        with pytest.raises(MethodError, match="--preset unas-cifar is of --method unas, not of"):
            settings_of(budget="50%", preset="unas-cifar", **other)


@pytest.mark.parametrize("warmup_from", ["choice", "relaxed"])
def test_the_warm_up_trains_networks_or_their_relaxations(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, warmup_from: Any
) -> None:
    search = begin("one", replace(CONFIG, epochs=0, supernet="separate", warmup_from=warmup_from))
    before = [weight.clone() for weight in search.supernet.parameters()]
    seen, losses = [], search.task._losses

    def noted(path: Any, batch: Batch) -> Tensor:
        seen.append(path)
        return losses(path, batch)

    monkeypatch.setattr(search.task, "_losses", noted)
    _run(search)
    assert len(seen) == STEPS
    assert {isinstance(path, Tensor) for path in seen} == {warmup_from == "relaxed"}
    learnt = [not torch.equal(*pair) for pair in zip(before, search.supernet.parameters(), strict=True)]
    assert all(learnt) if warmup_from == "relaxed" else any(learnt)
    assert bool((search.distribution.alpha == 0).all())


def test_weights_are_trained_as_suits_the_space_and_the_method() -> None:
    def told(**words: Any) -> tuple[str, str, int]:
        settings = settings_of(budget="50%", **words)
        config = settings.supernet
        assert isinstance(config, UnasConfig)
        return config.supernet, config.w_optimizer, config.warmup_epochs

    assert told() == ("auto", "sgd", 10)
    assert told(space="mbconv-mobile") == ("auto", "sgd", 8)
    assert told(space="darts?width=8") == told(method="fbnet") == ("separate", "adam", 20)
    assert told(method="radars", memory_budget="2GB") == ("separate", "adam", 20)
    assert told(space="darts", unas={"w_optimizer": "sgd"}) == ("separate", "sgd", 20)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_the_weights_optimiser_is_the_one_that_was_asked_for(begin: Begin, name: Any, kind: type) -> None:
    assert type(begin("one", replace(CONFIG, w_optimizer=name)).w_optimizer) is kind


def test_measurements_alone_solve_nothing_and_are_refused_before_a_run_is_begun() -> None:
    with pytest.raises(MethodError, match="'reinforce' estimates without it") as caught:
        settings_of(budget="50%", run="one", unas={"latency_estimator": "reinforce"})
    assert "unas.multiplier=ascent" in caught.value.mend
    assert settings_of(budget="50%", unas={"latency_estimator": "reinforce", "multiplier": "ascent"})
    assert not (RUNS / "one").exists()
