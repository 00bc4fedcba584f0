"""Gumbel-softmax: ``grad L(zeta)``, zeta reparametrised; its expectation is the gradient of ``E[L(zeta)]``.

Source: SNAS, Xie et al., ICLR 2019 (arXiv 1812.09926), which anneals tau; FBNet (arXiv 1812.03443) likewise; part
(iii) of UNAS (arXiv 1912.07651), section 3.
"""

from __future__ import annotations

from typing import final

from unas_hw.estimators.base import Relaxed


@final
class Gumbel(Relaxed):
    """Biased unless tau goes to zero, where its variance grows without bound."""

    name = "gumbel"
