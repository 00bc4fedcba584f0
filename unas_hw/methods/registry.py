"""The methods of the field as configurations of one search.

=================  ====================  ==============  =======================  ==============================
``--method``       estimator             alpha learns    weights learn from       latency
=================  ====================  ==============  =======================  ==============================
``unas``           rebar                 L_train + gap   zeta (and z: see below)  exact + residual, dual variable
``darts``          darts                 L_val           softmax(alpha)           expected, dual variable
``snas``           gumbel, tau annealed  L_train         zeta                     expected, dual variable
``gdas``           straight-through      L_val           z                        expected, dual variable
``reinforce``      reinforce             L_val           z                        measured, dual variable
``proxylessnas``   binary-gates          L_val           z                        expected, its published form
``fbnet``          gumbel, tau annealed  L_val           zeta                     expected, its published form
=================  ====================  ==============  =======================  ==============================

DARTS, SNAS and GDAS know no latency as published; the budget is ours. The table is our reading of these methods in the
terms of UNAS. Annealing goes from 5 to 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from unas_hw.errors import MethodError
from unas_hw.methods.unas.config import UnasConfig

_ANNEALED = {"estimator": "gumbel", "tau": 5.0, "tau_end": 0.5}
_ONLY_TABLE = {"latency_estimator": "expected"}
METHODS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "unas": {},
        "darts": {"estimator": "darts", "loss_on": "valid", "weights_from": "relaxed", **_ONLY_TABLE},
        "snas": {**_ANNEALED, "gap_weight": 0.0, "weights_from": "relaxed", **_ONLY_TABLE},
        "gdas": {"estimator": "straight-through", "loss_on": "valid", "weights_from": "choice", **_ONLY_TABLE},
        "reinforce": {
            "estimator": "reinforce",
            "loss_on": "valid",
            "weights_from": "choice",
            "latency_estimator": "reinforce",
        },
        "proxylessnas": {
            "estimator": "binary-gates",
            "loss_on": "valid",
            "weights_from": "choice",
            "budget_form": "proxylessnas",
            **_ONLY_TABLE,
        },
        "fbnet": {**_ANNEALED, "loss_on": "valid", "weights_from": "relaxed", "budget_form": "fbnet", **_ONLY_TABLE},
    }
)
"""What each sets of ``UnasConfig``; everything else is as in UNAS."""
PLAYING = "rl_darts"
"""The method for tasks."""
OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "freenas": "unas_hw.methods.freenas.job",
        "monas": "unas_hw.methods.monas.job",
        "radars": "unas_hw.methods.radars.job",
        PLAYING: "unas_hw.methods.rl_darts.job",
    }
)
"""Searches of their own, by the module of their job; each has a page in ``docs``."""


def configured(method: str, config: UnasConfig) -> UnasConfig:
    """The configuration with what the method sets; raises ``MethodError`` if none is called that."""
    names = (*METHODS, *OTHERS)
    if method not in names:
        near = get_close_matches(method, names)
        raise MethodError(
            f"no method is called {method!r}",
            mend=f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}",
        )
    return replace(config, method=method, **METHODS.get(method, {}))
