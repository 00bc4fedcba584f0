"""What children of MONAS cost, by the table, by arithmetic or by a meter; and the reward that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import final

import numpy as np

from latency_tables.coverage import profiler_of
from profilers.power_base import PowerMeter
from profilers.profiler import Profiler
from unas_hw.cost_model import CostModel
from unas_hw.methods.monas.config import MonasConfig
from unas_hw.methods.monas.rewards import Bound, Child, Reward
from unas_hw.resources import Energy, Macs, Params
from unas_hw.search.prepared import Prepared
from unas_hw.search.selection import Path
from unas_hw.terms import TermCosts

WINDOW_S = 1.0
"""How long a child keeps its device busy where its energy is measured."""


@final
class Prices:
    """What children cost, by the table and by arithmetic; ``cost`` stands beside the accuracy, with its range."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        asked, energies = prepared.config(MonasConfig).cost, prepared.table.energy_mj
        self.cost = ("energy" if energies else "latency") if asked == "auto" else asked
        self._has_energy = (
            bool(energies) or self.cost == "energy" or prepared.config(MonasConfig).max_power_w is not None
        )
        models: dict[str, Callable[[], CostModel]] = {
            "energy": lambda: self._energy, "latency": lambda: prepared.model,
            "macs": lambda: self._macs, "params": lambda: self._params,
        }  # fmt: skip
        self.range = models[self.cost]().range

    @cached_property
    def _energy(self) -> Energy:
        return Energy(self.prepared.model.space, self.prepared.table)

    @cached_property
    def _macs(self) -> Macs:
        return Macs(self.prepared.space)

    @cached_property
    def _params(self) -> Params:
        return Params(self.prepared.space)

    @cached_property
    def _power_w(self) -> TermCosts:
        """Of a network the highest mean power of any operation: its energy by the time that its row takes."""
        table, space = self.prepared.table, self.prepared.model.space
        return space.costs(lambda key: table.energy_mj[key] / table.latency_ms(key), combine=np.maximum)

    def _peak_power_w(self, path: Path) -> float:
        paths_NG = np.array([path])
        return float(self._power_w.total(paths_NG, self.prepared.model.space.live(paths_NG))[0])

    def of(self, child: Child) -> float:
        """The cost of a child."""
        values = {
            "energy": child.energy_mj, "latency": child.latency_ms, "macs": child.macs, "params": child.params,
        }  # fmt: skip
        value = values[self.cost]
        assert value is not None  # an Energy knows all networks
        return value

    def child(self, path: Path, accuracy: float) -> Child:
        """The child of these choices."""
        latency_ms = self.prepared.model.latency_ms(path)
        energy_mj = self._energy.value(path) if self._has_energy else None
        return Child(
            path=path,
            accuracy=accuracy,
            latency_ms=latency_ms,
            energy_mj=energy_mj,
            power_w=energy_mj / latency_ms if energy_mj is not None and latency_ms > 0 else None,
            peak_power_w=self._peak_power_w(path) if self._has_energy else None,
            macs=self._macs.value(path),
            params=self._params.value(path),
        )

    def power_bound(self, limit_w: float) -> Bound:
        """On the peak power."""
        highest_w = max(float(each.max()) for each in self._power_w.of_groups())
        return Bound(lambda child: child.peak_power_w or 0.0, limit_w, max(highest_w, self._power_w.constant))

    def meter(self, open_until_done: ExitStack) -> Callable[[Child], Child]:
        """What measures a child's energy as a whole, on the device of the table; raises ``MissingDeviceError``."""
        profiler: Profiler = open_until_done.enter_context(profiler_of(self.prepared.table))
        meter: PowerMeter = open_until_done.enter_context(profiler.meter())
        idle_w = profiler.idle_power_w(meter, WINDOW_S)

        def measured(child: Child) -> Child:
            workload = self.prepared.model.space.workload(self.prepared.space.architecture(child.path))
            for _ in profiler.load([workload], self.prepared.rule):
                pass
            found = profiler.energy(workload.key, meter, seconds=WINDOW_S, idle_w=idle_w)
            profiler.unload([workload.key])
            return replace(child, energy_mj=found.energy_mj, power_w=found.energy_mj / child.latency_ms)

        return measured


def reward_of(prepared: Prepared, prices: Prices) -> Reward:
    """By the configuration, with all budgets as bounds."""
    config = prepared.config(MonasConfig)
    bounds = [_bound_of(each.resource.value, each.limit, each.resource.range[1]) for each in prepared.constraints]
    if prepared.settings.budget is not None:
        highest_ms = prepared.model.range[1]
        bounds.append(Bound(lambda child: child.latency_ms, prepared.aim_ms, highest_ms))
    if config.max_power_w is not None:
        bounds.append(prices.power_bound(config.max_power_w))
    return Reward(
        config.reward,
        prices.of,
        prices.range,
        bounds,
        min_accuracy=config.min_accuracy,
        penalty=config.penalty,
        ranked=config.reward == "mixed" and config.weight is None,
    )


def _bound_of(value: Callable[[Path], float], limit: float, highest: float) -> Bound:
    return Bound(lambda child: value(child.path), limit, highest)
