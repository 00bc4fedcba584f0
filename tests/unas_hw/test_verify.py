"""A verdict is true only where something was looked at and all of it was right; a wrong output, a wrong file and a
missed budget are each seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import nn

from profilers.runtimes.onnx_file import OPSET, default_opset, write_onnx
from unas_hw.export.batches import Batches
from unas_hw.spaces.chain import ChainSpace
from unas_hw.verify import (
    ENOUGH_IMAGES,
    LOST_POINTS,
    MAX_PREDICTION_ERROR,
    MOST_MOVED,
    Check,
    Verdict,
    accuracy_check,
    budget_check,
    budget_missed,
    parity,
    table_checks,
)
from unas_hw.verify.onnx_file import layer_types, onnx_checks, runtime_warnings

pytestmark = pytest.mark.usefixtures("remembered_exports")
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
    assert BAD.to_json() == {"name": "bad", "seen": 1.1, "allowed": 1.0, "passed": False, "words": ""}
    assert str(Check("bad", 2.0, 1.0, "the reason")) == "FAIL  bad: 2 (allowed 1): the reason"


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


def _checks(path: Path, profiled: Path, **told: Any) -> list[Check]:
    asked: dict[str, Any] = {"opset": OPSET, "batches": Batches(1, 1024), "precision": "float32", "properties": {}}
    return list(onnx_checks(path, profiled, **asked | told))


def test_what_export_writes_passes(files: Path) -> None:
    checks = _checks(files / "final.onnx", files / "timed.onnx")
    assert _failed(checks) == []
    assert len(checks) >= 10
    assert runtime_warnings(files / "final.onnx").passed


def test_another_batch_than_the_one_asked_for_is_seen(files: Path) -> None:
    timed = files / "timed.onnx"
    assert _failed(_checks(timed, timed)) == ["inputs of another batch"]
    assert _failed(_checks(timed, timed, batches=Batches(1, 1))) == []
    assert _failed(_checks(timed, timed, batches=Batches(2, 2))) == ["inputs of another batch"]
    assert _failed(_checks(files / "final.onnx", timed, batches=Batches(1, 1))) == ["inputs of another batch"]


def _changed(files: Path, folder: Path, change: Callable[[Any], object]) -> list[str]:
    """Names of the checks that fail on ``final.onnx`` with a change."""
    model = onnx.load(files / "final.onnx")
    change(model)
    (folder / "changed.onnx").write_bytes(model.SerializeToString())
    return _failed(_checks(folder / "changed.onnx", files / "timed.onnx", properties={"space": "chain"}))


def test_another_opset_is_seen(files: Path, tmp_path: Path) -> None:
    def older(model: Any) -> None:
        for entry in model.opset_import:
            entry.version = OPSET - 1

    assert "distance from the opset" in _changed(files, tmp_path, older)


def test_what_the_file_does_not_say_of_itself_is_seen(files: Path, tmp_path: Path) -> None:
    assert "properties missing" in _changed(files, tmp_path, lambda model: None)
    said = {"space": "chain"}
    assert "properties missing" not in _changed(files, tmp_path, lambda model: onnx.helper.set_model_props(model, said))


def test_a_weight_that_is_no_number_is_seen(files: Path, tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        tensor = next(each for each in model.graph.initializer if len(each.dims) == 4)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = np.nan
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    assert "weights that are no numbers" in _changed(files, tmp_path, spoil)


def test_another_network_than_the_profiled_one_is_seen(space: ChainSpace, files: Path, tmp_path: Path) -> None:
    shallower = space.network(space.architecture((1, 0, 1)))
    write_onnx(shallower, space.input_shape, tmp_path / "other.onnx", final=False)
    checks = _checks(files / "final.onnx", tmp_path / "other.onnx")
    assert _failed(checks) == ["arithmetic nodes unlike the profiled ones"]


def test_a_rectifier_right_after_another_is_no_difference(tmp_path: Path) -> None:
    """A user's residual block ends with one, a separable convolution begins with one."""
    network, kinds = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)), []
    for final in (True, False):
        path = tmp_path / f"{final}.onnx"
        write_onnx(network.eval(), (1, 1, 8, 8), path, final=final)
        kinds.append([node.op_type for node in onnx.load(path).graph.node].count("Relu"))
    assert kinds == [1, 2], "or there is nothing to test"
    assert not _failed(_checks(tmp_path / "True.onnx", tmp_path / "False.onnx"))


