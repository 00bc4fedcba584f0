"""Networks of one's own that are not as most are: pruned right, or refused in one line that names what it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.nn import qat
from torch.ao.quantization import get_default_qat_qconfig
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm

from unas_hw.errors import PruningError
from unas_hw.prunable.prunable import Prunable, prunable
from unas_hw.prunable.ready import ready

from .pruned_networks import CLASSES, SHAPE


def body() -> nn.Sequential:
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, CLASSES))


def changed(place: int, change: Callable[[Any], nn.Module]) -> nn.Sequential:
    network = body()
    network[place] = change(network[place])
    return network


class Net(nn.Module):
    """The same, with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = body()

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


def found(network: nn.Module) -> Prunable:
    return prunable(ready(network, SHAPE), SHAPE)


class TwoInputs(Net):
    def forward(self, x: Tensor, other: Tensor) -> Any:  # type: ignore[override]
        return self.body(x) + self.body(other)


class ByName(Net):
    def forward(self, *, x: Tensor) -> Any:  # type: ignore[override]
        return self.body(x)


class NoInput(Net):
    def forward(self) -> Any:  # type: ignore[override]
        return self.body(torch.zeros(1, *SHAPE))


class ManyInputs(Net):
    def forward(self, *images: Tensor, **more: Any) -> Any:
        return self.body(images[0])


class AllDefaults(Net):
    """As networks of transformers are written."""

    def forward(
        self,
        x: Tensor | None = None,
        labels: Tensor | None = None,
        sizes: tuple[int, int] = (1, 2),
        *,
        mode: str = "logits",
    ) -> Any:
        if x is None:
            raise ValueError("there are no pixels")
        return self.body(x) if labels is None and mode == "logits" else sizes


class GivesDict(Net):
    def forward(self, x: Tensor) -> Any:
        return {"logits": self.body(x), "hidden": x}


class GivesTuple(Net):
    def forward(self, x: Tensor) -> Any:
        return self.body(x), x


@dataclass
class Output:
    logits: Tensor


class GivesObject(Net):
    def forward(self, x: Tensor) -> Any:
        return Output(self.body(x))


class GivesComplex(Net):
    def forward(self, x: Tensor) -> Any:
        return self.body(x).to(torch.complex64)


class Auxiliary(Net):
    """As Inception: a second output in training."""

    def forward(self, x: Tensor) -> Any:
        x = self.body(x)
        return (x, x) if self.training else x


class ForTwoImages(Net):
    state: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(2, CLASSES))

    def forward(self, x: Tensor) -> Any:
        return self.body(x) + self.state


class FrozenNorm(Net):
    def train(self, mode: bool = True) -> FrozenNorm:
        super().train(mode)
        self.body[1].eval()
        return self


class WithoutGradients(Net):
    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            x = self.body[0](x)
        return self.body[1:](x)


