"""The searches that UNAS was published with (Vahdat et al., CVPR 2020, arXiv 1912.07651).

========================  ===============  ===============  ======================
``--preset``              unas-cifar       unas-imagenet    unas-imagenet-mbconv
========================  ===============  ===============  ======================
space                     darts            darts            mbconv
GPUs x images             4 x 32           8 x 24           8 x 24
epochs: warm-up, search   15, 85           5, 15            20, 15
rate of the weights       6e-4 to 1e-4     3e-4 to 1e-4     3e-4 to 1e-4
rate of alpha             2e-3 to 3e-4     1e-3 to 3e-4     1e-3 to 3e-4
tau, eps                  0.4, 0           0.4, 0.08        0.4, 0.08
networks a step           one an image     one              one
========================  ===============  ===============  ======================

Of all three: Adam with a cosine, weights decay by 3e-4 and alpha by 1e-6, gradients of the weights are clipped at 5,
REBAR, lam is 0.5, lam_a of equal edges 0.2, and weights learn from zeta only, in the warm-up too. The batch is of all
GPUs. What the paper does not have stays as it is: the dual variable, and the last epochs of the network that was found.
"""

from __future__ import annotations

from dataclasses import replace

from unas_hw.methods.unas.config import UnasConfig
from unas_hw.search.method import Preset


def unas_cifar() -> Preset:
    """CIFAR, DARTS space; 4 GPUs of 32 images."""
    config = UnasConfig(
        warmup_epochs=15,
        epochs=85,
        batch_size=4 * 32,
        w_optimizer="adam",
        w_lr=6e-4,
        w_lr_min=1e-4,
        w_decay=3e-4,
        w_clip=5.0,
        alpha_lr=2e-3,
        alpha_lr_min=3e-4,
        architectures=4 * 32,
        tau=0.4,
        softening=0.0,
        gap_weight=0.5,
        duplicates_weight=0.2,
        estimator="rebar",
        weights_from="relaxed",
        supernet="separate",
        warmup_from="relaxed",
    )
    return Preset(method="unas", space="darts", config=config)


def _imagenet(warmup_epochs: int) -> UnasConfig:
    cifar = unas_cifar().config
    assert isinstance(cifar, UnasConfig)
    return replace(
        cifar,
        warmup_epochs=warmup_epochs,
        epochs=15,
        batch_size=8 * 24,
        w_lr=3e-4,
        alpha_lr=1e-3,
        architectures=1,
        softening=0.08,
    )


def unas_imagenet() -> Preset:
    """ImageNet, DARTS space; 8 GPUs of 24 images."""
    return Preset(method="unas", space="darts", config=_imagenet(warmup_epochs=5))


def unas_imagenet_mbconv() -> Preset:
    """ImageNet, ProxylessNAS space; 8 GPUs of 24 images."""
    return Preset(method="unas", space="mbconv", config=_imagenet(warmup_epochs=20))
