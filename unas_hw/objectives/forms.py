"""How an expected latency enters the loss: the published forms, beside the hinge whose multiplier keeps a budget.

==================  ==========================================  =====================
form                loss                                        source
==================  ==========================================  =====================
``hinge``           L + mu E[max(0, lat / T - 1)]               UNAS; mu is found
``mnasnet``         L * (E[lat] / T)^0.07                       MnasNet
``proxylessnas``    L * 0.2 * (log E[lat] / log T)^0.3          ProxylessNAS
``fbnet``           L * (log E[lat] / log T)^0.3                FBNet; its a and b are a matter of the unit
``linear``          L + 0.1 * (E[lat] - T) / T                  ProxylessNAS
==================  ==========================================  =====================

All but the first trade latency for loss at a rate that nobody can know beforehand: they fix no constraint. Logarithms
are of microseconds; below one they have no meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

HINGE, LINEAR = "hinge", "linear"
_MNASNET_W, _PROXYLESS_A, _LOG_B, _LINEAR = 0.07, 0.2, 0.3, 0.1


def _log_share(latency_ms: Tensor, budget_ms: float) -> Tensor:
    budget = latency_ms.new_tensor(budget_ms * 1e3).log()
    return (latency_ms * 1e3).log() / budget


FACTORS: Mapping[str, Callable[[Tensor, float], Tensor]] = MappingProxyType(
    {
        "mnasnet": lambda latency_ms, budget_ms: (latency_ms / budget_ms) ** _MNASNET_W,
        "proxylessnas": lambda latency_ms, budget_ms: _PROXYLESS_A * _log_share(latency_ms, budget_ms) ** _LOG_B,
        "fbnet": lambda latency_ms, budget_ms: _log_share(latency_ms, budget_ms) ** _LOG_B,
    }
)
"""What the task loss is multiplied by."""
FORMS = (HINGE, LINEAR, *FACTORS)


def linear(latency_ms: Tensor, budget_ms: float) -> Tensor:
    """What the task loss has added by ``linear``."""
    return _LINEAR * (latency_ms - budget_ms) / budget_ms


def has_logarithm(form: str) -> bool:
    """Whether it needs latencies above a microsecond."""
    return form in ("proxylessnas", "fbnet")
