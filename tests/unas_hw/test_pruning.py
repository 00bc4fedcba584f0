"""A smaller network is the masked one, whatever the architecture; what is counted of it is what it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from profilers.runtimes.onnx_file import write_onnx
from unas_hw.errors import PruningError
from unas_hw.prunable.prunable import Prunable, prunable

from .pruned_networks import PRUNED, SHAPE, MobileNet, ResNet, SharedLayer, Transformer, Vgg

architectures = pytest.mark.parametrize("network", PRUNED, ids=lambda each: each.__name__)
Masks = dict[str, Tensor]


@cache
def pruned(network: Callable[[], nn.Module]) -> Prunable:
    torch.manual_seed(0)
    return prunable(scattered(network()), SHAPE)


def scattered(network: nn.Module, seed: int = 0) -> nn.Module:
    """With statistics and factors as after training: a channel that is masked wrongly then shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, _ConvNd | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.5, generator)
                nn.init.normal_(module.bias, 0, 1, generator)
    return network.eval()


def drawn(found: Prunable, seed: int) -> Masks:
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name, size in found.sizes.items():
        masks[name] = torch.rand(size, generator=generator) < 0.5
    for group in found.groups:
        stays, goes = torch.randperm(group.size, generator=generator)[:2].tolist()
        masks[group.name][stays], masks[group.name][goes] = True, False
    return {name: mask if mask.numel() > 1 else mask[0] for name, mask in masks.items()}


def soft(masks: Masks) -> Masks:
    return {name: mask.float() for name, mask in masks.items()}


def images(count: int = 4) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(count))


@architectures
def test_without_masks_it_is_the_network(network: Callable[[], nn.Module]) -> None:
    found = pruned(network)
    expected = found.network(images())
    torch.testing.assert_close(found.masked(found.network, {})(images()), expected)
    torch.testing.assert_close(found.slimmed({})(images()), expected)


