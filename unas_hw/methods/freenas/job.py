"""FreeNAS from a prepared search to its network: scores, the best networks within the budgets, their measurement."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unas_hw.finals.entrants import Nominations
from unas_hw.finals.job import FinalsJob
from unas_hw.finals.plan import NONE
from unas_hw.methods.freenas.config import FreenasConfig
from unas_hw.methods.freenas.search import Ranked, best_networks, count_rounds, rounds
from unas_hw.progress import Job, Step
from unas_hw.search.prepared import Prepared, measured_best, meter_of
from unas_hw.search.result import finish
from unas_hw.search.selection import Path
from unas_hw.search.settings import SearchSettings
from unas_hw.zero_cost.flow import Flow

SCORES, ROUNDS = "scores.json", "rounds.jsonl"


def refuse(settings: SearchSettings) -> None:
    """Nothing that the settings themselves do not."""


def search(prepared: Prepared) -> Job[dict[str, Any]]:
    """Scores the space, unless ``scores.json`` has the scores, and finishes the run; only the finals train anything.

    Returns:
        As ``search``, with ``score`` (the sum of the network's shares), ``score_exact`` (whether no network within the
        budgets is proven to have more) and ``rounds``.
    """
    space, seed = prepared.space, prepared.settings.seed
    flow, count = yield from _scored(prepared)
    ranked = Ranked([], True)

    def best(most_ms: float) -> list[Path]:
        nonlocal ranked
        ranked = best_networks(flow, prepared.model, most_ms, prepared.constraints)
        return ranked.paths

    finals, accuracy, verdict = None, None, dict[str, Any]()
    with meter_of(prepared) as meter:
        if prepared.settings.ends != NONE:
            aim_ms = prepared.budget.in_ms * (1 - prepared.headroom(meter))
            known = Nominations(paths=best(aim_ms), scores=lambda paths_NG: {"score": flow.scores(space, paths_NG)})
            finals = FinalsJob(prepared, aim_ms, known)
            yield from finals.halving()
        selection = yield from measured_best(prepared, meter, finals.within if finals else best)
    path = selection.best or selection.nearest
    if finals:
        network, accuracy, verdict = yield from finals.closing(path)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = space.network(space.architecture(path))
    more = {
        "score": float(flow.scores(space, np.array([path]))[0]),
        "score_exact": ranked.exact and ranked.paths[:1] == [path],
        "rounds": count,
        **verdict,
    }
    return finish(prepared, selection, network, valid_accuracy=accuracy, more=more)


def _scored(prepared: Prepared) -> Job[tuple[Flow, int]]:
    """The flow of the last round, and how many there were."""
    run, config = prepared.run, prepared.config(FreenasConfig)
    if (run.path / SCORES).exists():
        kept = run.read_json(SCORES)
        return Flow.of(kept), kept["rounds"]
    flows = [Flow.of(line) for line in run.lines(ROUNDS)]
    total = count_rounds(prepared.space, config)
    yield Step("score", len(flows), total)
    for flow in rounds(prepared.space, prepared.model, prepared.aim_ms, config, prepared.settings.seed, flows):
        run.append(ROUNDS, flow.as_json())
        flows.append(flow)
        yield Step("score", len(flows), total)
    run.write_json(SCORES, {**flows[-1].as_json(), "rounds": len(flows)})
    return flows[-1], len(flows)