def test_batch_normalisation_may_be_folded_where_what_is_timed_has_it_but_not_the_other_way(
    files: Path, tmp_path: Path
) -> None:
    model = onnx.load(files / "timed.onnx")
    model.graph.node.append(onnx.helper.make_node("BatchNormalization", ["a"] * 5, ["b"]))
    onnx.save(model, tmp_path / "unfolded.onnx")
    assert _failed(_checks(files / "final.onnx", tmp_path / "unfolded.onnx")) == []
    unlike = _failed(_checks(tmp_path / "unfolded.onnx", files / "timed.onnx"))
    assert "arithmetic nodes unlike the profiled ones" in unlike


def test_a_graph_that_is_invalid_is_seen_with_the_words_of_the_checker(files: Path, tmp_path: Path) -> None:
    model = onnx.load(files / "final.onnx")
    model.graph.node[1].input[0] = "nowhere"
    onnx.save(model, tmp_path / "broken.onnx")
    (check,) = [each for each in _checks(tmp_path / "broken.onnx", files / "timed.onnx") if "checker" in each.name]
    assert not check.passed and "nowhere" in check.words
    assert not runtime_warnings(tmp_path / "broken.onnx").passed


def test_bytes_that_are_no_onnx_are_a_failed_check_and_no_traceback(files: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes((files / "final.onnx").read_bytes()[:-500])
    checks = _checks(tmp_path / "cut.onnx", files / "timed.onnx")
    assert "files that are no ONNX" in _failed(checks)


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_layers_in_another_precision_are_counted(
    space: ChainSpace, files: Path, tmp_path: Path, precision: str
) -> None:
    network, path = space.network(space.architecture((1, 1, 1))), tmp_path / "short.onnx"
    write_onnx(network, space.input_shape, path, final=True, precision=precision)
    assert set(layer_types(onnx.load(path))) == {precision}
    opset, timed = default_opset(precision), tmp_path / "timed.onnx"
    write_onnx(network, space.input_shape, timed, final=False, precision=precision)
    assert _failed(_checks(path, timed, precision=precision, opset=opset)) == []
    assert _failed(_checks(path, timed, opset=opset)) == ["layers not in float32"]
    assert _failed(_checks(files / "final.onnx", files / "timed.onnx", precision=precision)) == [
        f"layers not in {precision}"
    ]


def test_a_latency_over_the_budget_is_seen_and_one_on_it_is_kept() -> None:
    assert budget_check(80.0, 80.0).passed
    assert not budget_check(80.1, 80.0).passed
    assert not budget_check(math.nan, 80.0).passed


def test_a_table_that_misleads_or_is_of_another_speed_is_seen() -> None:
    assert _failed(table_checks(50.0, 50.0, 1.0)) == []
    for scale in (1.01 * MOST_MOVED, 1 / (1.01 * MOST_MOVED)):
        assert _failed(table_checks(50.0, 50.0, scale)) == ["factor by which the anchors moved"]
        assert "unas-hw profile --refresh" in table_checks(50.0, 50.0, scale)[0].words
    for share in (1 - MAX_PREDICTION_ERROR / 100 - 0.01, 1 + MAX_PREDICTION_ERROR / 100 + 0.01):
        assert _failed(table_checks(50.0, share * 50.0, 1.0)) == ["prediction error in percent"]


def test_only_the_budget_missed_is_told_from_other_failures() -> None:
    missed, kept = budget_check(81.0, 80.0), budget_check(79.5, 80.0)
    misled = table_checks(50.0, 80.0, 2.0)
    assert budget_missed([GOOD, missed])
    assert budget_missed([GOOD, *misled, missed])
    assert not budget_missed([*misled, kept])
    assert not budget_missed([BAD, missed])
    assert not budget_missed([BAD, kept])
    assert not budget_missed([kept])


@pytest.mark.parametrize("precision", sorted(LOST_POINTS))
def test_accuracy_may_be_lost_as_far_as_is_allowed_and_chance_explains(precision: str) -> None:
    right = np.ones(10_000, bool)

    def lost(points: float) -> Check:
        after = right.copy()
        after[: round(points * 100)] = False
        return accuracy_check(right, after, precision)

    allowed = LOST_POINTS[precision]
    assert lost(allowed).passed
    assert not lost(3 * allowed).passed
    assert accuracy_check(~right, right, precision).passed  # better is no loss
    assert lost(allowed).words.startswith("100.00% before")


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