class Autocast(Net):
    def forward(self, x: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.body(x)


class AlwaysDrops(Net):
    def forward(self, x: Tensor) -> Any:
        return self.body(F.dropout(x, 0.5))


class Counts(Net):
    calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.body(x) * self.calls


class MakesLayers(Net):
    def forward(self, x: Tensor) -> Any:
        return nn.Linear(CLASSES, CLASSES)(self.body(x))


class ListOfLayers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.first = [nn.Conv2d(3, 3, 3)]

    def forward(self, x: Tensor) -> Any:
        return self.body(self.first[0](x))


class Whole(Net):
    def forward(self, x: Tensor) -> Any:
        return self.body(x) * int(x.shape[1] / 2)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gru, self.fc = nn.Conv2d(3, 8, 3), nn.GRU(8, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Any:
        x, _ = self.gru(self.conv(x).flatten(2).transpose(1, 2))
        return self.fc(x[:, -1])


class Exits(Net):
    def forward(self, x: Tensor) -> Any:
        raise SystemExit(3)


def hooked() -> nn.Module:
    network = Net()
    network.register_forward_hook(lambda module, given, out: out.mul(2))
    return network


def hooked_at_zero() -> nn.Module:
    """Of outputs that are all 0 twice as much is the same."""
    network = hooked()
    nn.init.zeros_(network.get_parameter("body.6.weight"))
    nn.init.zeros_(network.get_parameter("body.6.bias"))
    return network


def rewritten() -> nn.Module:
    network, before = Net(), Net.forward
    network.forward = lambda x: 2 * before(network, x)  # type: ignore[method-assign]
    return network


def lazy_beside() -> nn.Module:
    network = Net()
    network.extra = nn.LazyLinear(3)
    return network


def infinite() -> nn.Module:
    network = body()
    nn.init.constant_(network.get_parameter("0.weight"), float("nan"))
    return network


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return body()


def scripted() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        made: nn.Module = torch.jit.script(body())
    return made


def script_inside() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return changed(2, torch.jit.script)


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return changed(0, nn.utils.weight_norm)


REFUSED: list[tuple[Callable[[], nn.Module], str]] = [
    (TwoInputs, r"TwoInputs takes 2 inputs \(x, other\), not images alone"),
    (ByName, r"ByName takes no images: its forward has \(x\)"),
    (NoInput, r"NoInput takes no images: its forward has \(\)"),
    (GivesDict, "GivesDict gives a dict of logits, hidden for 2 images"),
    (GivesTuple, "GivesTuple gives a tuple of 2 for 2 images"),
    (GivesObject, "GivesObject gives Output for 2 images"),
    (GivesComplex, "GivesComplex gives 2x5 of complex64 for 2 images"),
    (Auxiliary, "output of Auxiliary: training changes what it does"),
    (ForTwoImages, r"ForTwoImages cannot be traced with 3x3x12x12: .*\(test_pruning_odd_networks.py, line \d+\)"),
    (FrozenNorm, r"body\.1 of FrozenNorm stays in evaluation while the network is trained"),
    (WithoutGradients, r"body\.0 of WithoutGradients cannot be traced .*torch\.no_grad\(\) in it would be lost"),
    (Autocast, "torch.autocast in it would be lost"),
    (AlwaysDrops, "AlwaysDrops gives something else every time"),
    (Counts, "Counts gives something else every time"),
    (MakesLayers, "Linear is none of its modules: make it in __init__"),
    (ListOfLayers, "Conv2d is none of its modules: make it in __init__"),
    (Whole, "it has to know the value of something that is traced"),
    (Recurrent, "nothing of Recurrent can be left out: conv: gru: what GRU does to channels is not known"),
    (Exits, "Exits cannot be pruned: SystemExit: 3"),
    (hooked, "what was traced of Net gives something else"),
    (hooked_at_zero, "what was traced of Net gives something else than"),
    (rewritten, "what was traced of Net gives something else"),
    (lazy_beside, "extra of Net is lazy: it has no sizes"),
    (infinite, "Sequential gives numbers that are not finite"),
    (on_meta, "0.weight of Sequential is on meta"),
    (lambda: body().double(), "0.weight of Sequential is float64, images are float32"),
    (lambda: body().bfloat16(), "0.weight of Sequential is bfloat16"),
    (lambda: changed(0, lambda _: nn.Conv2d(3, 8, 3, dtype=torch.complex64)), "0 of Sequential cannot be traced"),
    (scripted, "RecursiveScriptModule is a script"),
    (script_inside, "2 of Sequential is a script"),
    (old_weight_norm, r"0 of Sequential has weights that a hook computes \(WeightNorm\)"),
    (lambda: changed(3, spectral_norm), r"3 of Sequential has weights that a hook computes \(SpectralNorm\)"),
    (lambda: changed(0, lambda conv: prune.l1_unstructured(conv, "weight", 0.3)), r"a hook computes \(L1Unstructured"),
    (nn.Sequential, "Sequential gives 2x3x12x12 for 2 images"),
    (lambda: nn.ModuleList([body()]), "ModuleList cannot be traced"),
    (nn.Flatten, "nothing of Flatten can be left out: it has no layers"),
]


@pytest.mark.parametrize(("make", "what"), REFUSED, ids=[what[:40] for _, what in REFUSED])
def test_it_is_refused_in_a_line(make: Callable[[], nn.Module], what: str) -> None:
    network = make()
    with pytest.raises(PruningError, match=what) as error:
        prunable(network, SHAPE)
    assert "\n" not in error.value.what and error.value.mend


class Unused(Net):
    """A layer whose outputs nobody reads, and one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.aux, self.never = nn.Conv2d(3, 4, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Any:
        self.aux(x)
        return self.body(x)


class OwnWeights(Net):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 3, 3))

    def forward(self, x: Tensor) -> Any:
        return self.body(F.conv2d(x, self.weight, padding=1))


def aware() -> nn.Module:
    """A convolution that rounds its weights."""

    def rounding(conv: nn.Conv2d) -> nn.Module:
        vars(conv)["qconfig"] = get_default_qat_qconfig("fbgemm")
        made: nn.Module = qat.Conv2d.from_float(conv)
        return made

    with warnings.catch_warnings(action="ignore"):
        return changed(0, rounding)


class Compiled(nn.Module):
    """As torch.compile gives it, which takes seconds to import."""

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self._orig_mod = network or body()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(CLASSES))


PRUNED: list[tuple[Callable[[], nn.Module], set[str], dict[str, str]]] = [
    (lazy, {"0"}, {}),
    (ManyInputs, {"body.0", "body.3"}, {}),
    (AllDefaults, {"body.0", "body.3"}, {}),
    (lambda: nn.DataParallel(body()), {"0", "3"}, {}),
    (Compiled, {"0", "3"}, {}),
    (lambda: changed(0, Compiled), {"0", "3"}, {}),
    (aware, {"3"}, {"0": "0: Conv2d computes otherwise than the layer of PyTorch that it is made from"}),
    (lambda: changed(0, parametrizations.weight_norm), {"3"}, {
        "0": "0: ParametrizedConv2d has hooks or parametrizations"
    }),
    (OwnWeights, {"body.0", "body.3"}, {"weight": "conv2d reads it, which is no module"}),
    (Unused, {"body.0", "body.3"}, {"aux": "no output depends on it", "never": "no output depends on it"}),
]  # fmt: skip


@pytest.mark.parametrize(("make", "free", "kept"), PRUNED)
def test_it_is_pruned(make: Callable[[], nn.Module], free: set[str], kept: dict[str, str]) -> None:
    network = found(make())
    assert {group.name for group in network.groups} == free
    outputs = {each.layer for each in network.kept if each.reason == "they are the network's outputs"}
    assert {each.layer: each.reason for each in network.kept if each.layer not in outputs} == kept
    assert len(outputs) == 1


def test_a_lazy_network_is_given_its_sizes_and_stays_in_training() -> None:
    network = ready(lazy(), SHAPE)
    assert network.training
    assert network.get_parameter("3.weight").shape == (CLASSES, 800)
    with pytest.raises(PruningError, match=r"has lazy layers and cannot be run with 2x3x12x12: .*3 channels"):
        ready(nn.Sequential(nn.Conv2d(1, 2, 3), nn.LazyConv2d(8, 3)), SHAPE)
    with pytest.raises(PruningError, match="extra of Net is lazy and is not run"):
        ready(lazy_beside(), SHAPE)


def test_what_is_kept_is_told_in_a_line() -> None:
    told = [each.words for each in found(Unused()).kept]
    assert told == [
        "body.6 keeps its width: they are the network's outputs",
        "aux is left out: no output depends on it",
        "never is left out: no output depends on it",
    ]
