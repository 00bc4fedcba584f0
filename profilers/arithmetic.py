"""What a module multiplies and adds, counted by PyTorch while it runs; what nobody can count is named."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self, final

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

aten = torch.ops.aten
_NOT_COUNTED = re.compile(
    r"_fft|fft_|linalg_|_linalg|_cdist|_euclidean_dist|_pdist|grid_sampler|cholesky|_embedding_bag|segment_reduce|"
    r"_sparse|sparse_|_thnn_fused|_cudnn_rnn|miopen_rnn|.*_transformer_|_native_multi_head"
)
"""Operations of PyTorch itself that compute more than a number for each of theirs, for which it has no formula."""
_OF_PYTORCH = ("aten", "prim", "prims", "_c10d_functional", "profiler")


def _products(*shapes: Any, out_shape: Any = None, **_: Any) -> Any:
    """Of a matrix with a vector, or of vectors: a product for each of the larger one's numbers."""
    return 2 * max(math.prod(shape) for shape in shapes if isinstance(shape, torch.Size))


def _rnn(x: Any, w_ih: Any, w_hh: Any, *rest: Any, out_shape: Any = None, **more: Any) -> Any:
    return 2 * math.prod(x[:-1]) * (math.prod(w_ih) + math.prod(w_hh))


def _attention(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **more: Any) -> Any:
    return sdpa_flop_count(query, key, value)


def _addbmm(added: Any, one: Any, other: Any, *rest: Any, out_shape: Any = None, **more: Any) -> Any:
    return 2 * math.prod(one) * other[-1]


def _trilinear(one: Any, weight: Any, other: Any, *rest: Any, out_shape: Any = None, **more: Any) -> Any:
    """Of ``nn.Bilinear``: ``x W`` for each output, then the product with the other vector."""
    outputs, width, height = weight[-3:]
    return 2 * (math.prod(one) // width) * outputs * (width * height + height)


def _conv_tbc(x: Any, weight: Any, *rest: Any, out_shape: Any = None, **more: Any) -> Any:
    return 2 * out_shape[0] * out_shape[1] * math.prod(weight)


FORMULAS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((aten.mv, aten.dot, aten.vdot, aten.addmv), _products),
    aten.addbmm: _addbmm,
    aten.mkldnn_rnn_layer: _rnn,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._trilinear: _trilinear,
    aten.conv_tbc: _conv_tbc,
}
"""FLOPs by sizes of the arguments, of what PyTorch's counter passes over."""


@final
class MacCounter:
    """While it is on, counts multiply-accumulates of convolutions and of all products of matrices and vectors.

    Those within recurrent layers and attention too; a number for itself, as in activations and normalisations, is none.

    Attributes:
        not_counted: Names of operations that were seen and have no formula, in order.
    """

    def __init__(self) -> None:
        self._flops = FlopCounterMode(display=False, custom_mapping=FORMULAS)
        self._names = _Names(self._flops)
        self._on = ExitStack()

    def __enter__(self) -> Self:
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one operation without a formula is all of attention there
        self._on.callback(torch.backends.mha.set_fastpath_enabled, fused)
        self._on.enter_context(self._names)
        self._on.enter_context(self._flops)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._on.close()

    @property
    def macs(self) -> int:
        """Since it was entered."""
        return int(self._flops.get_total_flops()) // 2

    @property
    def not_counted(self) -> tuple[str, ...]:
        return tuple(self._names.found)


@final
class _Names(TorchDispatchMode):
    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter, self.found = counter, dict[str, None]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, _, name = func.name().partition("::")
        if func.overloadpacket not in self.counter.flop_registry and (
            space not in _OF_PYTORCH or _NOT_COUNTED.match(name)
        ):
            self.found[name.partition(".")[0] if space == "aten" else func.name().partition(".")[0]] = None
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def counted(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> tuple[nn.Module, int, int, tuple[str, ...]]:
    """The module, its multiply-accumulates for an input of this shape, numbers of its output, and what has no formula.

    It is made without memory; where its code needs numbers to run, on the CPU.
    """
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                module = build().eval()
                example = torch.empty(shape) if device == "meta" else torch.rand(shape)
                with MacCounter() as counter:
                    output = module(example)
        except (NotImplementedError, RuntimeError):
            if device == "cpu":
                raise
            continue
        return module, counter.macs, output.numel(), counter.not_counted
    raise AssertionError