@architectures
@pytest.mark.parametrize("seed", range(4))
def test_the_smaller_network_is_the_masked_one(network: Callable[[], nn.Module], seed: int) -> None:
    found = pruned(network)
    masks = drawn(found, seed)
    slim = found.slimmed(masks)
    expected = found.masked(found.network, soft(masks))(images())
    torch.testing.assert_close(slim(images()), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(expected, found.network(images()), rtol=0, atol=1e-4)
    assert sum(map(torch.numel, slim.parameters())) < sum(map(torch.numel, found.network.parameters()))


@architectures
def test_parameters_and_products_are_those_of_the_smaller_network(network: Callable[[], nn.Module]) -> None:
    found = pruned(network)

    def counted(module: nn.Module) -> tuple[int, int]:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(images(1))
        return counter.get_total_flops() // 2, sum(map(torch.numel, module.parameters()))

    def added(widths: dict[str, int]) -> tuple[float, float]:
        there = [layer for layer in found.layers if all(widths[block] for block in layer.blocks)]
        given = [(layer, layer.widths(widths)) for layer in there]
        return sum(layer.macs(*each) for layer, each in given), sum(layer.params(*each) for layer, each in given)

    whole = [both - of_layers for both, of_layers in zip(counted(found.network), added(found.sizes), strict=True)]
    for seed in range(3):
        masks = drawn(found, seed)
        if network is Transformer:
            masks["encoder"] = torch.tensor(True)  # in which there are norms that are no layers
        beside = [a - b for a, b in zip(counted(found.slimmed(masks)), added(found.widths(masks)), strict=True)]
        assert beside == whole  # of modules that stay as they are


@architectures
def test_every_row_is_a_module_that_costs_what_the_layer_costs(network: Callable[[], nn.Module]) -> None:
    found = pruned(network)
    widths = found.widths(drawn(found, 1))
    for layer in found.layers:
        n_in, n_out = layer.widths(widths)
        row = layer.workload(n_in, n_out, batch=3)
        assert row.cost.macs == 3 * layer.macs(n_in, n_out)
        assert layer.again or row.cost.params == layer.params(n_in, n_out)


@architectures
def test_names_of_weights_are_the_users(network: Callable[[], nn.Module]) -> None:
    found = pruned(network)
    slim = found.slimmed(drawn(found, 2))
    assert set(slim.state_dict()) <= set(found.network.state_dict())
    fresh = found.slimmed({}, network())
    fresh.load_state_dict(found.slimmed({}).state_dict())
    torch.testing.assert_close(fresh.eval()(images()), found.network(images()))


@architectures
def test_it_is_found_the_same_twice(network: Callable[[], nn.Module]) -> None:
    one, other = pruned(network), prunable(network(), SHAPE)
    assert (one.groups, one.blocks, one.layers, one.kept) == (other.groups, other.blocks, other.layers, other.kept)


def test_the_network_is_left_as_it_was() -> None:
    network = ResNet().train()
    before = copy.deepcopy(network.state_dict())
    found = prunable(network, SHAPE)
    found.slimmed(drawn(found, 0))(images())
    assert network.training and all(map(torch.equal, before.values(), network.state_dict().values()))


def test_in_training_it_has_the_statistics_of_the_smaller_network() -> None:
    found = pruned(MobileNet)
    masks = {name: mask for name, mask in drawn(found, 3).items() if mask.ndim}
    network = copy.deepcopy(found.network)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    slim = found.slimmed(masks, network).train()
    expected = found.masked(network.train(), soft(masks))(images(8))
    torch.testing.assert_close(slim(images(8)), expected, rtol=0, atol=1e-5)
    mean, smaller = network.get_buffer("stem.1.running_mean"), slim.get_buffer("stem.1.running_mean")
    torch.testing.assert_close(mean[masks["stem.0"]], smaller)
    assert not torch.equal(mean, found.network.get_buffer("stem.1.running_mean"))


def test_gradients_reach_the_masks_and_the_networks_own_weights() -> None:
    found = pruned(ResNet)
    network = copy.deepcopy(found.network)
    masks = {name: torch.full(mask.shape, 0.7, requires_grad=True) for name, mask in drawn(found, 0).items()}
    found.masked(network, masks)(images()).square().sum().backward()
    assert all(mask.grad is not None and mask.grad.abs().sum() > 0 for mask in masks.values())
    assert all(weight.grad is not None for weight in network.parameters())


def test_a_masks_gradient_is_the_change_that_it_makes() -> None:
    found = pruned(Vgg)
    network = copy.deepcopy(found.network).double()
    masks = {name: torch.full(mask.shape, 0.7, dtype=torch.double) for name, mask in drawn(found, 0).items()}

    def outputs(*given: Tensor) -> Tensor:
        return found.masked(network, dict(zip(masks, given, strict=True)))(images().double())

    torch.autograd.gradcheck(outputs, [mask.requires_grad_() for mask in masks.values()])


def test_weights_can_be_replaced_between_steps() -> None:
    found, network = pruned(SharedLayer), SharedLayer().eval()
    masks = soft(drawn(found, 0))
    before = found.masked(network, masks)(images())
    network.load_state_dict(found.network.state_dict())
    after = found.masked(network, masks)(images())
    torch.testing.assert_close(after, found.masked(found.network, masks)(images()))
    assert not torch.allclose(before, after)


def test_new_layers_have_weights_for_the_inputs_that_they_have() -> None:
    found = pruned(Vgg)
    masks = found.first({"features.0.0": 2, "features.2.0": 1, "classifier.0": 3})
    torch.manual_seed(0)
    fresh = found.fresh(masks, Vgg())
    layer = fresh.get_submodule("classifier.0")
    assert isinstance(layer, nn.Linear) and (layer.in_features, layer.out_features) == (9, 3)
    assert 1 / 72**0.5 < float(layer.weight.detach().abs().max()) <= 1 / 9**0.5


def test_a_group_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(PruningError, match=r"no channel of stem\.0 is left"):
        pruned(ResNet).slimmed({"stem.0": torch.zeros(8)})


def test_a_mask_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing called steam"):
        pruned(ResNet).masked(pruned(ResNet).network, {"steam": torch.ones(8)})


def test_a_smaller_network_is_exported(tmp_path: Path) -> None:
    import onnxruntime

    found = pruned(MobileNet)
    slim = found.slimmed(drawn(found, 0))
    write_onnx(slim, (2, *SHAPE), tmp_path / "net.onnx", final=True)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (got,) = session.run(None, {session.get_inputs()[0].name: images(2).numpy()})
    torch.testing.assert_close(torch.tensor(got), slim(images(2)), rtol=0, atol=1e-5)
    program = torch.export.export(slim, (images(2),))
    torch.testing.assert_close(program.module()(images(2)), slim(images(2)))
