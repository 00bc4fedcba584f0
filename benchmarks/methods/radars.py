"""RADARS against a random subspace of equal memory, reinforcement learning alone and DNAS alone, at equal time.

    python -m benchmarks.methods.radars --data DIR [--folder DIR] [--jobs 2] [--seeds 0 1 2] [--seconds 240]

``DIR`` has ``load.py`` with the images of CIFAR-10. The space is ``mbconv`` with 7 operations in 21 layers, its
widths times 0.35 so that it is affordable on a CPU; the device ``sim:phone``, the latency budget half of the way from
the smallest to the largest network. UNAS takes the generalization gap element by element, as its released program
does: both relaxed passes are in memory then. A step of plain DNAS, UNAS in the whole space, is measured first. The
bound is half of what it takes above the process alone: on a CPU the memory of Python, of its libraries and of what
these have compiled for 141 candidates counts, about 0.6 GB, more than half of plain DNAS's peak here, and no search can
leave it out (on a GPU it does not count).

- ``radars``: prunes by reinforcement learning for a third of the time, then UNAS in what is left, with the weights;
- ``random``: UNAS in a subspace that is pruned in random order to the same bound, by the same measured steps;
- ``rl``: the controller alone, on single networks with shared weights; of what it would draw within the budget the one
  of the lowest validation loss;
- ``dnas``: UNAS in the whole space, which exceeds the bound.

Each search has equal processor time, one thread, a process of its own and 2,688 images; what it finds is trained from
scratch with 7,200 images by one recipe, three times, and looks at the test images at the end of each. Hyper-
parameters are the defaults, chosen on the digits; episodes and epochs follow from the time. It shows one space and
one data set at one budget, with searches of minutes: nothing about long ones. In ``--folder`` lies what is done; the
same command goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.commands import unas_hw
from benchmarks.methods.radars_report import ARMS, picture, summary
from benchmarks.methods.radars_training import from_scratch, images_of
from benchmarks.report import keep
from latency_tables.table import LatencyTable
from profilers.timing import TimingRule
from unas_hw.budget import Budget
from unas_hw.data import in_order, load_dataset
from unas_hw.latency_model import LatencyModel
from unas_hw.memory import StepPeak, measure
from unas_hw.methods.radars.config import RadarsConfig
from unas_hw.methods.radars.footprint import Reach, narrowed
from unas_hw.methods.radars.job import MEASURED, MODE, Steps, ended, free, prune_space, radars_of, within
from unas_hw.methods.radars.search import JOURNAL, RadarsSearch
from unas_hw.methods.unas.compared import Compared
from unas_hw.methods.unas.config import SEPARATE, UnasConfig
from unas_hw.methods.unas.job import begun
from unas_hw.progress import finish
from unas_hw.runs import Run
from unas_hw.search.prepared import Prepared
from unas_hw.search.run_folder import SUBSPACE
from unas_hw.search.selection import Path as Choices
from unas_hw.search.settings import SearchSettings
from unas_hw.spaces import find_space
from unas_hw.spaces.subspace import everything

SPACE, SHARE = "mbconv?width=0.35", "50%"
SEARCHED, VALID = 2688, 512
"""Images that a search trains with, and validates with."""
PRUNING = 1 / 3
"""Share of the time for the pruning."""


def prepared_of(folder: Path, name: str, seed: int, words: argparse.Namespace, bound: int | None) -> Prepared:
    """A search as ``unas-hw search`` prepares it; the table's values stand in for measurements."""
    data = load_dataset(str(folder / "images.npz"))
    data = replace(data, train=data.train.first(SEARCHED), valid=data.valid.first(VALID))
    space = find_space(SPACE, image_shape=data.image_shape, classes=data.classes)
    table = LatencyTable.load(next((folder / "home").rglob("*.jsonl")))
    model = LatencyModel(space, table)
    budget = Budget.parse(SHARE).resolve(model.latency_ms(model.smallest), model.latency_ms(model.largest))
    settings = SearchSettings(
        finals="none",
        budget=SHARE,
        space=SPACE,
        seed=seed,
        ending=UnasConfig(**SEPARATE, batch_size=words.batch, gap_weight=0.5, gap="elementwise"),
        config=RadarsConfig(batch_size=words.batch),
        memory_budget=f"{bound}B" if bound else None,
    )
    run = Run.begin(folder / "runs" / f"{name}-{seed}", {})
    return Prepared(
        settings=settings,
        rule=TimingRule(),
        whole=space,
        space=space,
        data=data,
        table=table,
        model=model,
        budget=budget,
        aim_ms=budget.in_ms,
        constraints=(),
        common={},
        begin=time.monotonic(),
        run=run,
    )


