"""A space of 252 networks, a simulated device fast enough to tell them apart, and tables of it, made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latency_tables import calibration
from latency_tables.table import LatencyTable
from profilers.opspec import OpSpec
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from profilers.workload import Workload
from unas_hw.data import Dataset, Split
from unas_hw.jobs.profile import profile
from unas_hw.jobs.search import search
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.ops.mbconv import Classifier, MBConv, conv_bn
from unas_hw.progress import finish
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace, Layer
from unas_hw.verify import artifact
from unas_hw.verify.artifact import Context, open_run

PHONE = "sim:phone?macs_per_ms=2e5&bytes_per_ms=1e6&overhead_ms=0.001&isolation_ms=0"
"""A phone so slow that the small operations of these tests differ by more than its noise of one percent."""
TINY_SPACE = str(Path(__file__).parents[2] / "examples" / "tiny.yaml")
"""192 networks of four decisions for images of 8 pixels: what ``find_space`` opens a fifth as dear as the smallest."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tensors here are tiny: threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)  # tests of calibration may run in the same process
def _no_knees() -> Iterator[None]:
    """A calibration tries all of them, which takes seconds for each table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "KNEES", ())
        yield


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables and runs go to a folder of the test's own."""
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Every test begins with the same random numbers, whichever ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def rule() -> TimingRule:
    """Eight samples of everything, at once."""
    return TimingRule(min_rounds=8, max_rounds=8, min_time_s=0, warmup_s=0, warmup_calls=1)


def _block(shape: tuple[int, ...], out: int, kernel: int, expand: int, stride: int) -> Workload:
    attrs: dict[str, int | float | str] = {"expand": expand, "kernel": kernel, "out": out, "stride": stride}
    build = partial(MBConv, shape[1], out, kernel=kernel, expand=expand, stride=stride)
    return Workload(OpSpec("mbconv", attrs, shape), build)


def _toy_space(name: str = "toy", classes: int = 3) -> ChainSpace:
    stem = Workload(
        OpSpec("conv", {"kernel": 3, "out": 4, "stride": 1}, (1, 1, 8, 8)), partial(conv_bn, 1, 4, kernel=3)
    )
    kept, left = (1, 4, 8, 8), (1, 8, 4, 4)
    kinds = [(kernel, expand) for expand in (3, 6) for kernel in (3, 5, 7)]
    first: dict[str, Workload | None] = {f"k{k}e{e}": _block(kept, 8, k, e, 2) for k, e in kinds}
    second: dict[str, Workload | None] = {"id": None} | {f"k{k}e{e}": _block(left, 8, k, e, 1) for k, e in kinds}
    third: dict[str, Workload | None] = {f"k{k}e{e}": _block(left, 12, k, e, 1) for k, e in kinds}
    classifier = Workload(OpSpec("classifier", {"classes": classes}, (1, 12, 4, 4)), partial(Classifier, 12, classes))
    layers = [
        Layer("stem", {"stem": stem}),
        Layer("first", first),
        Layer("second", second),
        Layer("third", third),
        Layer("classifier", {"classifier": classifier}),
    ]
    return ChainSpace(name, (1, 1, 8, 8), classes, layers)


@pytest.fixture(scope="session")
def space() -> ChainSpace:
    """Three decisions of six, seven and six choices, for images of 8 pixels and three classes."""
    return _toy_space()


@pytest.fixture(scope="session")
def remembered_spaces() -> Callable[..., SearchSpace]:
    """``find_space`` that builds a space once: counting the arithmetic of a new one takes a second."""
    return cache(find_space)


@pytest.fixture(scope="session")
def table_path(space: ChainSpace, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of ``table``."""
    path = tmp_path_factory.mktemp("tables") / "toy.jsonl"
    finish(profile(space, open_profiler(PHONE), path=path, rule=rule, networks=6))
    return path


@pytest.fixture(scope="session")
def table(table_path: Path) -> LatencyTable:
    """Of ``space`` on the simulated phone."""
    return LatencyTable.load(table_path)


@pytest.fixture(scope="session")
def small_table_path(rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of ``mbconv-small`` for the digits, on ``sim:phone``."""
    path = tmp_path_factory.mktemp("tables") / "small.jsonl"
    finish(profile(find_space("mbconv-small"), open_profiler("sim:phone"), path=path, rule=rule, networks=6))
    return path


@pytest.fixture(scope="session")
def tiny_table_path(rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of ``TINY_SPACE`` on ``PHONE``."""
    path = tmp_path_factory.mktemp("tables") / "tiny.jsonl"
    finish(profile(find_space(TINY_SPACE), open_profiler(PHONE), path=path, rule=rule, networks=6))
    return path


@pytest.fixture(scope="session")
def to_repair(npz: Path, small_table_path: Path, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a network was searched."""
    folder = tmp_path_factory.mktemp("to_repair")
    unas = UnasConfig(warmup_epochs=1, epochs=1, finetune_epochs=1, batch_size=24)
    told = SearchSettings(
        finals="none",
        budget="80%",
        dataset=str(npz),
        table=small_table_path,
        run="one",
        config=unas,
        params_budget="10M",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish(search(told, rule))
    return folder


@pytest.fixture
def context(
    to_repair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]
) -> Context:
    """A copy of that run, for one test."""
    monkeypatch.setattr(artifact, "find_space", remembered_spaces)
    shutil.copytree(to_repair / "runs", tmp_path / "runs")
    return open_run(None)


@dataclass(frozen=True)
class Images:
    """Bytes ``(N, 8, 8)`` and labels ``(N,)``: stripes whose direction is the class, in noise."""

    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    labels: np.ndarray[Any, np.dtype[np.int64]]


@pytest.fixture(scope="session")
def images() -> Callable[[int, int], Images]:
    """``(count, classes) -> Images``, always the same."""

    def make(count: int, classes: int) -> Images:
        rng = np.random.default_rng(0)
        labels = np.arange(count, dtype=np.int64) % classes
        angles, phases = np.pi * labels / classes, rng.uniform(0, 2 * np.pi, count)
        rows, columns = np.mgrid[:8, :8]
        along = np.cos(angles)[:, None, None] * rows + np.sin(angles)[:, None, None] * columns
        pixels = 128 + 80 * np.sin(1.6 * along + phases[:, None, None]) + rng.normal(0, 15, (count, 8, 8))
        return Images(pixels.clip(0, 255).astype(np.uint8), labels)

    return make


@pytest.fixture(scope="session")
def data(images: Callable[[int, int], Images]) -> Dataset:
    """48 training, 24 validation and 24 test images of three classes."""
    made = images(96, 3)
    pixels = torch.from_numpy(made.pixels).float()[:, None] / 255
    x, y = (pixels - pixels.mean()) / pixels.std(), torch.from_numpy(made.labels)
    train, valid, test = (Split(x[begin:end], y[begin:end]) for begin, end in ((0, 48), (48, 72), (72, 96)))
    return Dataset("stripes", 3, train, valid, test, pixels.mean().view(1, 1, 1), pixels.std().view(1, 1, 1))


@pytest.fixture(scope="session")
def npz(images: Callable[[int, int], Images], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty images of ten classes as a file: 48 to train, 16 to validate, 16 to test."""
    made = images(80, 10)
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(path, images=made.pixels, labels=made.labels)
    return path
