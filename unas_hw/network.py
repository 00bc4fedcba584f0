"""The network that was found, on its own: weights from the supernet, statistics of its own, saved and loaded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unas_hw.data import Split, in_order
from unas_hw.errors import RunError
from unas_hw.runs import Run
from unas_hw.space import Architecture, SearchSpace
from unas_hw.supernet import Supernet

RECALIBRATION_IMAGES = 16_384
WEIGHTS = ("train/weights.safetensors", "weights.safetensors")
BEFORE = "repair/before"
"""Folder of a run in which the network lies that a repair replaced."""


def inherit(network: nn.Module, supernet: Supernet, path: tuple[int, ...]) -> None:
    """Copies the weights that the supernet learnt for this path into the network of the same path."""
    lacking = network.load_state_dict(supernet.state_of(path), strict=False)
    # The supernet has no running statistics; all else has to be there.
    assert not lacking.unexpected_keys and all("running" in name or "tracked" in name for name in lacking.missing_keys)


@torch.no_grad()
def recalibrate(network: nn.Module, images: Split | Tensor, batch_size: int = 256) -> None:
    """Sets the running statistics of batch normalisation to the averages over these images.

    Of a split at most the first ``RECALIBRATION_IMAGES``, which chance put there; they come to the network's device.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    network.train()
    if isinstance(images, Split):
        device = next((weight.device for weight in network.parameters()), None)
        for part in in_order(images.first(RECALIBRATION_IMAGES), batch_size, prefetch=True, device=device):
            network(part.x)
    else:
        for batch in images.tensor_split(-(-len(images) // batch_size)):
            network(batch)
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def save_network(run: Run, name: str, network: nn.Module, architecture: Architecture | None = None) -> None:
    """The network's state as safetensors in the run folder; says of which architecture, where that may be in doubt."""
    run.save_tensors(name, network.state_dict(), {"architecture": str(architecture)} if architecture else {})


def load_network(run: Run, space: SearchSpace) -> nn.Module:
    """The network of a run in evaluation mode, with the weights of ``train``, or of ``search`` before training.

    Weights that say that they are another architecture's are passed over: a repair that was killed leaves such.
    """
    architecture = space.parse(str(run.path / "architecture.json"))
    for name in (place for weights in WEIGHTS for place in (weights, f"{BEFORE}/{weights}")):
        saved = run.load_tensors(name)
        if saved is not None and saved[1].get("architecture", str(architecture)) == str(architecture):
            network = space.network(architecture)
            network.load_state_dict(saved[0])
            return network.eval()
    raise RunError(f"{run.path} has no weights: its search has not ended", mend="run the same unas-hw search again")
