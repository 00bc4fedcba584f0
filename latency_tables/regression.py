"""Operations that a table lacks, predicted from its own rows; each is flagged and widens the interval of a prediction.

The logarithm of the latency is regressed on features of the OpSpec and its arithmetic. Gradient boosting and a Gaussian
process are compared by cross-validation on the rows that are there; the better one predicts, and its error in the
cross-validation is the standard deviation of what it predicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from latency_tables.errors import MissingEntryError
from latency_tables.rows import OP, REGRESSED, Value
from latency_tables.table import LatencyTable
from profilers.opspec import OpSpec
from profilers.timing import Floats
from profilers.workload import Workload

MIN_ROWS = 12
"""Rows of one kind below which nothing is predicted for that kind."""
FOLDS = 5
MAX_DEVIATION = 0.5
"""A predictor that is further off than this on rows that it has not seen is not used."""


def complete(table: LatencyTable, workloads: Iterable[Workload]) -> LatencyTable:
    """The table, with a predicted value for every operation that it lacks; the same one if it lacks none.

    Predictions have the origin ``regressed`` and are never written to a file.

    Raises:
        MissingEntryError: If the table has too few rows of that kind, or its rows predict each other too badly; the
            nearest row and the command that measures the operation are named.
    """
    known = set(table.keys(OP))
    missing = {workload.key: workload for workload in workloads if workload.key not in known}
    if not missing:
        return table
    values = []
    for kind in sorted({workload.op.kind for workload in missing.values()}):
        wanted = [workload for workload in missing.values() if workload.op.kind == kind]
        values += _predict(table, kind, wanted)
    return table.with_values(values)


def _predict(table: LatencyTable, kind: str, wanted: Sequence[Workload]) -> list[Value]:
    rows = {key: op for key in table.measurements if (op := OpSpec.from_key(key)).kind == kind and key in table.rows}
    if len(rows) < MIN_ROWS:
        raise _missing(table, wanted[0], f"{len(rows)} rows of kind {kind!r} are too few to predict it from")
    costs = [(table.rows[key].macs, table.rows[key].params) for key in rows]
    asked = [(each.cost.macs, each.cost.params) for each in wanted]
    names = sorted({name for op in (*rows.values(), *(each.op for each in wanted)) for name in op.attrs})
    x, new = _features(rows.values(), costs, names), _features([each.op for each in wanted], asked, names)
    y = np.log([table.latency_ms(key) for key in rows])
    model, deviation = _best(x, y)
    if deviation > MAX_DEVIATION:
        raise _missing(table, wanted[0], f"its rows predict each other with {deviation:.0%} error")
    predicted = np.exp(model.predict(new))
    return [
        Value(
            key=each.key,
            ms=float(ms),
            sd_ms=float(ms) * deviation,
            origin=REGRESSED,
            source=type(model[-1]).__name__,
            params=each.cost.params,
        )
        for each, ms in zip(wanted, predicted, strict=True)
    ]


def _missing(table: LatencyTable, workload: Workload, why: str) -> MissingEntryError:
    near = get_close_matches(workload.key, table.keys(OP), n=1, cutoff=0)
    return MissingEntryError(
        f"{table.path.name} has no row for {workload.key}, and {why}" + (f"; the nearest is {near[0]}" if near else ""),
        mend=table.mend("for the space that has this operation"),
    )


def _features(ops: Iterable[OpSpec], costs: Sequence[tuple[int, int]], names: Sequence[str]) -> Floats:
    """``(operations, features)``: logarithms of MACs, weights, shape and attributes; words become numbers by rank."""
    lines = []
    for op, cost in zip(ops, costs, strict=True):
        attrs = [op.attrs.get(name, 0) for name in names]
        numbers = [*cost, *op.shape, *(each if isinstance(each, int | float) else 0 for each in attrs)]
        words = [float(sum(map(ord, each))) if isinstance(each, str) else 0.0 for each in attrs]
        lines.append([*np.log1p(np.abs(np.array(numbers, float))), *words])
    return np.array(lines)


def _best(x: Floats, y: Floats) -> tuple[Any, float]:
    """The fitted model of the lowest root mean square error in cross-validation, and that error (of the logarithm)."""
    import warnings

    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, DotProduct, WhiteKernel
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kernel = RBF(3.0) + DotProduct(1.0, "fixed") + WhiteKernel(1e-3, (1e-6, 1.0))
    models = [
        make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)),
        make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=300, max_depth=3, random_state=0)),
    ]
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound that is reached is an answer too
        errors = [float(np.sqrt(np.mean((cross_val_predict(model, x, y, cv=folds) - y) ** 2))) for model in models]
        best = int(np.argmin(errors))
        return models[best].fit(x, y), errors[best]
