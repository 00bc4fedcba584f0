"""UNAS as it is written down, pass by pass: what a step of the toolkit's search is compared with.

Each layer runs each of its candidates, which stand on their own; each term of the loss has a pass of its own; the
gradient in alpha also produces those of the weights, which are thrown away; float32, NCHW, PyTorch's own operations.
Vahdat et al., "UNAS: Differentiable Architecture Search Meets Reinforcement Learning" (arXiv 1912.07651), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from profilers.workload import Workload
from unas_hw.spaces.chain import ChainSpace

GAP_WEIGHT, TAU, W_CLIP = 0.5, 0.4, 5.0


def norm_act(conv: nn.Conv2d, *, act: bool = True) -> list[nn.Module]:
    """A convolution, batch normalisation by the batch, ReLU6."""
    norm = nn.BatchNorm2d(conv.out_channels, eps=1e-3, track_running_stats=False)
    return [conv, norm, *([nn.ReLU6()] if act else [])]


@final
class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection."""

    def __init__(self, channels: int, out: int, kernel: int, expand: int, stride: int) -> None:
        super().__init__()
        inner = channels * expand
        self.layers = nn.Sequential(
            *(norm_act(nn.Conv2d(channels, inner, 1, bias=False)) if expand > 1 else []),
            *norm_act(nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False)),
            *norm_act(nn.Conv2d(inner, out, 1, bias=False), act=False),
        )
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


@final
class Mixed(nn.Module):
    """The weighted sum of all candidates."""

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        out: Tensor = weights[0] * self.candidates[0](x)
        for weight, op in zip(weights[1:], self.candidates[1:], strict=False):
            out = out + weight * op(x)
        return out


@final
class PlainSupernet(nn.Module):
    """All layers of a space of inverted residuals."""

    def __init__(self, space: ChainSpace) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in space.layers:
            candidates = [build(block) for block in layer.candidates.values()]
            layers.append(Mixed(candidates) if layer.searched else candidates[0])
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, zeta: Tensor) -> Tensor:
        weights = iter(zeta)
        for layer in self.layers:
            x = layer(x, next(weights)) if isinstance(layer, Mixed) else layer(x)
        return x


def build(block: Workload | None) -> nn.Module:
    """One candidate."""
    if block is None:
        return nn.Dropout(0.1)
    channels = block.op.shape[1]
    attrs = {key: int(value) for key, value in block.op.attrs.items()}
    if block.op.kind == "conv":
        kernel = attrs["kernel"]
        conv = nn.Conv2d(channels, attrs["out"], kernel, attrs["stride"], kernel // 2, bias=False)
        return nn.Sequential(*norm_act(conv))
    if block.op.kind == "mbconv":
        return InvertedResidual(channels, attrs["out"], attrs["kernel"], attrs["expand"], attrs["stride"])
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, attrs["classes"]))


def sample(alpha: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """``(G, K)`` one-hot z and zeta, and log p(z), coupled as in REBAR. Alpha is minus infinite where no choice is."""
    log_q = alpha - alpha.logsumexp(1, keepdim=True)
    q = log_q.exp()
    u = torch.rand(alpha.shape, generator=generator, dtype=alpha.dtype).to(alpha.device).clamp(1e-3, 1 - 1e-3)
    g = log_q - torch.log(-torch.log(u))
    k = g.argmax(1, keepdim=True)
    zeta = torch.softmax(g / TAU, 1)
    with torch.no_grad():
        log_v_k = u.gather(1, k).log() / q.gather(1, k)
        log_v = u.log() - q * log_v_k
    others = -torch.log((-log_v / q.clamp_min(1e-30) - log_v_k).clamp_min(1e-30))
    z = one_hot(k[:, 0], alpha.shape[1]).to(alpha.dtype)
    h = torch.where(z > 0, -torch.log(-log_v_k), others).masked_fill(alpha.isinf(), -1e9)
    zeta_hat = torch.softmax(h / TAU, 1)
    return z, zeta - zeta_hat + zeta_hat.detach(), log_q.gather(1, k).sum()


@final
class PlainUnas:
    """Weights and architecture in turn, on one batch for training and one for validation.

    Args:
        space: What is searched.
        device: Where.
        seed: Of weights and noise.
    """

    def __init__(self, space: ChainSpace, device: str, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.supernet = PlainSupernet(space).to(device)
        counts = [len(decision.choices) for decision in space.decisions]
        self.alpha = nn.Parameter(torch.zeros(len(counts), max(counts), device=device))
        self.missing = (torch.arange(max(counts)) >= torch.tensor(counts)[:, None]).to(device)
        self.generator = torch.Generator().manual_seed(seed)
        self.w_optimizer = torch.optim.Adam(self.supernet.parameters(), 3e-4, weight_decay=3e-4)
        self.alpha_optimizer = torch.optim.Adam([self.alpha], 1e-3, weight_decay=1e-6)

    def _loss(self, batch: tuple[Tensor, Tensor], zeta: Tensor) -> Tensor:
        x, y = batch
        return cross_entropy(self.supernet(x, zeta), y)

    def _cost(self, train: Tensor, valid: Tensor) -> Tensor:
        return train + GAP_WEIGHT * (valid - train).abs()

    def step(self, train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor]) -> float:
        """The architecture's step, then the weights'."""
        z, zeta, log_p = sample(self.alpha.masked_fill(self.missing, -torch.inf), self.generator)
        with torch.no_grad():
            discrete = self._cost(self._loss(train, z), self._loss(valid, z))
        relaxed = self._cost(self._loss(train, zeta), self._loss(valid, zeta))
        self.alpha_optimizer.zero_grad()
        (log_p * (discrete - relaxed).detach() + relaxed).backward()
        self.alpha_optimizer.step()

        self.w_optimizer.zero_grad()
        loss = self._loss(train, zeta.detach())
        loss.backward()
        nn.utils.clip_grad_norm_(self.supernet.parameters(), W_CLIP)
        self.w_optimizer.step()
        return float(relaxed.detach())
