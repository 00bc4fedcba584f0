"""A table that says 0.6 of what this CPU takes, ten budgets: what the export's repair makes of the missed ones.

    python -m benchmarks.export.repair [BUDGETS]

The digits' space is profiled and copied wrongly: ``rows``, with only the operations' samples times 0.6 (the anchors
and the calibration stay), and ``all``, with every sample. One search with each wrong table, which measures nothing; for
each budget the network that it would choose becomes a run, is exported and measured, and repaired where it misses.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.report import keep
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from unas_hw.budget import Budget
from unas_hw.data import DIGITS, load_dataset
from unas_hw.jobs.export import ExportSettings, export
from unas_hw.jobs.profile import profile, space_for
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import TableMeter
from unas_hw.methods.unas.compared import Compared
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.found import fine_tuned
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.network import save_network
from unas_hw.progress import finish
from unas_hw.runs import RUNS, Run
from unas_hw.search.published import Proxy, latency_of
from unas_hw.search.result import described, limits_kept
from unas_hw.search.run_folder import CHECKPOINT, config_of
from unas_hw.search.settings import SearchSettings

WRONG, BUDGETS = 0.6, 10
LEAST = 1.15
"""Of what the fastest network takes by the right table: no smaller budget can be kept with confidence."""
UNAS = UnasConfig(warmup_epochs=8, epochs=4, finetune_epochs=2)


def wrong_copy(path: Path, everything: bool) -> Path:
    """The table with the operations' samples, or all, times ``WRONG``; everything else as it is."""
    lines, roles = [], dict[str, str]()
    for text in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(text)
        if record["record"] == "row":
            roles[record["key"]] = record["role"]
        if record["record"] in ("row", "sample", "value") and (everything or roles.get(record["key"], OP) == OP):
            for name in ("ms", "sd_ms"):
                if record.get(name) is not None:
                    record[name] *= WRONG
            for sample in record.get("samples", ()):
                sample[2] *= WRONG
        lines.append(json.dumps(record) + "\n")
    copy = path.with_name(f"{path.stem}-{'all' if everything else 'rows'}.jsonl")
    copy.write_text("".join(lines), encoding="utf-8")
    return copy


class Searched:
    """One search by a wrong table, of which runs for any budget are made.

    Args:
        name: Of the runs.
        table: Wrong.
        least_ms: Where the budgets begin; they end with what the table says of the slowest.
    """

    def __init__(self, name: str, table: LatencyTable, least_ms: float) -> None:
        self.name, self.table, self.space = name, table, space_for(None)
        self.data = load_dataset(DIGITS, seed=UNAS.seed)
        self.model = LatencyModel(self.space, table)
        self.range_ms = least_ms, self.model.range[1]
        self.run = self._begin(f"{name}-search", Budget(sum(self.range_ms) / 2))
        self.unas = self._search(self.run, sum(self.range_ms) / 2)
        for _ in self.unas.steps():
            pass

    def _begin(self, name: str, budget: Budget) -> Run:
        settings = SearchSettings(finals="none", budget=str(budget), table=self.table.path, config=UNAS)
        setting = Proxy(self.data, None, self.space, self.space)
        return Run.begin(RUNS / name, config_of(settings, setting, self.table, budget))

    def _search(self, run: Run, budget_ms: float) -> UnasSearch:
        return UnasSearch(self.space, self.model, TableMeter(self.model), self.data, budget_ms, UNAS, run)

    def run_for(self, number: int, share: float) -> Run:
        """A finished run, with the network that this table alone chooses; the budget is that share of the range."""
        least_ms, most_ms = self.range_ms
        budget_ms = least_ms + share * (most_ms - least_ms)
        *_, found = Compared(self.unas).select(budget_ms, TimingRule(), self.unas.meter.headroom)
        path = found.best or found.nearest
        run = self._begin(f"{self.name}-{number}", Budget(budget_ms))
        (run.path / CHECKPOINT).write_bytes((self.run.path / CHECKPOINT).read_bytes())
        network, valid_accuracy = finish(fine_tuned(self.unas, path, run))
        save_network(run, "weights.safetensors", network)
        result = {
            "run": str(run.path),
            "architecture": str(self.space.architecture(path)),
            "predicted_ms": self.model.latency_ms(path),
            "budget_ms": budget_ms,
            **latency_of(self.table, found.readings[path]),
            "feasible": True,
            "limits": limits_kept(self.unas.constraints, path),
            "valid_accuracy": valid_accuracy,
        }
        run.write_json("result.json", result)
        run.write_json("architecture.json", described(self.unas.space, self.unas.model, path))
        return run


