"""A verdict is true only where something was looked at and all of it was right; a wrong output, a wrong file and a
missed budget are each seen.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from profilers.runtimes.onnx_file import OPSET, write_onnx
from unas_hw.spaces.chain import ChainSpace
from unas_hw.verify import (
    ENOUGH_IMAGES,
    MAX_PREDICTION_ERROR,
    Check,
    Verdict,
    budget_missed,
    latency_checks,
    onnx_checks,
    parity,
)

GOOD, BAD, NAN = Check("good", 1.0, 1.0), Check("bad", 1.1, 1.0), Check("nan", math.nan, 1.0)


def test_a_nan_never_passes() -> None:
    assert not NAN.passed
    assert not Verdict((GOOD, NAN))
    assert not Check("nan", 1.0, math.nan).passed


def test_nothing_looked_at_is_nothing_verified() -> None:
    assert not Verdict(())
    assert str(Verdict(())) == "FAIL  nothing was checked"


def test_one_failure_is_enough_and_no_failure_is_needed() -> None:
    assert Verdict((GOOD, GOOD))
    assert not Verdict((GOOD, BAD, GOOD))


def test_a_verdict_says_what_was_seen_and_what_is_allowed() -> None:
    assert str(Verdict((GOOD, BAD))) == "pass  good: 1 (allowed 1)\nFAIL  bad: 1.1 (allowed 1)"
    assert BAD.to_json() == {"name": "bad", "seen": 1.1, "allowed": 1.0, "passed": False}


OUTPUTS = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)


def _failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_equal_outputs_pass() -> None:
    assert Verdict(tuple(parity(OUTPUTS, OUTPUTS + 1e-6, "here")))


def test_one_number_that_is_off_is_seen() -> None:
    seen = OUTPUTS.copy()
    seen[7, OUTPUTS[7].argmin()] -= 1e-3
    assert _failed(parity(OUTPUTS, seen, "here")) == ["max_abs_error (here)"]


def test_another_class_is_seen_even_where_numbers_are_close() -> None:
    expected = np.zeros((10, 3), np.float32)
    expected[:, 0] = 1e-6
    seen = expected.copy()
    seen[4, 1] = 2e-6
    (check,) = [each for each in parity(expected, seen, "here") if not each.passed]
    assert check.name == "top1_disagreement (here)"
    assert check.seen == pytest.approx(0.1)


def test_outputs_of_another_shape_or_without_numbers_fail() -> None:
    assert not Verdict(tuple(parity(OUTPUTS, OUTPUTS[:-1], "here")))
    assert not Verdict(tuple(parity(OUTPUTS, np.full_like(OUTPUTS, np.nan), "here")))


@pytest.fixture(scope="module")
def files(space: ChainSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``timed.onnx`` as a profiler writes it, ``final.onnx`` as export does."""
    folder = tmp_path_factory.mktemp("onnx")
    network = space.network(space.architecture((1, 1, 1)))
    write_onnx(network, space.input_shape, folder / "timed.onnx", final=False)
    write_onnx(network, space.input_shape, folder / "final.onnx", final=True)
    return folder


def test_what_export_writes_passes(files: Path) -> None:
    checks = onnx_checks(files / "final.onnx", files / "timed.onnx")
    assert _failed(checks) == []
    assert len(checks) >= 5


def test_a_fixed_batch_is_seen(files: Path) -> None:
    assert _failed(onnx_checks(files / "timed.onnx", files / "timed.onnx")) == ["inputs with a fixed batch"]


def test_another_opset_is_seen(files: Path, tmp_path: Path) -> None:
    model = onnx.load(files / "final.onnx")
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = OPSET - 1
    onnx.save(model, tmp_path / "old.onnx")
    checks = onnx_checks(tmp_path / "old.onnx", files / "timed.onnx")
    assert f"distance from opset {OPSET}" in _failed(checks)


def test_another_network_than_the_profiled_one_is_seen(space: ChainSpace, files: Path, tmp_path: Path) -> None:
    shallower = space.network(space.architecture((1, 0, 1)))
    write_onnx(shallower, space.input_shape, tmp_path / "other.onnx", final=False)
    checks = onnx_checks(files / "final.onnx", tmp_path / "other.onnx")
    assert _failed(checks) == ["arithmetic nodes unlike the profiled ones"]


def test_a_graph_that_is_invalid_is_seen(files: Path, tmp_path: Path) -> None:
    model = onnx.load(files / "final.onnx")
    model.graph.node[1].input[0] = "nowhere"
    onnx.save(model, tmp_path / "broken.onnx")
    assert "onnx.checker errors" in _failed(onnx_checks(tmp_path / "broken.onnx", files / "timed.onnx"))


def test_a_latency_over_the_budget_is_seen_and_one_on_it_is_kept() -> None:
    assert _failed(latency_checks(79.0, 80.0, 80.0, 80.0)) == []
    assert _failed(latency_checks(79.0, 80.1, 80.0, 80.0)) == ["upper bound of measured_ms within the budget"]
    assert _failed(latency_checks(math.nan, math.nan, 80.0, 80.0)) != []


def test_a_table_that_misleads_is_seen_whatever_the_budget() -> None:
    for share in (1 - MAX_PREDICTION_ERROR / 100 - 0.01, 1 + MAX_PREDICTION_ERROR / 100 + 0.01):
        assert _failed(latency_checks(50.0, 50.0, share * 50.0, 80.0)) == ["prediction error in percent"]


def test_only_the_budget_missed_is_told_from_other_failures() -> None:
    missed, kept = latency_checks(79.0, 81.0, 80.0, 80.0), latency_checks(79.0, 79.5, 80.0, 80.0)
    assert budget_missed([GOOD, *missed])
    assert not budget_missed([BAD, *missed])
    assert not budget_missed([BAD, *kept])
    assert not budget_missed(kept)


@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-4), ("float16", 2e-2), ("int8", 0.5)])
def test_a_shorter_precision_is_allowed_larger_errors_as_a_share_of_the_largest_output(
    precision: str, error: float
) -> None:
    expected = np.tile(np.array([[0.0, 10.0]]), (ENOUGH_IMAGES, 1))
    share = 10 if precision != "float32" else 1
    for factor, passes in ((0.9, True), (1.1, False)):
        first = parity(expected, expected + error * share * factor, "images", precision)[0]
        assert first.passed is passes
    assert not parity(expected, expected * np.nan, "images", precision)[0].passed


def test_a_few_changed_classes_fail_float32_and_pass_eight_bits() -> None:
    expected = np.tile(np.array([[0.0, 10.0]]), (ENOUGH_IMAGES, 1))
    seen = expected.copy()
    seen[:3] = seen[:3, ::-1]
    assert not parity(expected, seen, "images")[1].passed
    assert parity(expected, seen, "images", "int8")[1].passed
    assert len(parity(expected[:4], seen[:4], "images", "int8")) == 1