def plain_dnas(folder: Path, words: argparse.Namespace) -> dict[str, Any]:
    """What the process takes once it has run steps, and a step of UNAS in the whole space."""
    prepared = prepared_of(folder, "plain", 0, words, None)
    Steps(prepared, 1 << 60).footprint()  # every candidate is run once, so all that is compiled for them is there
    alone = begun(within(prepared, tuple((j,) for j in prepared.model.smallest)))
    one_network = measure(alone.rehearse(), alone.supernet, MODE, steps=MEASURED)
    del alone
    free()
    libraries = StepPeak("cpu").now()
    unas = begun(ended(prepared))
    cost = measure(unas.rehearse(), unas.supernet, MODE, steps=MEASURED)
    generator = torch.Generator().manual_seed(0)
    single_s = processor_s(partial(unas._step, generator, -1))
    del unas
    search = radars_of(
        replace(prepared, settings=replace(prepared.settings, memory_budget=f"{1 << 60}B")),
        Steps(prepared, 1 << 60).footprint(),
        Reach(prepared.model, prepared.aim_ms),
        prepared.config(RadarsConfig),
    )
    episodes = search.episodes()
    return {
        "libraries_bytes": libraries,
        "one_network_bytes": one_network.peak_bytes,
        "plain_bytes": cost.peak_bytes,
        "bound_bytes": (cost.peak_bytes + libraries) // 2,
        "step_s": cost.seconds,
        "single_s": single_s,
        "episode_s": processor_s(lambda: next(episodes)),
    }


def processor_s(step: Callable[[], object]) -> float:
    """Mean time of a few, after the first."""
    times = []
    for _ in range(8):
        begin = time.process_time()
        step()
        times.append(time.process_time() - begin)
    return fmean(times[1:])


def searched(
    prepared: Prepared, left_s: float, step_s: float, single_s: float, *, warm: bool
) -> tuple[Choices, int, dict[str, Any]]:
    """UNAS for the time that is left: the network within the budget in the whole space's indices, and the peak.

    Args:
        prepared: What is searched.
        left_s: Processor time.
        step_s: Of a step, relaxed and all.
        single_s: Of a step of the warm-up.
        warm: Whether the weights have learnt already.
    """
    prepared = prepared if prepared.settings.ending is None else ended(prepared)
    config = prepared.config(UnasConfig)
    steps = len(prepared.data.train) // config.batch_size
    # A fifth of the time for the warm-up where weights are new, and what is too short for another epoch.
    epochs = max(int(left_s * (0.95 if warm else 0.8) / (step_s * steps)), 1)
    warmup = max(round((left_s - epochs * step_s * steps) / (single_s * steps)), 0)
    prepared = replace(
        prepared, settings=replace(prepared.settings, config=replace(config, epochs=epochs, warmup_epochs=warmup))
    )
    with StepPeak("cpu") as peak:
        unas = begun(prepared)
        unas.resume()
        for _ in unas.steps():
            pass
        peak_bytes = peak.bytes()
    fits = prepared.fits if prepared.constraints else None
    *_, selection = Compared(unas).select(prepared.budget.in_ms, TimingRule(), unas.meter.headroom, fits)
    assert selection.best is not None
    path = prepared.whole.indices(prepared.space.architecture(selection.best))
    return path, peak_bytes, {"epochs": epochs, "warmup_epochs": warmup, "step_s": step_s}


