"""Verify: is the artifact the network, and does it keep the promise? A verdict that says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from profilers.agent.engine import Array
from profilers.runtimes.onnx_file import OPSET

TOLERANCES = {
    "float32": (1e-4, 0.0),
    "float16": (2e-2, 0.01),
    "tf32": (2e-2, 0.01),
    "bfloat16": (1e-1, 0.03),
    "int8": (0.5, 0.1),
}
"""By precision: the largest error of an output (beside float32: as a share of the largest output, if that is above 1),
and the share of images whose class may change."""
ENOUGH_IMAGES = 64
"""Of fewer images none may change its class, or, beside float32, the share says nothing and is not checked."""
MAX_PREDICTION_ERROR = 15.0
"""Percent; beyond it the table misleads, whatever the budget says."""

MEASURED, PREDICTED = (
    "upper bound of measured_ms within the budget",
    "predicted_ms within the budget (nothing was measured)",
)


@final
@dataclass(frozen=True)
class Check:
    """One thing that was looked at; passed while ``seen <= allowed``, so never for NaN."""

    name: str
    seen: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is within what is allowed."""
        return self.seen <= self.allowed

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.seen:.6g} (allowed {self.allowed:.6g})"

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {"name": self.name, "seen": self.seen, "allowed": self.allowed, "passed": self.passed}


@final
@dataclass(frozen=True)
class Verdict:
    """All checks of one artifact; false if any failed and if nothing was checked."""

    checks: tuple[Check, ...]

    def __bool__(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks)) or "FAIL  nothing was checked"


def parity(expected: Array, seen: Array, where: str, precision: str = "float32") -> list[Check]:
    """Outputs ``(N, classes)`` of the network and of the artifact, on the same images."""
    max_error, max_disagreement = TOLERANCES[precision]
    if precision != "float32":
        max_error *= max(1.0, float(np.abs(expected).max()))
    if expected.shape != seen.shape:
        return [Check(f"outputs of another shape ({where})", 1, 0)]
    disagreement = float((expected.argmax(1) != seen.argmax(1)).mean())
    checks = [Check(f"max_abs_error ({where})", float(np.abs(expected - seen).max()), max_error)]
    if precision == "float32" or len(expected) >= ENOUGH_IMAGES:
        checks.append(Check(f"top1_disagreement ({where})", disagreement, max_disagreement))
    return checks


def onnx_checks(path: Path, profiled: Path) -> list[Check]:
    """The file by itself: valid, one file, the opset asked for, batch free, the same nodes as what was profiled."""
    import onnx

    errors = 0
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        errors = 1
    model = onnx.load(path)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    outside = sum(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)
    fixed = sum(not value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input)
    return [
        Check("onnx.checker errors", errors, 0),
        Check(f"distance from opset {OPSET}", abs(opset - OPSET), 0),
        Check("weights outside the file", outside, 0),
        Check("inputs with a fixed batch", fixed, 0),
        Check("arithmetic nodes unlike the profiled ones", _differing(_nodes(model), _nodes(onnx.load(profiled))), 0),
    ]


_SAME = {"GlobalAveragePool": "ReduceMean", "Hardtanh": "Clip", "MatMul": "Gemm"}
_ARITHMETIC = {"Conv", "Gemm", "Clip", "Relu", "ReduceMean", "BatchNormalization", "MaxPool", "AveragePool", "Mul"}


def _nodes(model: Any) -> Counter[str]:
    """Arithmetic of the graph; the exporters spell pooling and reshaping in their own ways."""
    kinds = (_SAME.get(node.op_type, node.op_type) for node in model.graph.node)
    return Counter(kind for kind in kinds if kind in _ARITHMETIC)


def _differing(left: Counter[str], right: Counter[str]) -> int:
    return ((left - right) + (right - left)).total()


def latency_checks(measured_ms: float, upper_ms: float, predicted_ms: float, budget_ms: float) -> list[Check]:
    """The promise, by the upper bound of the measurement, and whether the table could have told."""
    return [
        Check(MEASURED, upper_ms, budget_ms),
        Check("prediction error in percent", abs(predicted_ms / measured_ms - 1) * 100, MAX_PREDICTION_ERROR),
    ]


def table_check(predicted_ms: float, budget_ms: float) -> Check:
    """The promise, where only a published table knows the device."""
    return Check(PREDICTED, predicted_ms, budget_ms)


def budget_missed(checks: Iterable[Check]) -> bool:
    """Whether the budget is the only check that failed."""
    failed = [check.name for check in checks if not check.passed]
    return failed in ([MEASURED], [PREDICTED])
