"""``spaces check`` passes what works, and of what does not it names the check that fails and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_tables.home import ANY, Target
from profilers.errors import UnasError
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from unas_hw.jobs.profile import profile
from unas_hw.jobs.spaces import CHECKS, Subject, check_space
from unas_hw.progress import finish
from unas_hw.spaces import find_space

PHONE = Target(device="sim:phone")
SPACE = """
import torch
from torch import nn
from unas_hw.spaces.building import Chain

IMAGE_SHAPE, CLASSES = (1, 8, 8), 3

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return {forward}

def space(name, *, image_size, channels, classes, batch, precision):
    chain = Chain(name, image_size=image_size, channels=channels, batch=batch, precision=precision)
    chain.fixed("stem", chain.conv(4, kernel=3))
    chain.choose("first", {{"own": chain.block("own", {{}}, Block), "k5": chain.conv(4, kernel=5), "id": None}})
    chain.fixed("classifier", chain.classifier(classes))
    made = chain.space(classes)
    {change}
    return made
"""


def written(forward: str = "self.conv(x)", change: str = "") -> str:
    Path("mine.py").write_text(SPACE.format(forward=forward, change=change))
    return "mine.py"


def test_a_space_that_works_passes_every_check() -> None:
    result = finish(check_space(written(), target=PHONE))
    assert [each["name"] for each in result["checks"]] == list(CHECKS)
    assert result["passed"] and all(each["passed"] for each in result["checks"]), result["checks"]
    assert (result["decisions"], result["size"], result["classes"]) == (1, 3, 3)


def test_one_check_that_fails_fails_the_space_and_the_others_go_on() -> None:
    result = finish(check_space(written("self.conv(x) + torch.randn_like(x)"), target=PHONE))
    assert result["passed"] is False
    assert [each["name"] for each in result["checks"] if not each["passed"]] == ["weights", "export"]
    assert all(bool(each["mend"]) is not each["passed"] for each in result["checks"])


@pytest.mark.parametrize(
    ("forward", "check", "what"),
    [
        ("self.conv(x) / 0", "networks", "not finite"),
        ("self.conv(x) / 0", "supernet", "not finite"),
        ("x + self.conv(x).detach().sqrt().sum() * 0", "networks", "not finite"),
        ("self.conv(x) + torch.randn_like(x)", "weights", "other numbers than the supernet"),
        ("self.conv(x) if x.device.type == 'meta' or x.sum() > 0 else x", "export", "cannot be written as ONNX"),
        ("self.conv(x) + torch.randn_like(x)", "export", "other numbers in onnxruntime"),
    ],
)
def test_a_block_that_does_not_work_is_found(forward: str, check: str, what: str) -> None:
    subject = Subject(find_space(written(forward)), PHONE)
    with pytest.raises(UnasError, match=what):
        CHECKS[check](subject)


@pytest.mark.parametrize(
    ("change", "check", "what"),
    [
        ("terms = made.terms(); made.terms = lambda: terms[:-1]", "terms", "do not name the same operations"),
        ("terms = made.terms(); made.terms = lambda: (*terms, terms[0])", "terms", "runs 1 times and its terms count"),
        (
            "net = made.network; made.network = lambda each: nn.Sequential(nn.Conv2d(1, 1, 1), net(each))",
            "arithmetic",
            "its parts have",
        ),
        (
            "net = made.network; made.network = lambda each: nn.Sequential(net(each), nn.Linear(3, 2))",
            "networks",
            "gives 16x2, not 16x3",
        ),
        (
            "net = made.network; made.network = lambda each: nn.Sequential(net(each), nn.Identity())",
            "weights",
            "do not fit the network",
        ),
    ],
)
def test_a_space_that_contradicts_itself_is_found(change: str, check: str, what: str) -> None:
    subject = Subject(find_space(written(change=change)), PHONE)
    with pytest.raises(UnasError, match=what):
        CHECKS[check](subject)


def test_a_description_that_cannot_be_read_is_a_check_that_failed() -> None:
    Path("mine.yaml").write_text("layers: [cnov]\n")
    result = finish(check_space("mine.yaml"))
    assert result["passed"] is False
    (only,) = result["checks"]
    assert "line 1" in only["what"] and only["mend"] == "did you mean 'conv'?"


def test_the_price_is_that_of_a_table_where_there_is_one(rule: TimingRule) -> None:
    space = find_space(written())
    assert "timed on sim:phone" in CHECKS["latency"](Subject(space, PHONE))
    table = finish(profile(space, open_profiler("sim:phone"), rule=rule, networks=2))
    assert CHECKS["latency"](Subject(space, ANY)).endswith(f"by the table {table.path.stem}")