def radars(prepared: Prepared, words: argparse.Namespace, plain: dict[str, Any]) -> tuple[Choices, int, dict[str, Any]]:
    """Prunes, then UNAS."""
    config, begin = prepared.config(RadarsConfig), time.process_time()
    prepared = replace(
        prepared,
        settings=replace(
            prepared.settings, config=replace(config, **episodes_for(PRUNING * words.seconds, plain["episode_s"]))
        ),
    )
    finish(prune_space(prepared))
    told, spent_s = prepared.run.read_json(SUBSPACE), time.process_time() - begin
    inside = within(prepared, told["kept"])
    path, peak_bytes, facts = searched(inside, words.seconds - spent_s, told["step_s"], plain["single_s"], warm=True)
    prunings = [
        {name: line[name] for name in ("episode", "bytes_before", "bytes")}
        | {"candidates": sum(map(len, line["kept"]))}
        for line in prepared.run.lines(JOURNAL)
        if "kept" in line
    ]
    facts |= {
        name: told[name] for name in ("kept_candidates", "step_bytes", "predicted_bytes", "predicted_whole_bytes")
    }
    facts |= {"unas_peak_bytes": peak_bytes, "pruning_s": spent_s, "prunings": prunings, "names": told["names"]}
    return path, max(peak_bytes, told["pruning_peak_bytes"]), facts


def random_subspace(
    prepared: Prepared, words: argparse.Namespace, plain: dict[str, Any]
) -> tuple[Choices, int, dict[str, Any]]:
    """Prunes in random order, then UNAS."""
    bound: int = plain["bound_bytes"]
    begin, steps = time.process_time(), Steps(prepared, bound)
    footprint, reach = steps.footprint(), Reach(prepared.model, prepared.aim_ms)
    finish(steps.calibrate(footprint, reach))
    generator = torch.Generator().manual_seed(1000 + prepared.settings.seed)
    order = torch.rand(footprint.structure.shape, generator=generator, dtype=torch.float64).numpy()
    headroom, whole = prepared.config(RadarsConfig).headroom, everything(prepared.whole)
    kept, witness = narrowed(
        whole, reach.witness(), bound * (1 - headroom), footprint, reach, lambda kept, shares: order
    )
    settled = steps.settle(kept, witness, footprint, reach, lambda kept, shares: order, headroom)
    kept, cost = finish(settled)
    spent_s = time.process_time() - begin
    path, peak_bytes, facts = searched(
        within(prepared, kept), words.seconds - spent_s, cost.seconds or 0.0, plain["single_s"], warm=False
    )
    facts |= {
        "kept_candidates": sum(map(len, kept)),
        "step_bytes": cost.peak_bytes,
        "unas_peak_bytes": peak_bytes,
        "pruning_s": spent_s,
    }
    return path, max(peak_bytes, *steps.peaks), facts


def rl(prepared: Prepared, words: argparse.Namespace, plain: dict[str, Any]) -> tuple[Choices, int, dict[str, Any]]:
    """The controller alone; nothing is pruned."""
    steps, reach = Steps(prepared, 1 << 60), Reach(prepared.model, prepared.aim_ms)
    footprint = steps.footprint()
    config = replace(prepared.config(RadarsConfig), **episodes_for(0.95 * words.seconds, plain["episode_s"]))
    settings = replace(prepared.settings, memory_budget=f"{1 << 60}B")
    with StepPeak("cpu") as peak:
        search = radars_of(replace(prepared, settings=settings), footprint, reach, config)
        search.resume()
        for _ in search.episodes():
            pass
        peak_bytes = peak.bytes()
    drawn = search.pruner.controller.sample(256, torch.Generator().manual_seed(prepared.settings.seed))
    order = drawn.log_prob.argsort(descending=True).tolist()
    paths = dict.fromkeys(path for path in (drawn.paths()[i] for i in order) if reach.excess(path) <= 0)
    path = min([*paths][:32] or [reach.witness()], key=lambda each: _valid_loss(search, each))
    return path, peak_bytes, {"episodes": config.episodes, "within_budget": len(paths)}


@torch.no_grad()
def _valid_loss(search: RadarsSearch, path: Choices) -> float:
    search.supernet.eval()
    valid = search.data.valid
    return fmean(float(cross_entropy(search.supernet(part.x, path), part.y)) for part in in_order(valid, 64))


