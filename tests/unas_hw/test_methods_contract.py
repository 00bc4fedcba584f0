"""Every method keeps the contract: ours, and one that another distribution brings, without a line changed here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unas_hw import small_residual
from unas_hw.errors import MethodError
from unas_hw.methods import registry
from unas_hw.methods.pruning.config import METHOD, PruneConfig, prune_settings_of
from unas_hw.methods.pruning.job import prune
from unas_hw.methods.registry import BUILTIN, find_method, methods, sections
from unas_hw.methods.testing import DEVICE, RULE, SPACE, MethodContract
from unas_hw.progress import Job
from unas_hw.search.method import MethodConfig

PACKAGE = Path(__file__).parent / "method_of_others"
SHORT = {"warmup_epochs": 1, "epochs": 2, "batch_size": 256, "measure_every": 2, "unas": {"finetune_epochs": 1}}


class TestUnas(MethodContract):
    method = "unas"
    quick = SHORT


class TestFreenas(MethodContract):
    method = "freenas"
    quick: ClassVar[Mapping[str, Any]] = {"freenas": {"iterative": True}}


class TestMonas(MethodContract):
    method = "monas"
    quick: ClassVar[Mapping[str, Any]] = {"children": 6, "accuracies": "known.csv", "monas": {"batch": 2}}

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        found = tmp_path_factory.mktemp("monas")
        (found / "contract.yaml").write_text(SPACE)
        names = [",".join(each) for each in product(("k3e3", "k5e6", "res"), repeat=2)]
        (found / "known.csv").write_text("arch,accuracy\n" + "".join(f'"{n}",{0.5 + 0.01 * len(n)}\n' for n in names))
        return found


@pytest.mark.slow
class TestRadars(MethodContract):
    method = "radars"
    quick: ClassVar[Mapping[str, Any]] = {"memory_budget": "8GB", **SHORT}


@pytest.mark.slow
class TestRlDarts(MethodContract):
    method = "rl_darts"
    begin: ClassVar[Mapping[str, Any]] = {"task": "minatar:breakout", "budget": "60%"}
    quick: ClassVar[Mapping[str, Any]] = {
        "steps": 192,
        "rl_darts": {"environments": 4, "horizon": 16, "passes": 1, "minibatch": 64},
    }


@pytest.mark.slow
class TestPruning(MethodContract):
    method = METHOD

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        found = tmp_path_factory.mktemp("pruning")
        (found / "net.py").write_text(Path(small_residual.__file__).read_text())
        return found

    @classmethod
    def config(cls) -> MethodConfig:
        return PruneConfig()

    @classmethod
    def job(cls, run: str) -> Job[dict[str, Any]]:
        short = {"resample_every": 2, "finetune_epochs": 1, "multiple": 1}
        told = {"epochs": 2, "batch_size": 256, METHOD: short}
        return prune(prune_settings_of("net.py", budget="60%", device=DEVICE, run=run, **told), RULE)

    def test_settings_outside_their_limits_are_refused(self) -> None:
        with pytest.raises(MethodError) as caught:
            PruneConfig(ramp=2.0)
        assert caught.value.mend == "--set prune.ramp=0; it may be 0 to 1"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a package that was really installed, outside the environment."""
    target = tmp_path_factory.mktemp("site")
    words = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target, _copied(tmp_path_factory))
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return target


def _copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Building leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("source") / "package"
    for path in PACKAGE.rglob("*.[pt]*"):
        (copy / path.relative_to(PACKAGE)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(PACKAGE)).write_text(path.read_text())
    return copy


class TestMethodOfOthers(MethodContract):
    method = "largest"
    quick: ClassVar[Mapping[str, Any]] = {"tries": 6}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _found(cls, installed: Path) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(installed))
            _forget()
            yield
        _forget()

    def test_it_is_one_of_the_methods_and_ours_stay_what_they_are(self) -> None:
        assert methods().keys() == {*BUILTIN, "largest"}
        assert "largest" in sections()
        with pytest.raises(MethodError) as caught:
            find_method("larges")
        assert caught.value.mend == "did you mean 'largest'?"


def _forget() -> None:
    registry.methods.cache_clear()
    registry.sections.cache_clear()


def test_a_method_of_others_is_searched_with_by_the_command_line(installed: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}:{installed}", "UNAS_HW_HOME": str(tmp_path / "home")}
    (tmp_path / "contract.yaml").write_text(SPACE)
    (tmp_path / "told.yaml").write_text("latency-budget: 60%\nmethod: largest\nlargest:\n  size: params\n")

    def unas_hw(*words: str) -> str:
        program = [sys.executable, "-m", "cli.main", *words]
        found = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        return found.stdout

    shown = unas_hw("search", "--help")
    assert re.search(r"--method largest +--tries N", shown)
    words = ("--space", "contract.yaml", "--device", "sim:phone", "--tries", "5", "--rounds", "4", "--run", "one")
    result = json.loads(unas_hw("search", "--config", "told.yaml", *words, "--json"))
    assert result["drawn"] == 5 and result["feasible"]
    told = json.loads((tmp_path / "runs" / "one" / "config.json").read_text())
    assert told["method"] == "largest" and told["largest"] == {"tries": 5, "size": "params"}
