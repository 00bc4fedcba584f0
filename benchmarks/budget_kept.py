"""Three budgets (30, 50 and 70% of the way from the smallest to the largest network) by three seeds, on this CPU.

    python -m benchmarks.budget_kept

One profile, nine searches with default settings, each network exported and measured again by a process of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.commands import unas_hw
from benchmarks.report import keep


def main() -> None:
    """Prints and keeps one row a search."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = unas_hw(folder, "profile")
        print(f"table: noise floor {table['noise_floor']:.2f}%, held-out {table['calibration']['errors']['mape']:.2f}%")
        for share in ("30%", "50%", "70%"):
            for seed in ("0", "1", "2"):
                found = unas_hw(folder, "search", "--latency-budget", share, "--seed", seed, codes=(0, 3))
                report = unas_hw(folder, "export", codes=(0, 1, 3))
                names = ("budget_ms", "predicted_ms", "measured_ms", "raw_ms", "anchor_scale", "passed")
                row = {"budget": share, "seed": int(seed), **{key: report[key] for key in names}}
                row |= {"used": report["measured_ms"] / report["budget_ms"], "search_measured_ms": found["measured_ms"]}
                row |= {"failed": [check["name"] for check in report["checks"] if not check["passed"]]}
                rows.append(row)
                keep("budget_kept", summary(rows))  # after every search: it takes a while
                print(
                    f"{share} seed {seed}: budget {row['budget_ms']:.4f} ms, predicted {row['predicted_ms']:.4f}, "
                    f"measured {row['measured_ms']:.4f} ({row['used']:.1%} of it), anchors x{row['anchor_scale']:.3f}, "
                    f"failed: {row['failed'] or 'nothing'}",
                    flush=True,
                )
    total = summary(rows)
    print(
        f"budget kept in {total['kept']} of {len(rows)}, at least 85% of it used in {total['at_least_85_percent_used']}"
    )


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many of the searches kept and used their budget."""
    kept, used = sum(row["used"] <= 1 for row in rows), sum(0.85 <= row["used"] <= 1 for row in rows)
    return {"searches": len(rows), "kept": kept, "at_least_85_percent_used": used, "rows": rows}


if __name__ == "__main__":
    main()
