"""How far tables are off on 30 networks that they have never seen; onnxruntime, one thread, this CPU.

python -m benchmarks.table_accuracy [PIXELS ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.commands import unas_hw
from benchmarks.report import keep


def main(sizes: list[str]) -> None:
    """Profile and validate `mbconv-small` at each size, from nothing."""
    rows = []
    for pixels in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            words = ("--space", "mbconv-small", "--image-size", pixels, "--runtime", "onnxruntime", "--threads", "1")
            profiled = unas_hw(folder, "profile", *words)
            rows.append({"pixels": int(pixels), **unas_hw(folder, "tables", "validate")})
        row = rows[-1]
        del row["table"]
        print(
            f"{pixels} px: MAPE {row['mape']:.2f}%, worst {row['max_error']:.2f}%, Spearman {row['spearman']:.4f}, "
            f"noise floor {row['noise_floor']:.2f}% (table {profiled['noise_floor']:.2f}%), {row['model']}",
            flush=True,
        )
    keep("table_accuracy", {"rows": rows})


if __name__ == "__main__":
    main(sys.argv[1:] or ["8", "32", "64"])
