"""Multiply-accumulates of everything that computes are those of arithmetic; what has no formula is named."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from profilers.arithmetic import counted
from profilers.opspec import OpSpec
from profilers.workload import Workload

T, IN, H = 28, 28, 64


class Of(nn.Module):
    """A function as a module, with weights for it; ``on_cpu`` reads a number, which there is none of without memory."""

    def __init__(self, function: Callable[[Tensor, nn.Module], Tensor], part: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.part = function, part or nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.part)


def first(x: Tensor, part: nn.Module) -> Tensor:
    output: Tensor = part(x)[0]
    return output


def on_cpu(x: Tensor, part: nn.Module) -> Tensor:
    assert float(x.sum()) >= 0
    return first(x, part)


def attention(x: Tensor, part: nn.Module) -> Tensor:
    output: Tensor = part(x, x, x, need_weights=False)[0]
    return output


def attention_on_cpu(x: Tensor, part: nn.Module) -> Tensor:
    assert float(x.sum()) >= 0
    return attention(x, part)


RECURRENT = [
    (partial(nn.GRU, IN, H, num_layers=2), T * 3 * H * ((IN + H) + (H + H))),
    (partial(nn.GRU, IN, H, num_layers=2, bidirectional=True), 2 * T * 3 * H * ((IN + H) + (2 * H + H))),
    (partial(nn.LSTM, IN, H), T * 4 * H * (IN + H)),
    (partial(nn.LSTM, IN, H, bidirectional=True), 2 * T * 4 * H * (IN + H)),
    (partial(nn.LSTM, IN, H, proj_size=32), T * (4 * H * (IN + 32) + H * 32)),
    (partial(nn.RNN, IN, H), T * H * (IN + H)),
]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("function", [first, on_cpu])
@pytest.mark.parametrize(("layer", "macs"), RECURRENT)
def test_recurrent_layers_multiply_by_both_matrices_at_every_step(
    layer: Callable[..., nn.Module], macs: int, function: Callable[[Tensor, nn.Module], Tensor]
) -> None:
    _, found, _, lacks = counted(lambda: Of(function, layer(batch_first=True)), (1, T, IN))
    assert (found, lacks) == (macs, ())


N, D = 49, 64
ATTENTION = N * D * 4 * D + 2 * N * N * D


@pytest.mark.parametrize("function", [attention, attention_on_cpu])
def test_attention_is_its_projections_and_both_products_of_tokens(
    function: Callable[[Tensor, nn.Module], Tensor],
) -> None:
    _, found, _, lacks = counted(lambda: Of(function, nn.MultiheadAttention(D, 4, batch_first=True)), (1, N, D))
    assert (found, lacks) == (ATTENTION, ())


def test_an_encoder_is_attention_and_its_linear_layers_in_every_layer() -> None:
    layer = nn.TransformerEncoderLayer(D, 4, 128, batch_first=True)
    for build in (lambda: nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), lambda: layer.to("meta")):
        layers = 2 if isinstance(build(), nn.TransformerEncoder) else 1
        assert counted(build, (1, N, D))[1] == layers * (ATTENTION + 2 * N * D * 128)


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda x, part: x @ part.weight[0], 8 * 8),
        (lambda x, part: torch.dot(x[0], part.weight[0])[None], 8),
        (lambda x, part: torch.addmv(x[0], x, part.weight[0]), 8 * 8),
        (lambda x, part: torch.addbmm(x, *[part.weight[None].expand(3, 8, 8)] * 2), 3 * 8**3),
        (lambda x, part: torch.einsum("ij,kj->ik", x, part.weight), 8**3),
        (lambda x, part: F.bilinear(x, x, part.weight[None].expand(5, 8, 8)), 8 * 5 * (8 * 8 + 8)),
        (lambda x, part: F.scaled_dot_product_attention(x[None], x[None], x[None]), 2 * 8**3),
        (lambda x, part: torch.conv_tbc(x[:, None], part.weight.view(2, 8, 4), part.weight[0, :4]), 7 * 64),
    ],
)  # fmt: skip
def test_products_in_code_of_ones_own_are_counted(function: Callable[[Tensor, nn.Module], Tensor], macs: int) -> None:
    _, found, _, lacks = counted(lambda: Of(function), (8, 8))
    assert (found, lacks) == (macs, ())


@torch.library.custom_op("unas_hw_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    """Of which nobody can know what it computes; nor has it a form without memory."""
    return x @ x


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x, part: twice(part(x)), ("unas_hw_test::twice",)),
        (lambda x, part: torch.fft.fft(part(x)).real, ("_fft_r2c",)),
        (lambda x, part: torch.cdist(part(x), x), ("_cdist_forward",)),
        (lambda x, part: torch.linalg.svd(part(x))[0], ("_linalg_svd",)),
        (lambda x, part: F.softmax(F.layer_norm(part(x), (8,)), -1).cumsum(0).sort().values, ()),
    ],
)
def test_what_has_no_formula_is_named_beside_what_is_counted(
    function: Callable[[Tensor, nn.Module], Tensor], names: tuple[str, ...]
) -> None:
    _, found, _, lacks = counted(lambda: Of(function), (8, 8))
    assert (found, lacks) == (8**3, names)


def test_a_network_lacks_what_its_parts_lack_and_says_so_once() -> None:
    part = Workload(OpSpec("mine", {}, (8, 8)), lambda: Of(lambda x, part: twice(part(x))))
    whole = Workload(OpSpec("network", {}, (8, 8)), nn.Identity, (part, part)).cost
    assert (whole.macs, whole.not_counted) == (2 * 8**3, ("unas_hw_test::twice",))
    assert whole.lacks == "without unas_hw_test::twice, whose arithmetic is not known"
    assert Workload(OpSpec("mine", {}, (8, 8)), lambda: nn.Linear(8, 8)).cost.lacks == ""


def test_counting_leaves_the_fast_path_of_attention_as_it_was() -> None:
    for on in (True, False):
        torch.backends.mha.set_fastpath_enabled(on)
        counted(lambda: nn.Linear(8, 8), (8, 8))
        assert torch.backends.mha.get_fastpath_enabled() is on
    torch.backends.mha.set_fastpath_enabled(True)
