"""Estimators of ``grad E[cost(z)]`` in the logits, one file each, by name.

======================  =============================  ==========================================================
name                    needs of the cost              formula (z choice, zeta relaxed; UNAS, section 3)
======================  =============================  ==========================================================
``reinforce-plain``     discrete                       L(z) grad log p(z)
``reinforce``           discrete                       (L(z) - moving average) grad log p(z)
``reinforce-loo``       discrete                       (L(z) - mean of the others) grad log p(z)
``darts``               relaxed                        grad L(softmax(alpha)); biased
``darts-second-order``  unrolled                       grad L_val(w - xi grad_w L_train, softmax(alpha)); biased
``gumbel``              relaxed                        grad L(zeta); biased
``straight-through``    relaxed                        grad L(z + zeta - stopgrad(zeta)); biased
``binary-gates``        relaxed                        grad L(z + q - stopgrad(q)); biased
``rebar``               discrete, relaxed              (L(z) - L(zeta)) grad log p(z) + grad L(zeta) - grad c(z)
``relax``               discrete                       the same with a learned surrogate in the place of L(zeta)
``exact``               discrete, expected             grad E[f(table)] + (f(meas) - f(table) - b) grad log p(z)
``expected``            expected                       grad E[f(table)]
======================  =============================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from profilers.errors import did_you_mean
from unas_hw.distribution import TAU
from unas_hw.errors import EstimatorError
from unas_hw.estimators.base import Estimator as Estimator
from unas_hw.estimators.base import TauFalls
from unas_hw.estimators.darts import Darts, DartsSecondOrder
from unas_hw.estimators.gumbel import Gumbel
from unas_hw.estimators.rebar import Rebar
from unas_hw.estimators.reinforce import Reinforce, ReinforceLeaveOneOut, ReinforcePlain
from unas_hw.estimators.relax import Relax
from unas_hw.estimators.straight_through import BinaryGates, StraightThrough
from unas_hw.estimators.table import Exact, Expected
from unas_hw.objectives import ObjectiveTerm

_ALL: tuple[type[Estimator], ...] = (
    *(ReinforcePlain, Reinforce, ReinforceLeaveOneOut, Darts, DartsSecondOrder, Gumbel, StraightThrough, BinaryGates),
    *(Rebar, Relax, Exact, Expected),
)
ESTIMATORS: Mapping[str, type[Estimator]] = MappingProxyType({estimator.name: estimator for estimator in _ALL})


def find_estimator(
    name: str,
    term: ObjectiveTerm,
    *,
    tau: float = TAU,
    tau_end: float | None = None,
    tau_falls: TauFalls = "exponentially",
    count: int | None = None,
) -> Estimator:
    """A new estimator of that name.

    Args:
        name: Of ``ESTIMATORS``.
        term: What is estimated.
        tau: Temperature of relaxations.
        tau_end: At the end of the search; the same without one.
        tau_falls: How it gets there.
        count: Architectures a step, where that is known.

    Raises:
        EstimatorError: If none is called that, or it cannot work with this objective or so few architectures.
    """
    able = [estimator.name for estimator in ESTIMATORS.values() if estimator.needs <= term.gives]
    if name not in ESTIMATORS:
        raise EstimatorError(f"no estimator is called {name!r}", mend=did_you_mean(name, able))
    estimator = ESTIMATORS[name]
    lacking = estimator.needs - term.gives
    if lacking:
        raise EstimatorError(
            f"estimator {name!r} needs the {', '.join(sorted(lacking))} value of {term.name}, which does not exist",
            mend=f"for {term.name} choose one of {', '.join(able)}",
        )
    if count is not None and count < estimator.least:
        raise EstimatorError(
            f"estimator {name!r} compares architectures of the same step, and there is {count}",
            mend=f"add --architectures {estimator.least}",
        )
    found = estimator(tau, tau_end)
    found.tau_falls = tau_falls
    return found
