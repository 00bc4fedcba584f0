"""Prunable: a network of the user's, with all smaller networks that are in it."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from unas_hw.errors import PruningError
from unas_hw.prunable.blocks import Block, residual_blocks
from unas_hw.prunable.channels import STAYS, Kept
from unas_hw.prunable.groups import Group, Grouping, grouped
from unas_hw.prunable.layers import Layer
from unas_hw.prunable.others import Other, others_of
from unas_hw.prunable.propagation import Flow, propagate
from unas_hw.prunable.ready import IMAGES, reason_of
from unas_hw.prunable.resizing import MaskedReader, resized
from unas_hw.prunable.rows import layers_of, repeats
from unas_hw.prunable.spelling import Trained
from unas_hw.prunable.tracing import REWRITE, trace

TOLERANCE = 1e-3
"""Of the outputs' size, within which a smaller network is the masked one; rounding is far below."""
TRIALS = 3
"""With any widths."""
CHANGES = "without it the network turned out to do something else"


@final
class Prunable:
    """A traced network: what of it can be left out, and the networks without that.

    Masks are tensors by name: ``(size,)`` for a group, ``()`` for a block; what has no mask stays.

    Attributes:
        network: As it was given; it is not changed.
        groups: Of channels, in order.
        blocks: Residual branches that can be left out, in order.
        layers: Convolutions, linear layers and normalisations as they are run, in order.
        others: What else is computed, in order.
        kept: What stays whole, and why.
        classes: Outputs.
    """

    def __init__(
        self,
        network: nn.Module,
        flow: Flow,
        grouping: Grouping,
        blocks: tuple[Block, ...],
        shape: tuple[int, int, int],
    ) -> None:
        self.network = network
        self.groups: tuple[Group, ...] = grouping.groups
        self.blocks = blocks
        self.kept: tuple[Kept, ...] = grouping.kept
        self._flow = flow
        self.classes = int(flow.traced.values[flow.traced.graph.output_node()].shape[1])
        self._numbers = {node.name for node in flow.traced.graph.nodes if node not in flow.held}
        self._sizes = {group.name: group.size for group in self.groups} | {block.name: 1 for block in blocks}
        roots = flow.channels.roots
        self._stays = sum(self._sizes.values())
        self._place = torch.full((len(roots),), self._stays)  # in all masks in a row; the last place is for what stays
        units = {}
        start = 0
        for group, own in zip(self.groups, grouping.units, strict=True):
            same = roots[:, None] == own
            inside = same.any(1)
            self._place[inside] = start + same[inside].int().argmax(1)
            units[group.name] = torch.where(inside, self._place - start, -1)
            start += group.size
        self._first_block = start
        self.layers: tuple[Layer, ...] = layers_of(flow, self.groups, units, blocks)
        self.others: tuple[Other, ...] = others_of(flow, blocks, shape)
        self._masked: WeakKeyDictionary[nn.Module, fx.GraphModule] = WeakKeyDictionary()

    @property
    def sizes(self) -> dict[str, int]:
        """Units of each group, and 1 for each block, by name."""
        return dict(self._sizes)

    def widths(self, masks: Mapping[str, Tensor]) -> dict[str, int]:
        """How many units these masks leave of each group, and whether (0 or 1) each block."""
        flat = self._flat(masks) > 0.5
        parts = flat[:-1].split(list(self._sizes.values()))
        return {name: int(part.sum()) for name, part in zip(self._sizes, parts, strict=True)}

    def first(self, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """Masks that leave so many units of each group, the first, and the blocks that are not 0."""
        masks = {name: torch.arange(size, device="cpu") < widths.get(name, size) for name, size in self._sizes.items()}
        return {name: mask if name in self._groups else mask[0] for name, mask in masks.items()}

    def inside(self, block: str) -> set[str]:
        """Groups that nothing outside this block has a use for."""
        used: dict[bool, set[str]] = {True: set(), False: set()}
        for layer in self.layers:
            used[block in layer.blocks].update(each.group for each in (*layer.inputs, *layer.outputs) if each.group)
        return used[True] - used[False]

    @property
    def _groups(self) -> set[str]:
        return {group.name for group in self.groups}

    def masked(self, network: nn.Module, masks: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """The network as a function in which channels and blocks count as much as masks say.

        Differentiable in the masks and in the weights, which are the network's own: in training mode it trains them,
        and its statistics too.

        Args:
            network: This one or another of the same class; its modules may not be exchanged later.
            masks: Numbers from 0 to 1, on the device of the network.
        """
        if network not in self._masked:
            self._masked[network] = self._with_masks(network)
        module, flat = self._masked[network], self._flat(masks)

        def run(x: Tensor) -> Any:
            for each in module.children():
                if isinstance(each, Trained):  # is none of the network's, and learns from it
                    each.training = network.training
            return module(x, flat.to(x.device))

        return run

    def slimmed(self, masks: Mapping[str, Tensor], network: nn.Module | None = None) -> nn.Module:
        """A network that has only what these masks leave; in evaluation mode equal to the masked one.

        Args:
            masks: True, or more than a half, for what stays.
            network: Whose weights are copied; by default those of ``self.network``. Names are the same.

        Raises:
            PruningError: If nothing is left of a group.
        """
        network = self.network if network is None else network
        flat = self._flat(masks).detach().cpu() > 0.5
        if gone := [name for name, count in self.widths(masks).items() if name in self._groups and not count]:
            raise PruningError(f"no channel of {gone[0]} is left", mend="leave one of every group, or drop its block")
        graph = copy.deepcopy(self._flow.traced.graph)
        names = {node.name: node for node in graph.nodes}
        alive = flat[self._place]
        dropped: set[str] = set()
        for block, stays in zip(self.blocks, flat[self._first_block : -1].tolist(), strict=True):
            if not stays:
                addition = names[block.addition]
                addition.replace_all_uses_with(addition.args[1 - block.branch])
                dropped |= {block.addition, *block.nodes}
        for node in graph.nodes:
            if node.name not in dropped and repeats(self._flow, node):
                node.replace_all_uses_with(node.all_input_nodes[0])
                dropped.add(node.name)
        for node in reversed(graph.nodes):
            beside = node.name in self._numbers or node.op == "get_attr"
            if node.name in dropped or (beside and not node.users and node.op != "output"):
                graph.erase_node(node)
        memo: dict[int, Any] = {}
        parts = self._parts(network, graph)
        sites = {site.path: site for site in self._flow.sites}
        made = {
            path: resized(part, sites[path], alive[sites[path].inputs], alive[sites[path].outputs], memo)
            if path in sites
            else copy.deepcopy(part, memo)
            for path, part in parts.items()
        }
        slim = fx.GraphModule(made, graph, type(network).__name__)
        return slim.train(network.training)

    def fresh(self, masks: Mapping[str, Tensor], network: nn.Module) -> nn.Module:
        """``slimmed``, where layers that were made smaller have new initial weights, for the inputs that they have."""
        slim = self.slimmed(masks, network)
        own = dict(network.named_modules())
        for path, module in slim.named_modules():
            if isinstance(module, nn.Linear | _ConvNd):
                before: Any = own[path]
                if module.weight.shape != before.weight.shape:
                    module.reset_parameters()
        return slim

    def _flat(self, masks: Mapping[str, Tensor]) -> Tensor:
        """All masks in a row, and a 1 for what stays."""
        if unknown := masks.keys() - self._sizes.keys():
            raise ValueError(f"there is nothing called {sorted(unknown)[0]} to mask")
        some = next(iter(masks.values()), torch.ones((), device="cpu"))
        dtype = some.dtype if some.is_floating_point() else torch.float32
        parts = [
            masks[name].reshape(-1).to(dtype) if name in masks else some.new_ones(size, dtype=dtype)
            for name, size in self._sizes.items()
        ]
        flat = torch.cat([*parts, some.new_ones(1, dtype=dtype)])
        assert len(flat) == self._stays + 1, "a mask has another size than its group"
        return flat

    def _parts(self, network: nn.Module, graph: fx.Graph) -> dict[str, Any]:
        """What a graph calls and reads, of this network, by path."""
        paths = dict.fromkeys(str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr"))
        parts = {}
        for path in paths:
            try:
                parts[path] = operator.attrgetter(path)(network)
            except AttributeError:  # constants that tracing made
                parts[path] = operator.attrgetter(path)(self._flow.traced.network)
        return parts

    def _with_masks(self, network: nn.Module) -> fx.GraphModule:
        """Its modules, in a graph with a second input for the masks."""
        graph = copy.deepcopy(self._flow.traced.graph)
        nodes = {node.name: node for node in graph.nodes}
        parts = self._parts(network, graph)
        parts |= {path: copy.copy(part) for path, part in parts.items() if isinstance(part, Trained)}
        with graph.inserting_after(graph.find_nodes(op="placeholder")[0]):
            flat = graph.placeholder("masks_of_all")
        for site in self._flow.sites:
            index = self._place[site.inputs]
            if site.reads and bool((index < self._stays).any()):
                nodes[site.node.name].args = (*nodes[site.node.name].all_input_nodes, flat)
                nodes[site.node.name].kwargs = {}
                parts[site.path] = MaskedReader(operator.attrgetter(site.path)(network), index)
        for number, block in enumerate(self.blocks):
            addition = nodes[block.addition]
            with graph.inserting_before(addition):
                mask = graph.call_function(operator.getitem, (flat, self._first_block + number))
                branch = graph.call_function(torch.mul, (addition.args[block.branch], mask))
            addition.update_arg(block.branch, branch)
        return fx.GraphModule(parts, graph)


def prunable(network: nn.Module, shape: tuple[int, int, int]) -> Prunable:
    """What can be left out of a network from ``(N, C, H, W)`` to ``(N, classes)``, on the CPU; it is not changed.

    Raises:
        PruningError: If the network cannot be traced, or nothing can be left out; it names the module and why.
    """
    try:
        return _prunable(network, shape)
    except PruningError:
        raise
    except (Exception, SystemExit) as error:  # of code that is not ours: whatever it is, it is one line
        what = f"{type(network).__name__} cannot be pruned: {type(error).__name__}: {reason_of(error)}"
        raise PruningError(what, mend=REWRITE) from error


def _prunable(network: nn.Module, shape: tuple[int, int, int]) -> Prunable:
    flow = propagate(trace(network, shape))
    blocks, kept = residual_blocks(flow)
    checked = False
    while True:
        grouping = grouped(flow)
        grouping = replace(grouping, kept=(*grouping.kept, *kept))
        found = Prunable(network, flow, grouping, blocks, shape)
        if not checked:
            _check_traced(found, shape)
            checked = True
        wrong = _wrong(found, shape)
        if not wrong:
            break
        for group, units in zip(found.groups, grouping.units, strict=True):
            if group.name in wrong:
                flow.channels.pin(units, CHANGES)
        kept += [Kept(block.name, CHANGES, STAYS) for block in blocks if block.name in wrong]
        blocks = tuple(block for block in blocks if block.name not in wrong)
    if not found.groups and not found.blocks:
        why = "; ".join(f"{each.layer}: {each.reason}" for each in found.kept[:3]) or "it has no layers"
        raise PruningError(f"nothing of {type(network).__name__} can be left out: {why}", mend="prune another network")
    return found


@torch.no_grad()
def _check_traced(found: Prunable, shape: tuple[int, int, int]) -> None:
    """Refuses a network that does something else than its graph: what is not called by ``forward`` is not in it."""
    network, name = copy.deepcopy(found.network).eval(), type(found.network).__name__
    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    once, again = (network(images.clone()) for _ in range(2))
    if not bool(once.isfinite().all()):
        raise PruningError(f"{name} gives numbers that are not finite for random images", mend="change how it begins")
    if not _close(again, once):
        raise PruningError(
            f"{name} gives something else every time in evaluation",
            mend="draw random numbers in training only, as F.dropout(x, p, training=self.training)",
        )
    network = _scattered(found.network, images)
    if not _close(found.masked(network, {})(images.clone()), network(images.clone())):
        raise PruningError(f"what was traced of {name} gives something else than it", mend=REWRITE)


def _scattered(whole: nn.Module, images: Tensor) -> nn.Module:
    """A copy in evaluation that has no weights that are all alike, as a branch that begins at 0: those hide errors.

    Where its outputs would not be finite it has the weights that the network has.
    """
    generator, network = torch.Generator().manual_seed(0), copy.deepcopy(whole).eval()
    for weight in network.parameters():
        if weight.is_floating_point() and bool((weight == weight.flatten()[:1]).all()):
            weight.uniform_(0.5, 1.5, generator=generator)
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network if bool(network(images.clone()).isfinite().all()) else copy.deepcopy(whole).eval()


def _close(some: Tensor, others: Tensor) -> bool:
    return torch.allclose(some, others, rtol=0, atol=TOLERANCE * float(others.abs().max()))


@torch.no_grad()
def _wrong(found: Prunable, shape: tuple[int, int, int]) -> set[str]:
    """Groups and blocks without some of which the network turns out not to be the masked one."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, *shape, generator=generator)
    network = _scattered(found.network, images)

    def same(widths: Mapping[str, int]) -> bool:
        masks = found.first(widths)
        expected = found.masked(network, masks)(images)
        try:
            got = found.slimmed(masks, network)(images)
        except Exception:  # whatever it is: what does not run smaller is kept whole, and told
            return False
        return _close(got, expected)

    sizes = found.sizes
    least = {name: int(size > 1) for name, size in sizes.items()}  # a block's is 0
    half = {name: size // 2 for name, size in sizes.items()}
    trials = [
        {name: int(torch.randint(least[name], size + 1, (), generator=generator)) for name, size in sizes.items()}
        for _ in range(TRIALS)
    ]
    if all(map(same, (half, *trials))):
        return set()
    return {name for name in sizes if not same({name: half[name]})} or set(sizes)
