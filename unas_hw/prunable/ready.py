"""A network as users give it, made ready to be traced, or refused: wrappers, lazy layers, what cannot be copied."""

from __future__ import annotations

import inspect

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from unas_hw.errors import PruningError

IMAGES = 2
"""In an example."""
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def ready(network: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """The network for images ``(C, H, W)`` without ``torch.compile`` and ``DataParallel``, which only run it otherwise.

    Where it has lazy layers it is run once, on two images of zeros.

    Raises:
        PruningError: If it does not run, or a lazy layer is not run.
    """
    network = _unwrapped(network)
    if not _lazy(network):
        return network
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(IMAGES, *shape))
    except Exception as error:
        raise PruningError(
            f"{type(network).__name__} has lazy layers and cannot be run with {images_of(shape)}: {reason_of(error)}",
            mend="give its layers their sizes, as nn.Linear(64, 10)",
        ) from error
    if left := _lazy(network):
        raise PruningError(
            f"{left[0]} of {type(network).__name__} is lazy and is not run: it has no size",
            mend="give it its sizes, or leave it out",
        )
    return network.train(training)


def check(network: nn.Module) -> None:
    """Refuses what cannot be traced, or would be another network afterwards.

    Raises:
        PruningError: If it is so, naming the module.
    """
    name = type(network).__name__
    for path, module in network.named_modules():
        where = f"{path} of {name}" if path else name
        if isinstance(module, torch.jit.ScriptModule):
            raise PruningError(f"{where} is a script, which cannot be traced", mend="leave out torch.jit.script")
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            if type(hook).__module__.startswith("torch.nn.utils"):
                raise PruningError(
                    f"{where} has weights that a hook computes ({type(hook).__name__}): it cannot be copied",
                    mend="use torch.nn.utils.parametrizations, or torch.nn.utils.prune.remove",
                )
    if left := _lazy(network):
        raise PruningError(f"{left[0]} of {name} is lazy: it has no sizes", mend="run it once, or give it its sizes")
    for path, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.device.type != "cpu":
            raise PruningError(f"{path} of {name} is on {tensor.device}", mend="make the network on the CPU")
        if isinstance(tensor, nn.Parameter) and tensor.is_floating_point() and tensor.dtype != torch.float32:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise PruningError(f"{path} of {name} is {dtype}, images are float32", mend="return network.float()")
    _check_inputs(network)


def check_frozen(network: nn.Module) -> None:
    """Refuses a network in training of which a part is not, by a ``train`` of its own, which a smaller one has not.

    Raises:
        PruningError: If it is so, naming the module.
    """
    for path, module in network.named_modules():
        if isinstance(module, _BatchNorm | _DropoutNd) and not module.training:
            raise PruningError(
                f"{path} of {type(network).__name__} stays in evaluation while the network is trained",
                mend="leave train() as nn.Module has it",
            )


def _check_inputs(network: nn.Module) -> None:
    parameters = [*inspect.signature(network.forward).parameters.values()]
    asked = [each for each in parameters if each.default is each.empty and each.kind not in _MANY]
    places = [each for each in parameters if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)]
    name, names = type(network).__name__, ", ".join(each.name for each in asked or parameters)
    if len(asked) > 1:
        what = f"{name} takes {len(asked)} inputs ({names}), not images alone"
    elif not places or any(each.kind is each.KEYWORD_ONLY for each in asked):
        what = f"{name} takes no images: its forward has ({names})"
    else:
        return
    raise PruningError(what, mend="give a network from (N, C, H, W) to (N, classes); others need a default")


def images_of(shape: tuple[int, int, int], images: int = IMAGES) -> str:
    """``2x3x32x32``."""
    return "x".join(map(str, (images, *shape)))


def reason_of(error: BaseException) -> str:
    """The first line of what was raised."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module, and all in it, without wrappers."""
    while True:
        if "_orig_mod" in module._modules:  # of torch.compile, whose class takes a second to import
            module = module.get_submodule("_orig_mod")
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        else:
            break
    for name, child in module.named_children():
        if (inner := _unwrapped(child)) is not child:
            setattr(module, name, inner)
    return module


def _lazy(network: nn.Module) -> list[str]:
    """Paths of the modules that have no sizes yet."""
    return [
        path
        for path, module in network.named_modules()
        if any(map(is_lazy, (*module.parameters(recurse=False), *module.buffers(recurse=False))))
    ]
