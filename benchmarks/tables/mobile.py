"""The Pixel 1 as ProxylessNAS published it: networks are sums of its rows, and a search within 80 ms needs no phone.

python -m benchmarks.tables.mobile
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.commands import unas_hw
from benchmarks.report import keep
from latency_tables.home import open_table
from unas_hw.latency_model import LatencyModel, predict
from unas_hw.spaces import find_space

SPACE, DEVICE, BUDGET_MS = "mbconv-mobile", "pixel1", 80.0


def main() -> None:
    """Sums, then a search on the built-in digits, then its export."""
    space, table = find_space(SPACE), open_table(DEVICE)
    model = LatencyModel(space, table)
    rows = {value.key: value.ms for value in table.values.values()}
    worst = 0.0
    for path in (model.smallest, model.largest):
        architecture = space.architecture(path)
        found = predict(space, table, architecture)
        by_hand = sum(rows[part.key] for part in space.parts(architecture) if part.key in rows)
        worst = max(worst, abs(found.predicted_ms - by_hand), abs(model.latency_ms(path) - by_hand))
    print(
        f"smallest {model.latency_ms(model.smallest):.2f} ms, largest {model.latency_ms(model.largest):.2f} ms, "
        f"off their rows by {worst:.1e} ms; not covered: {', '.join(found.not_covered)}"
    )
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        result = unas_hw(
            Path(name), "search", "--space", SPACE, "--device", DEVICE, "--latency-budget", f"{BUDGET_MS:g}ms"
        )
        searched_s = time.monotonic() - begin
        report = unas_hw(Path(name), "export")
    print(
        f"search: {result['predicted_ms']:.2f} ms, {result['predicted_ms'] / BUDGET_MS:.1%} of the budget, "
        f"{result['valid_accuracy']:.1%} on validation images, {searched_s:.0f} s; export passed: {report['passed']}"
    )
    keep(
        "tables_mobile",
        {
            "smallest_ms": model.latency_ms(model.smallest),
            "largest_ms": model.latency_ms(model.largest),
            "off_by_ms": worst,
            "not_covered": list(found.not_covered),
            "search": {key: result[key] for key in ("architecture", "predicted_ms", "valid_accuracy", "latency_from")},
            "share_of_budget": result["predicted_ms"] / BUDGET_MS,
            "search_s": searched_s,
            "export_passed": report["passed"],
        },
    )


if __name__ == "__main__":
    main()
