"""Check a space: does everything that a search, a table and an export do with one work with this one?"""

from __future__ import annotations

import random
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency_tables.errors import MissingEntryError
from latency_tables.home import ANY, Target, last_table
from latency_tables.published import open_device
from profilers.arithmetic import counted
from profilers.errors import ConversionError, FileError, UnasError
from profilers.runtimes.onnx_file import write_onnx
from profilers.timing import TimingRule
from profilers.units import format_ms
from unas_hw.errors import SpaceError
from unas_hw.extremes import spread
from unas_hw.jobs.profile import space_for
from unas_hw.latency_model import LatencyModel
from unas_hw.network import inherit
from unas_hw.progress import Job, Step
from unas_hw.space import Architecture, SearchSpace
from unas_hw.spaces import in_precision
from unas_hw.supernet import Path as SupernetPath
from unas_hw.supernet import Supernet, keep_no_statistics
from unas_hw.verify import parity

NETWORKS = 5
"""Smallest, largest and networks between them, each of which is looked at."""
SHARED_TOLERANCE = 1e-3
"""Of the largest output: the supernet and the network do the same arithmetic, in another order where it adds zeros."""
QUICK = TimingRule(min_rounds=8, max_rounds=12, min_time_s=0, max_time_s=5, warmup_s=0.1, warmup_cap_s=0.5)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: In two words.
        passed: Whether it is as it has to be.
        what: What was seen.
        mend: What to do where it did not pass.
    """

    name: str
    passed: bool
    what: str
    mend: str = ""


def check_space(
    name: str, *, image_size: int | None = None, batch: int = 1, target: Target = ANY
) -> Job[dict[str, Any]]:
    """Checks a space from its decisions to its price, in less than half a minute where networks are no giants.

    Args:
        name: As ``find_space`` takes it.
        image_size: Pixels, instead of those that the space is made for.
        batch: Images at a time that latencies are for.
        target: Device and runtime that price it; by default the table that was profiled last, or else this CPU.

    Returns:
        ``space``, ``origin``, ``passed``, ``checks``: a list of ``name``, ``passed``, ``what``, ``mend``; and of a
        space that could be built ``input_shape``, ``classes``, ``decisions`` (a number) and ``size``.

    Raises:
        UnknownSpaceError: If there is no space of that name.
    """
    try:
        space = space_for(name, image_size=image_size, batch=batch)
    except (SpaceError, FileError) as error:
        finding = Finding("description", False, error.what, error.mend)
        return {"space": name, "origin": name, "passed": False, "checks": [vars(finding)]}
    subject = Subject(space, target)
    findings: list[Finding] = []
    for number, (title, look) in enumerate(CHECKS.items()):
        yield Step("check", number, len(CHECKS))
        findings.append(_looked(title, look, subject))
    yield Step("check", len(CHECKS), len(CHECKS))
    return {
        "space": space.name,
        "origin": space.origin,
        "input_shape": list(space.input_shape),
        "classes": space.classes,
        "decisions": len(space.decisions),
        "size": space.size,
        "passed": all(finding.passed for finding in findings),
        "checks": [vars(finding) for finding in findings],
    }


def _looked(title: str, look: Callable[[Subject], str], subject: Subject) -> Finding:
    try:
        return Finding(title, True, look(subject))
    except UnasError as error:
        return Finding(title, False, error.what, error.mend)
    except Exception as error:  # the user's own modules may raise anything
        what = next(iter(str(error).splitlines()), "")
        mend = "make the block take (N, C, H, W) of any N, in training and in evaluation mode"
        return Finding(title, False, f"{type(error).__name__}: {what}", mend)


class Subject:
    """A space that is looked at, with what several checks need of it.

    Attributes:
        space: The space.
        target: What prices it.
    """

    def __init__(self, space: SearchSpace, target: Target) -> None:
        self.space = space
        self.target = target

    @cached_property
    def networks(self) -> tuple[Architecture, ...]:
        """Smallest and largest by arithmetic, then some between them."""
        return spread(self.space, NETWORKS, random.Random(0))

    @cached_property
    def supernet(self) -> Supernet:
        """With random weights."""
        return self.space.supernet()

    @cached_property
    def images(self) -> Tensor:
        """A few: normalisation needs more than one."""
        _, *image = self.space.input_shape
        count = 16 if image[1] <= 16 else 4 if image[1] <= 64 else 2
        return torch.randn(count, *image, generator=torch.Generator().manual_seed(0))

    def weights(self, path: tuple[int, ...] | None = None) -> Tensor:
        """``(G, K)`` equal weights of all choices, or all weight on one network."""
        decisions = self.space.decisions
        weights = torch.zeros(len(decisions), max(len(decision.choices) for decision in decisions))
        for row, decision in enumerate(decisions):
            weights[row, : len(decision.choices)] = 1 / len(decision.choices)
            if path is not None:
                weights[row] = 0
                weights[row, path[row]] = 1
        return weights


def _decisions(subject: Subject) -> str:
    space = subject.space
    if not space.decisions:
        raise SpaceError(f"{space.name} has nothing to choose", mend="add a layer with a choice")
    for what, names in (
        ("two decisions are", [decision.name for decision in space.decisions]),
        *((f"two choices of {decision.name} are", decision.choices) for decision in space.decisions),
    ):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise SpaceError(f"{what} called {twice[0]!r}", mend="call one of them otherwise")
    for each in subject.networks:
        if space.parse(str(each)) != each or space.indices(each) != space.indices(space.parse(str(each))):
            raise SpaceError(f"{each} is read as another network", mend="name choices by letters, digits, _ and . only")
        _ = space.workload(each).key
    return f"{len(space.decisions)} decisions, {space.size:.4g} networks, of images {_text(space.input_shape)}"


def _terms(subject: Subject) -> str:
    space = subject.space
    terms, counts = space.terms(), [len(decision.choices) for decision in space.decisions]
    for term in terms:
        expected = int(np.prod([counts[decision] for decision in term.decisions], initial=1))
        if len(term.keys) != expected:
            raise SpaceError(
                f"a term of decisions {term.decisions} has {len(term.keys)} entries, not {expected}",
                mend="give one entry per choice, of several decisions for all combinations",
            )
    said = {key for term in terms for keys in term.keys for key in keys}
    listed = [workload.key for workload in space.workloads()]
    if len(listed) != len(set(listed)) or set(listed) != said:
        odd = next(iter(said.symmetric_difference(listed)), None) or Counter(listed).most_common(1)[0][0]
        raise SpaceError(
            f"workloads() and terms() do not name the same operations once each: {odd}",
            mend="list every operation of the terms once",
        )
    for each in subject.networks:
        path = space.indices(each)
        live = space.live(np.array([path]))[0]
        sums: Counter[str] = Counter()
        for term in terms:
            if all(live[decision] for decision in term.decisions):
                entry = int(
                    np.ravel_multi_index([path[d] for d in term.decisions], [counts[d] for d in term.decisions])
                )
                sums.update({key: term.count * count for key, count in Counter(term.keys[entry]).items()})
        parts = Counter(part.key for part in space.parts(each))
        if sums != parts:
            odd = next(iter((sums - parts) + (parts - sums)))
            raise SpaceError(
                f"{each}: {odd} runs {parts[odd]} times and its terms count it {sums[odd]} times",
                mend="make terms() and parts() tell the same",
            )
    return f"{len(listed)} operations; their terms say what {len(subject.networks)} networks run"


def _arithmetic(subject: Subject) -> str:
    space, seen = subject.space, []
    for each in subject.networks[:2]:
        cost = space.workload(each).cost
        network, macs, _, _ = counted(partial(space.network, each), space.input_shape)
        wholes = macs, sum(weight.numel() for weight in network.parameters())
        for what, whole, parts in zip(("MACs", "parameters"), wholes, (cost.macs, cost.params), strict=True):
            if whole != parts:
                raise SpaceError(
                    f"{each} has {whole:,} {what}, its parts have {parts:,} together",
                    mend="make network() of what parts() names, and give blocks that differ other attributes",
                )
        seen.append(cost)
    (least, most) = (seen[0], seen[-1])
    lacks = f" {most.lacks}" if most.lacks else ""
    counts = f"{least.macs / 1e6:.4g} to {most.macs / 1e6:.4g} million MACs{lacks}"
    return f"{counts}, {least.params:,} to {most.params:,} parameters"


def _networks(subject: Subject) -> str:
    for each in subject.networks:
        network = subject.space.network(each)
        for training in (True, False) if each in subject.networks[:2] else (False,):
            with torch.set_grad_enabled(training):
                out = network.train(training)(subject.images)
            _refuse_output(out, subject, f"{each} in {'training' if training else 'evaluation'}")
    return (
        f"smallest, largest and {max(len(subject.networks) - 2, 0)} between them give {subject.space.classes} outputs"
    )


def _relaxed(subject: Subject) -> str:
    weights = subject.weights().requires_grad_()
    reached, total = _trained(subject, weights, "all networks at once")
    gradient = weights.grad
    if gradient is None or not gradient.isfinite().all() or not gradient.any():
        raise SpaceError(
            "the weights of the choices get no gradient, or one that is not finite",
            mend="multiply what each candidate gives by its weight, and add them",
        )
    return f"forward and backward: gradients for the choices, and for {reached} of {total} weight tensors"


def _discrete(subject: Subject) -> str:
    reached = [_trained(subject, subject.space.indices(each), str(each))[0] for each in subject.networks[:2]]
    return f"forward and backward along single networks; they reach {' and '.join(map(str, reached))} weight tensors"


def _trained(subject: Subject, path: SupernetPath, what: str) -> tuple[int, int]:
    """Weight tensors that a backward pass reaches, and how many there are."""
    net = subject.supernet.train()
    net.zero_grad(set_to_none=True)
    out = net(subject.images, path)
    _refuse_output(out, subject, f"the supernet, {what},")
    out.square().mean().backward()
    weights = list(net.named_parameters())
    for name, weight in weights:
        if weight.grad is not None and not weight.grad.isfinite().all():
            raise SpaceError(f"{name} of the supernet gets a gradient that is not finite", mend="look at its block")
    reached = sum(weight.grad is not None for _, weight in weights)
    if not reached:
        raise SpaceError("no weight of the supernet gets a gradient", mend="leave out detach() and torch.no_grad()")
    return reached, len(weights)


def _refuse_output(out: object, subject: Subject, what: str) -> None:
    expected = (len(subject.images), subject.space.classes)
    if not isinstance(out, Tensor) or tuple(out.shape) != expected:
        seen = _text(tuple(out.shape)) if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise SpaceError(f"{what} gives {seen}, not {_text(expected)}", mend="end with the classifier")
    if not out.isfinite().all():
        raise SpaceError(f"{what} gives numbers that are not finite", mend="look for a division by zero in its blocks")


@torch.no_grad()
def _inherited(subject: Subject) -> str:
    net, worst = subject.supernet.eval(), 0.0
    for each in subject.networks:
        path = subject.space.indices(each)
        network = subject.space.network(each)
        try:
            inherit(network, net, path)
        except (AssertionError, RuntimeError) as error:  # other names, other shapes
            raise SpaceError(
                f"{each}: the supernet's weights do not fit the network", mend="give state_of the network's own names"
            ) from error
        keep_no_statistics(network)  # as in the supernet: those of the batch
        alone = network.eval()(subject.images)
        ways: dict[str, SupernetPath] = {"its path": path}
        if each == subject.networks[-1]:  # of one network only: all candidates are run for it
            ways["all weight on it"] = subject.weights(path)
        for way, path_of in ways.items():
            apart = float((net(subject.images, path_of) - alone).abs().max() / alone.abs().max().clamp(min=1))
            worst = max(worst, apart)
            if not apart <= SHARED_TOLERANCE:
                raise SpaceError(
                    f"{each} gives other numbers than the supernet with {way}: {apart:.2g} apart",
                    mend="make both of the same blocks; randomness in a block has to end in evaluation mode",
                )
    return f"{len(subject.networks)} networks give what the supernet gives for them, within {worst:.1g}"


def _export(subject: Subject) -> str:
    import onnxruntime

    architecture = subject.networks[-1]
    network = subject.space.network(architecture).eval()
    with torch.no_grad():
        expected = network(subject.images).numpy()
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network, subject.space.input_shape, path, final=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (seen,) = session.run(None, {session.get_inputs()[0].name: subject.images.numpy()})
        size = path.stat().st_size
    largest = max(parity(expected, seen, "onnxruntime"), key=lambda check: check.seen > check.allowed)
    if not largest.passed:
        raise ConversionError(
            f"{architecture} gives other numbers in onnxruntime: {largest.name} {largest.seen:.2g}",
            mend="look for what depends on values in forward: if, loops, .item()",
        )
    return f"{architecture} as ONNX ({size / 1e6:.1f} MB) gives the same in onnxruntime"


def _price(subject: Subject) -> str:
    """By a table where there is one, else by the clock: the smallest and the largest network, whole."""
    space, target = subject.space, subject.target
    ends = subject.networks[:2]
    table = None
    if target.precision is None:
        with suppress(MissingEntryError):
            table = last_table(target, (workload.key for workload in space.workloads()))
    if table is not None:
        model = LatencyModel(in_precision(space, table.header["precision"]), table)
        low, high = (model.latency_ms(path) for path in (model.smallest, model.largest))
        return f"{format_ms(low)} to {format_ms(high)}, by the table {table.path.stem}"
    profiler = open_device(target.device or "cpu", runtime=target.runtime, threads=target.threads or 1)
    with profiler:
        found = profiler.measure_all([space.workload(each) for each in ends], QUICK)
    times = [format_ms(found[space.workload(each).key].median_ms) for each in ends]
    where = f"two networks timed on {profiler.device} ({profiler.runtime})"
    command = f"unas-hw profile --space {shlex.quote(space.origin)} {target}".strip()
    return f"{' to '.join(times)}: {where}; no table has it: {command}"


CHECKS: dict[str, Callable[[Subject], str]] = {
    "decisions": _decisions,
    "terms": _terms,
    "arithmetic": _arithmetic,
    "networks": _networks,
    "supernet": _relaxed,
    "paths": _discrete,
    "weights": _inherited,
    "export": _export,
    "latency": _price,
}
"""In this order; all are looked at, whichever fails."""


def _text(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