def row(searched: Searched, number: int, budgets: int) -> dict[str, Any]:
    """One budget: the file as the wrong table chose it, and what came of the repair."""
    begin = time.monotonic()
    run = searched.run_for(number, (number + 0.5) / budgets)
    settings = ExportSettings(run=str(run.path), repair=False)
    first = finish(export(settings))
    found: dict[str, Any] = {
        "table": searched.name,
        "budget_ms": first["budget_ms"],
        "predicted_ms": first["predicted_ms"],
        "first_ms": first["measured_ms"],
        "first_accuracy": first["test_accuracy"],
        "missed": first["budget_missed"],
    }
    last = finish(export(replace(settings, repair=True))) if first["budget_missed"] else first
    repair = last.get("repair") or {}
    return found | {
        "rounds": len(repair.get("rounds", ())),
        "scale": repair.get("scale", 1.0),
        "reason": repair.get("reason"),
        "p50_ms": last["p50_ms"],
        "measured_ms": last["measured_ms"],
        "upper_ms": last["measured_ms"] * (1 + last["reading"]["margin"]),
        "within": not last["budget_missed"],
        "failed": [check["name"] for check in last["checks"] if not check["passed"]],
        "test_accuracy": last["test_accuracy"],
        "seconds": time.monotonic() - begin,
    }


def main(budgets: int) -> None:
    """Prints and keeps one row a budget."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        os.environ["UNAS_HW_HOME"] = name
        profiler = open_profiler("cpu", runtime="onnxruntime")
        table = finish(profile(space_for(None), profiler, path=Path(name, "table.jsonl")))
        print(f"table: noise floor {table.noise_floor:.2f}%", flush=True)
        least_ms = LEAST * LatencyModel(space_for(None), table).range[0]
        for everything in (False, True):
            wrong = LatencyTable.load(wrong_copy(table.path, everything))
            searched = Searched("all" if everything else "rows", wrong, least_ms)
            for number in range(budgets):
                rows.append(found := row(searched, number, budgets))
                mended = found["reason"] or f"x{found['scale']:.2f} after {found['rounds']} rounds"
                print(
                    f"{found['table']}: budget {found['budget_ms']:.4f} ms, predicted {found['predicted_ms']:.4f}, "
                    f"measured {found['first_ms']:.4f}; {mended}; then p50 {found['p50_ms']:.4f}, "
                    f"{'within' if found['within'] else 'MISSED'} ({found['upper_ms'] / found['budget_ms']:.1%} used), "
                    f"failed: {found['failed'] or 'nothing'}, {found['seconds']:.0f} s",
                    flush=True,
                )
                keep("export_repair", summary(rows))
        os.chdir("/")


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many were missed, how many of these are within their budget now, and how many have a reason."""
    missed = [row for row in rows if row["missed"]]
    return {
        "wrong": WRONG,
        "unas": asdict(UNAS),
        "budgets": len(rows),
        "missed_at_first": len(missed),
        "within": sum(row["within"] for row in missed),
        "with_reason": sum(not row["within"] and row["reason"] is not None for row in missed),
        "neither": sum(not row["within"] and row["reason"] is None for row in missed),
        "rounds": [row["rounds"] for row in missed],
        "rows": rows,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else BUDGETS)