def episodes_for(seconds: float, episode_s: float) -> dict[str, Any]:
    """So many as take this time: a quarter warms up, and there are six prunings."""
    episodes = max(round(seconds / episode_s), 8)
    return {"episodes": episodes, "warmup_episodes": episodes // 4, "prune_every": max(episodes // 8, 1)}


def one(folder: Path, arm: str, seed: int, words: argparse.Namespace) -> dict[str, Any]:
    """A search; its network's facts."""
    facts = json.loads((folder / "plain.json").read_text())
    bound = facts["bound_bytes"]
    prepared = prepared_of(folder, arm, seed, words, bound if arm in ("radars", "random") else None)
    begin = time.process_time()
    if arm == "radars":
        path, peak_bytes, found = radars(prepared, words, facts)
    elif arm == "random":
        path, peak_bytes, found = random_subspace(prepared, words, facts)
    elif arm == "rl":
        path, peak_bytes, found = rl(prepared, words, facts)
    else:
        path, peak_bytes, found = searched(prepared, words.seconds, facts["step_s"], facts["single_s"], warm=False)
    search_s = time.process_time() - begin
    space = prepared.whole
    architecture = space.architecture(path)
    cost = space.workload(architecture).cost
    return {
        "arm": arm,
        "seed": seed,
        "space": SPACE,
        "architecture": str(architecture),
        "latency_share": prepared.model.latency_ms(path) / prepared.budget.in_ms,
        "macs": cost.macs,
        "params": cost.params,
        "peak_bytes": peak_bytes,
        "keeps_bound": peak_bytes <= bound,
        "search_s": search_s,
        "accuracies": [],
        **found,
    }


def main() -> None:
    """All arms and seeds; the result is kept after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--seconds", type=float, default=240, help="processor time of a search")
    parser.add_argument("--trained", type=int, default=10, help="epochs from scratch")
    parser.add_argument("--trainings", type=int, default=3, help="of each network from scratch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--tests", type=int, default=5000)
    parser.add_argument("--picture", type=Path, default=Path("docs/pictures/radars.svg"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if words.one:
        arm, seed = words.one
        if arm == "plain":
            (words.folder / "plain.json").write_text(json.dumps(plain_dnas(words.folder, words)))
            return
        place: Path = words.folder / f"{arm}-{seed}.json"
        row = json.loads(place.read_text()) if place.exists() else one(words.folder, arm, int(seed), words)
        place.write_text(json.dumps(row))
        while len(row["accuracies"]) < words.trainings:
            row["accuracies"].append(from_scratch(words.folder, row, words.trained))
            place.write_text(json.dumps(row))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = (words.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "images.npz").exists():
            images_of(words.data, folder / "images.npz", words.images, words.tests)
        unas_hw(folder, "profile", "--space", SPACE, "--dataset", str(folder / "images.npz"), "--device", "sim:phone")

        def done(arm: str, seed: int) -> dict[str, Any]:
            kept = folder / (f"{arm}.json" if arm == "plain" else f"{arm}-{seed}.json")
            if arm != "plain" or not kept.exists():
                told = ["--folder", str(folder), "--one", arm, str(seed)]
                for name in ("seconds", "trained", "trainings", "batch"):
                    told += [f"--{name}", str(getattr(words, name))]
                subprocess.run([sys.executable, "-m", "benchmarks.methods.radars", *told], check=True)
            result: dict[str, Any] = json.loads(kept.read_text())
            return result

        facts = done("plain", 0)
        above = {name: facts[name] - facts["libraries_bytes"] for name in ("plain_bytes", "bound_bytes")}
        print(f"{facts}, above the libraries {above}", flush=True)
        rows: list[dict[str, Any]] = []
        with ThreadPoolExecutor(words.jobs) as pool:
            futures = [pool.submit(done, arm, seed) for seed in words.seeds for arm in words.arms]
            for future in as_completed(futures):
                rows.append(row := future.result())
                settings = {name: getattr(words, name) for name in ("seconds", "trained", "batch")}
                keep("methods_radars", {**facts, "space": SPACE, **settings, **summary(rows), "rows": rows})
                print(
                    f"{row['arm']} {row['seed']}: {[f'{each:.2%}' for each in row['accuracies']]}, "
                    f"{row['macs'] / 1e6:.2f}M MACs, peak {row['peak_bytes'] / 1e6:.0f} MB "
                    f"({'within' if row['keeps_bound'] else 'above'} the bound), searched {row['search_s']:.0f} s",
                    flush=True,
                )
        picture(facts, rows, words.picture)
        for name, value in summary(rows).items():
            print(name, value)


if __name__ == "__main__":
    main()
