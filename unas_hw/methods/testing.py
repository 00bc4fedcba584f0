"""The contract of every method, as tests: subclass ``MethodContract`` and say which.

::

    class TestMine(MethodContract):
        method = "mine"
        quick = {"mine": {"rounds": 2}}  # settings with which a search ends in seconds
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from profilers.timing import TimingRule
from unas_hw.errors import MethodError
from unas_hw.jobs.search import search
from unas_hw.methods.registry import find_method
from unas_hw.methods.settings import settings_of
from unas_hw.progress import Job, Step, finish
from unas_hw.runs import Run
from unas_hw.search.method import MethodConfig
from unas_hw.search.run_folder import ARCHITECTURE, RESULT
from unas_hw.settings import settings_in

RULE = TimingRule(min_rounds=8, max_rounds=8, min_time_s=0, warmup_s=0, warmup_calls=1)
DEVICE = "sim:phone?macs_per_ms=2e5&bytes_per_ms=1e6&overhead_ms=0.001&isolation_ms=0&noise=0"
"""So slow that small operations differ; without noise, which would differ after a stop."""
SPACE = """
name: contract
input: [1, 8, 8]
classes: 10
layers:
  - conv: {out: 8, kernel: 3}
  - choice:
      name: stage
      repeat: 2
      out: 16
      stride: 2
      among:
        k3e3: {mbconv: {kernel: 3, expand: 3}}
        k5e6: {mbconv: {kernel: 5, expand: 6}}
        res: residual
  - classifier
"""
KEYS = {
    "run", "space", "architecture", "table", "device", "budget", "budget_ms", "predicted_ms", "measured_ms",
    "feasible", "valid_accuracy", "seconds",
}  # fmt: skip
"""Of every result: docs/json.md."""
CHANGING = ("seconds", "_s", "_bytes", "run", "table")
"""Ends of the keys that differ between results that are the same: time, memory, places."""


class MethodContract:
    """What every method promises, built-in or yours."""

    method: ClassVar[str]
    quick: ClassVar[Mapping[str, Any]] = {}
    begin: ClassVar[Mapping[str, Any]] = {"space": "contract.yaml", "budget": "60%"}

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Where the method's searches are."""
        found = tmp_path_factory.mktemp("contract")
        (found / "contract.yaml").write_text(SPACE)
        return found

    @pytest.fixture(autouse=True)
    def _there(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("UNAS_HW_HOME", str(folder / "home"))

    @classmethod
    def config(cls) -> MethodConfig:
        """The method's defaults."""
        return find_method(cls.method).config()

    @classmethod
    def job(cls, run: str) -> Job[dict[str, Any]]:
        """A search by this method in a run of that name; nothing is done before the first step is asked for."""
        told = {"method": cls.method, "device": DEVICE, "run": run, "finals": "none", **cls.begin, **cls.quick}
        settings = settings_of(**told)
        return search(settings, RULE)

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, folder: Path) -> tuple[list[Step], dict[str, Any]]:
        """The steps and the result of an undisturbed search."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("UNAS_HW_HOME", str(folder / "home"))
            finish(cls.job("first"))  # there is a table now
            job, steps = cls.job("whole"), list[Step]()
            while True:
                try:
                    steps.append(next(job))
                except StopIteration as end:
                    return steps, end.value

    def test_the_budget_is_kept_as_measured(self, whole: tuple[list[Step], dict[str, Any]]) -> None:
        result = whole[1]
        assert result["feasible"]
        assert 0 < result["measured_ms"] <= result["budget_ms"]

    def test_the_result_has_the_keys_of_all_searches(self, whole: tuple[list[Step], dict[str, Any]]) -> None:
        result = whole[1]
        run = Run.find("whole")
        assert result.keys() >= KEYS
        assert run.read_json(RESULT) == result
        assert (run.path / ARCHITECTURE).is_file() and (run.path / "weights.safetensors").is_file()

    def test_progress_is_told_and_never_beyond_its_end(self, whole: tuple[list[Step], dict[str, Any]]) -> None:
        steps = whole[0]
        assert any(step.done for step in steps)
        assert all(0 <= step.done <= step.total for step in steps)

    def test_a_finished_search_is_not_done_again(self, whole: tuple[list[Step], dict[str, Any]]) -> None:
        before = {path: path.stat().st_mtime_ns for path in Path("runs/whole").rglob("*.safetensors")}
        assert finish(self.job("whole")) == whole[1]
        assert before == {path: path.stat().st_mtime_ns for path in Path("runs/whole").rglob("*.safetensors")}

    @pytest.mark.parametrize("share", [0.3, 0.8])
    def test_a_search_that_was_stopped_goes_on_bit_for_bit(
        self, whole: tuple[list[Step], dict[str, Any]], share: float
    ) -> None:
        name, (steps, result) = f"stopped-{share:.0%}".replace("%", ""), whole
        job = self.job(name)
        for _ in range(max(1, round(share * len(steps)))):
            next(job)
        job.close()
        again = finish(self.job(name))
        first, second = ({k: v for k, v in each.items() if not k.endswith(CHANGING)} for each in (result, again))
        assert not {name: (first[name], second.get(name)) for name in first if first[name] != second.get(name)}
        weights = [Path("runs", each, "weights.safetensors").read_bytes() for each in ("whole", name)]
        assert weights[0] == weights[1]

    def test_settings_outside_their_limits_are_refused(self) -> None:
        config = self.config()
        for name, _, known in settings_in(config):
            for limit, beyond in ((known.low, known.low - 1), (known.high, known.high + 1)):
                if abs(limit) != float("inf"):
                    with pytest.raises(MethodError, match=name):
                        replace(config, **{name: beyond}).check()

    def test_every_setting_says_what_it_means(self) -> None:
        settings = list(settings_in(self.config()))
        assert all(known.help.strip() for _, _, known in settings)

    def test_help_needs_no_pytorch(self) -> None:
        module = type(self.config()).__module__
        found = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; import {module}; print(*sys.modules)"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "torch" not in found.stdout.split()
