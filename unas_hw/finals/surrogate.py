"""What results of some networks say of all: a Gaussian process, or a line through one score where that is nearer.

The process has a linear part, a part by distance (radial basis functions) and noise, fitted by scikit-learn to the
likelihood (Rasmussen & Williams 2006, sections 5.4.1 and 5.4.2, the latter for leave-one-out in closed form).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from profilers.timing import Floats

GP = "gp"
KEPT_SHARE = 0.25
"""Accuracies further below this quantile than the third quartile is above it count as that far below."""
REFITTED = 1.4
"""So many times the results, and the kernel is fitted anew."""
FLOOR = 1e-6


@final
class Surrogate:
    """Of a pool of N networks.

    Args:
        inputs_NF: What the process looks at.
        lines: ``(N,)`` scores by name; a line through one speaks where the process is further off than it.

    Attributes:
        speaks: ``gp``, or the name of a line.
        mean: ``(N,)``, of the accuracy without noise, in its unit.
        unit: The deviation of the accuracies that it was fitted to.
        errors: By name, the root mean square error of leave-one-out, in the unit of the accuracy.
    """

    def __init__(self, inputs_NF: Floats, lines: Mapping[str, Floats]) -> None:
        self._inputs_NF, self._lines = inputs_NF, lines
        self._kernel: Any = (
            ConstantKernel(0.5, (1e-3, 1e2)) * RBF(2.0, (0.3, 30.0))
            + ConstantKernel(0.1, (1e-4, 10.0)) * DotProduct(1e-3, "fixed")
            + WhiteKernel(0.1, (1e-3, 0.5))
        )
        self._fitted = 0
        self.speaks, self.errors = GP, dict[str, float]()
        self.mean, self.unit = np.zeros(len(inputs_NF)), 1.0

    def fit(self, rows: npt.NDArray[np.int64], accuracies: Floats) -> None:
        """To results ``(n,)`` of networks, two or more."""
        clipped = _clipped(accuracies)
        centre, unit = float(clipped.mean()), float(clipped.std()) or 1.0
        targets = (clipped - centre) / unit
        process = self._process(rows, targets)
        errors = {name: _off_line(score[rows], targets) for name, score in self._lines.items()}
        known = cho_solve((process.L_, True), np.eye(len(rows)))
        errors[GP] = _rms(process.alpha_.ravel() / np.diag(known))
        self.errors = {name: float(error * unit) for name, error in errors.items()}
        self.speaks = min(errors, key=lambda name: (errors[name], name != GP))
        if self.speaks == GP:
            signal = process.kernel_.k1
            mean = signal(self._inputs_NF, self._inputs_NF[rows]) @ process.alpha_.ravel()
        else:
            design = _design(self._lines[self.speaks])
            mean = design @ np.linalg.pinv(design[rows]) @ targets
        self.unit, self.mean = unit, centre + unit * mean

    def _process(self, rows: npt.NDArray[np.int64], targets: Floats) -> Any:
        """Its kernel begins from the last one, and stays that where few results have come."""
        anew = len(rows) >= REFITTED * self._fitted
        optimizer: Any = "fmin_l_bfgs_b" if anew else None
        process: Any = GaussianProcessRegressor(self._kernel, alpha=FLOOR, optimizer=optimizer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a bound that is reached is an answer too
            process.fit(self._inputs_NF[rows], targets)
        if anew:
            self._kernel, self._fitted = process.kernel_, len(rows)
        return process


def _clipped(accuracies: Floats) -> Floats:
    """How bad the bad ones are says nothing of the good ones."""
    low, high = np.quantile(accuracies, (KEPT_SHARE, 0.75))
    clipped: Floats = np.maximum(accuracies, 2 * low - high)
    return clipped


def _design(score: Floats) -> Floats:
    return np.column_stack([np.ones(len(score)), score])


def _off_line(score: Floats, targets: Floats) -> float:
    """The error of leave-one-out of a line."""
    design = _design(score)
    hat = design @ np.linalg.pinv(design)
    return _rms((targets - hat @ targets) / np.maximum(1 - np.diag(hat), FLOOR))


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))
