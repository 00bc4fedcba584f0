"""What else a budget can be put on: energy, arithmetic, weights and memory. Latency is ``unas_hw.latency_model``.

All but energy are computed, not measured, and are those of the space's input shape and precision. All are exact, of one
network and of a random one (see ``unas_hw.cost_model``).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import reduce
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from latency_tables.errors import MissingEntryError
from latency_tables.expectation import LatencyDistribution, joint_distribution
from latency_tables.table import LatencyTable
from profilers.precision import PRECISIONS
from profilers.workload import NOTHING, Workload
from unas_hw.cost_model import AdditiveModel, CostModel
from unas_hw.space import Architecture, SearchSpace


@final
class Params(AdditiveModel):
    """Learned numbers of a network; cells that are repeated have their own each."""

    def __init__(self, space: SearchSpace) -> None:
        params = {workload.key: workload.cost.params for workload in space.workloads()}
        super().__init__(space, params.__getitem__, name="params", unit="")


@final
class Macs(AdditiveModel):
    """Multiply-accumulates for one image, whatever the batch of the space, see ``profilers.arithmetic``.

    ``not_counted`` are operations of some network that they lack.
    """

    def __init__(self, space: SearchSpace) -> None:
        macs = {workload.key: workload.cost.macs / space.input_shape[0] for workload in space.workloads()}
        super().__init__(space, macs.__getitem__, name="macs", unit="")
        self.not_counted = sum((workload.cost for workload in space.workloads()), NOTHING).not_counted


def arithmetic_of(space: SearchSpace, architecture: Architecture) -> dict[str, Any]:
    """``macs`` of one image, and ``macs_without``: operations that they lack, since nobody knows what they compute."""
    cost = space.workload(architecture).cost
    return {"macs": cost.macs // space.input_shape[0], "macs_without": list(cost.not_counted)}


@final
class Energy(AdditiveModel):
    """Millijoules of one call, the whole batch, above what the idle device spends: the sum of the table's rows.

    As measured for single operations; no calibration corrects it. A choice that runs nothing spends nothing.

    Args:
        space: Whose networks.
        table: Of the device; raises ``MissingEntryError`` where a row that the space needs has no energy.
    """

    def __init__(self, space: SearchSpace, table: LatencyTable) -> None:
        known_mj, needed = table.energy_mj, [workload.key for workload in space.workloads()]
        lacking = [key for key in needed if key not in known_mj]
        if lacking:
            words = f"--space {shlex.quote(space.origin)} --energy"
            raise MissingEntryError(
                f"{table.path.name} has no energy of {len(lacking)} operations of {space.name}, such as {lacking[0]}",
                mend=f"unas-hw profile --device cpu {words}" if table.is_published else table.mend(words),
            )
        super().__init__(space, known_mj.__getitem__, name="energy", unit="mJ")


@final
class PeakMemory(CostModel):
    """Bytes of activations: the most that any single operation of the network needs, see ``activation_bytes``.

    A maximum, not a sum. Weights do not count, and neither does what a network keeps for later operations, such as the
    inputs of a cell's other edges: it is a lower bound of what a runtime allocates, meant for comparing networks.
    """

    def __init__(self, space: SearchSpace) -> None:
        needed = {workload.key: float(activation_bytes(workload)) for workload in space.workloads()}
        costs = space.costs(needed.__getitem__, combine=np.maximum)
        super().__init__(space, costs, name="peak memory", unit="bytes")

    def distribution(self, probs: Sequence[Tensor]) -> LatencyDistribution:
        """Exact distribution when decisions are drawn with these probabilities, one ``(K,)`` tensor each.

        Of independent groups of decisions ``P(max <= m)`` is the product of each group's. More than ``MAX_JOINT``
        networks with dead operations have the distribution of an upper bound, all operations counted.
        """
        if self._joint:
            return joint_distribution(probs, self._everything[0])
        groups = list(map(torch.from_numpy, self.costs.of_groups()))
        values = torch.cat([torch.tensor([self.costs.constant], dtype=torch.float64), *groups]).unique()
        values = values[values >= self.costs.constant]
        reached = [
            prob @ (cost[:, None] <= values).double()
            for prob, cost in zip(self._group_probs(probs), groups, strict=True)
        ]
        cdf = reduce(torch.mul, reached, torch.ones_like(values))
        at = torch.diff(cdf, prepend=cdf.new_zeros(1))
        return LatencyDistribution(values, at, 0.0, 0.0, upper_bound=self.space.has_dead_operations)


def activation_bytes(workload: Workload) -> int:
    """Input, output and the largest tensor made inside, for the whole batch; computed on tensors without memory.

    As a runtime does it that fuses: normalisation and what works on each element for itself write over what the
    operation has made, though not over its input.
    """
    with torch.device("meta"), torch.no_grad():
        module, example = workload.build().eval(), torch.empty(workload.op.shape)
        with _Made([example, *module.parameters(), *module.buffers()]) as made:
            output: Tensor = module(example)
    inside = max((size for buffer, size in made.sizes.items() if buffer != made.buffer(output)), default=0)
    return (example.numel() + output.numel() + inside) * PRECISIONS[workload.op.dtype][1]


class _Made(TorchDispatchMode):
    """Elements of every tensor that is made while this is on; views and what is written over count once."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: dict[int, int] = {}
        self._kept = list(given)  # or else a later tensor could get the address of one that is gone
        self._buffers = {_address(tensor): _address(tensor) for tensor in given}

    def buffer(self, tensor: Tensor) -> int:
        """Names the memory that the tensor lies in."""
        return self._buffers[_address(tensor)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        over = torch.Tag.pointwise in func.tags or "_norm" in func.name()
        tensors = result if isinstance(result, tuple | list) else (result,)
        for tensor in tensors[:1] if over else tensors:  # others of a normalisation are its statistics
            if _address(tensor) not in self._buffers:
                sizes = {self.buffer(arg): arg.numel() for arg in args if over and isinstance(arg, Tensor)}
                written = [each for each, size in sizes.items() if size == tensor.numel() and each in self.sizes]
                place = self._buffers[_address(tensor)] = written[0] if written else _address(tensor)
                self.sizes[place] = tensor.numel()
            self._kept.append(tensor)
        return result


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
