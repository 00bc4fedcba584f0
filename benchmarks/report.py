"""How a benchmark's result is printed and kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from profilers.agent.machine import cpu_name
from profilers.environment import cpu_environment

RESULTS = Path(__file__).parent / "results"


def keep(name: str, result: dict[str, Any]) -> None:
    """Writes ``results/NAME.json`` with the machine, the versions, the date and the revision."""
    machine = {"cpu": cpu_name(), **cpu_environment(("torch", "onnxruntime", "numpy"))}
    content = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, **result}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"kept in {RESULTS / name}.json")
