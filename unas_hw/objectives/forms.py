"""How an expected latency enters the loss: the published forms, beside the hinge whose multiplier keeps a budget.

==================  ==========================================  =========================
form                loss                                        source
==================  ==========================================  =========================
``hinge``           L + mu E[max(0, lat / T - 1)]               UNAS; mu is found
``mnasnet``         L * (E[lat] / T)^0.07                       MnasNet
``proxylessnas``    L * 0.2 * (log E[lat] / log T)^0.3          ProxylessNAS, its program
``fbnet``           L * 0.2 * (log E[lat])^0.6                  FBNet, section 4.1
``linear``          L + 0.1 * (E[lat] - T) / T                  ProxylessNAS
==================  ==========================================  =========================

All but the first trade latency for loss at a rate that nobody can know beforehand: they fix no constraint. Logarithms
are of milliseconds, as published. Up to one unit the power of a logarithm has no meaning, so where the budget or a
network takes no more than a millisecond they are of microseconds: a departure, of which ``departure`` tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from profilers.units import format_ms

HINGE, LINEAR = "hinge", "linear"
MILLISECOND, MICROSECOND = 1.0, 1e-3
"""Units of logarithms, in milliseconds."""
_MNASNET_W, _LINEAR = 0.07, 0.1
_PROXYLESS_A, _PROXYLESS_B = 0.2, 0.3
_FBNET_A, _FBNET_B = 0.2, 0.6


def _mnasnet(latency_ms: Tensor, budget_ms: float, unit_ms: float) -> Tensor:
    del unit_ms  # a ratio has none
    return (latency_ms / budget_ms) ** _MNASNET_W


def _proxylessnas(latency_ms: Tensor, budget_ms: float, unit_ms: float) -> Tensor:
    return _PROXYLESS_A * ((latency_ms / unit_ms).log() / math.log(budget_ms / unit_ms)) ** _PROXYLESS_B


def _fbnet(latency_ms: Tensor, budget_ms: float, unit_ms: float) -> Tensor:
    del budget_ms  # FBNet knows none
    return _FBNET_A * (latency_ms / unit_ms).log() ** _FBNET_B


FACTORS: Mapping[str, Callable[[Tensor, float, float], Tensor]] = MappingProxyType(
    {"mnasnet": _mnasnet, "proxylessnas": _proxylessnas, "fbnet": _fbnet}
)
"""What the task loss is multiplied by, of the expected latency, the budget and the unit of logarithms (``unit_of``)."""
FORMS = (HINGE, LINEAR, *FACTORS)


def linear(latency_ms: Tensor, budget_ms: float) -> Tensor:
    """What the task loss has added by ``linear``."""
    return _LINEAR * (latency_ms - budget_ms) / budget_ms


def has_logarithm(form: str) -> bool:
    """Whether it needs latencies above a unit."""
    return form in ("proxylessnas", "fbnet")


def unit_of(shortest_ms: float) -> float:
    """In milliseconds, what logarithms are of: a millisecond as published, where all latencies are longer.

    Args:
        shortest_ms: The smaller of the budget and the smallest network's latency.
    """
    return MILLISECOND if shortest_ms > MILLISECOND else MICROSECOND


def departure(form: str, shortest_ms: float) -> str:
    """In one line, where the form is not the published one; empty where it is."""
    if not has_logarithm(form) or unit_of(shortest_ms) == MILLISECOND:
        return ""
    return (
        f"the form {form!r} takes logarithms of microseconds, not of milliseconds as published: these would have no "
        f"meaning at {format_ms(shortest_ms)}, which is no more than one"
    )
