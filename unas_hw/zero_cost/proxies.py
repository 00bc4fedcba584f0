"""Proxies of accuracy from a network's initial weights: SynFlow, log-SynFlow, NASWOT, Zen, SNIP.

Sources: Tanaka et al. 2020 (SynFlow), Cavagnero et al. 2022 (log-SynFlow), Mellor et al. 2021 (NASWOT), Lin et al. 2021
(Zen), Lee et al. 2019 (SNIP). Weights are those of convolutions and linear layers, not of normalisations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from unas_hw.space import Architecture, SearchSpace
from unas_hw.zero_cost.positive import RECTIFIERS, Positive, absolute, first_of

MOVED = 0.01
"""How far Zen moves its inputs."""


@final
class Batch:
    """What proxies look at.

    Args:
        x: Images ``(N, C, H, W)``.
        y: Labels ``(N,)``.
        seed: Of how Zen moves the images and of the weights it draws.
    """

    def __init__(self, x: Tensor, y: Tensor, seed: int) -> None:
        self.x, self.y, self.seed = x, y, seed
        self.moved = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1))

    @classmethod
    def random(cls, space: SearchSpace, size: int, seed: int) -> Batch:
        """Normal numbers and uniform labels, for a space."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn((size, *space.input_shape[1:]), generator=generator)
        return cls(x, torch.randint(space.classes, (size,), generator=generator), seed)


def fresh_network(space: SearchSpace, architecture: Architecture, seed: int) -> nn.Module:
    """The network with the initial weights of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.network(architecture)


def synflow(network: nn.Module, batch: Batch) -> float:
    """``sum |dR/dw * w|`` with absolute weights, R the sum of the logits of an input of ones."""
    return sum(float((weight * gradient).sum()) for weight, gradient in _synflow(network, batch.x))


def log_synflow(network: nn.Module, batch: Batch) -> float:
    """``sum w * log(1 + dR/dw)`` of the same."""
    return sum(float((weight * gradient.log1p()).sum()) for weight, gradient in _synflow(network, batch.x))


def naswot(network: nn.Module, batch: Batch) -> float:
    """``log |det K|``, K the number of rectifiers that are equally on or off for two images, of every pair of images.

    Minus infinity where two images cannot be told apart.
    """
    with _Rectifiers() as watch, torch.no_grad():
        network.train()(batch.x)
    if watch.agreements is None:
        return -math.inf
    log_det: Tensor = torch.linalg.slogdet(watch.agreements)[1]
    return float(log_det)


def zen(network: nn.Module, batch: Batch) -> float:
    """``log E|f(x) - f(x + 0.01 e)| + sum log sqrt(var)``: f is what is pooled before the classifier, var what the
    normalisations divide by, as means over channels; with normal weights, as published.
    """
    generator = torch.Generator().manual_seed(batch.seed)
    weights = {
        name: torch.randn(weight.shape, generator=generator) if weight.dim() > 1 else weight
        for name, weight in network.named_parameters()
    }
    seen: list[tuple[Tensor, float]] = []
    for x in (batch.x, batch.x + MOVED * batch.moved):
        with _Norms() as watch, torch.no_grad():
            logits: Tensor = torch.func.functional_call(network.train(), weights, (x,))
        seen.append((logits if watch.features is None else watch.features, watch.log_deviations))
    (features, deviations), (others, _) = seen
    moved = (features - others).abs().flatten(1).sum(1).mean()
    return _log(float(moved)) + deviations


def snip(network: nn.Module, batch: Batch) -> float:
    """``sum |dL/dw * w|``, L the cross-entropy of the batch."""
    weights = [weight for weight in network.parameters() if weight.dim() > 1]
    loss = F.cross_entropy(network.train()(batch.x), batch.y)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    pairs = zip(weights, gradients, strict=True)
    return sum(float((weight.detach() * each).abs().sum()) for weight, each in pairs if each is not None)


PROXIES: Mapping[str, Callable[[nn.Module, Batch], float]] = MappingProxyType(
    {"synflow": synflow, "log-synflow": log_synflow, "naswot": naswot, "zen": zen, "snip": snip}
)
"""Each of a network that was just initialised; larger is meant to be better."""


def _synflow(network: nn.Module, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Absolute weights and the gradients of R in them, in double precision."""
    tensors = absolute(network)
    names = [name for name, weight in network.named_parameters() if weight.dim() > 1]
    weights = [tensors[name].requires_grad_() for name in names]
    ones = torch.ones(1, *x.shape[1:], dtype=torch.float64)
    with Positive():
        flow = torch.func.functional_call(network.eval(), tensors, (ones,)).sum()
    gradients = torch.autograd.grad(flow, weights, allow_unused=True)
    pairs = zip(weights, gradients, strict=True)
    return [(weight.detach(), each) for weight, each in pairs if each is not None]


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


class _Rectifiers(TorchFunctionMode):
    """Looks at the rectifiers of a pass.

    Attributes:
        agreements: ``(N, N)``, NASWOT's K; None while none was seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.agreements: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in RECTIFIERS:
            on = (out > 0).flatten(1).to(out.dtype)
            both_on, own = on @ on.t(), on.sum(1)
            agreed = (on.shape[1] - own[:, None] - own + 2 * both_on).double()
            self.agreements = agreed if self.agreements is None else self.agreements + agreed
        return out


class _Norms(TorchFunctionMode):
    """Looks at the normalisations of a pass, and at what is pooled.

    Attributes:
        log_deviations: Their sum of ``log sqrt(mean variance)`` of what each gets.
        features: What was pooled last; None while nothing was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_deviations = 0.0
        self.features: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            x = first_of(args, kwargs or {})
            axes = [axis for axis in range(x.dim()) if axis != 1]
            self.log_deviations += 0.5 * _log(float(x.var(axes, unbiased=False).mean()))
        elif func is F.adaptive_avg_pool2d:
            self.features = first_of(args, kwargs or {})
        return func(*args, **(kwargs or {}))
