"""What the tests of searches share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from profilers.timing import TimingRule
from unas_hw.jobs.search import search
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.progress import Step
from unas_hw.search.settings import SearchSettings

UNTRAINED = UnasConfig(warmup_epochs=0, epochs=0, finetune_epochs=0)
"""Nothing is learnt: for what a search does around the learning."""


def until(settings: SearchSettings, rule: TimingRule, wanted: Callable[[Step], bool]) -> list[Step]:
    """The steps of a search up to the wanted one; it is then killed."""
    job, seen = search(settings, rule), list[Step]()
    for step in job:
        seen.append(step)
        if wanted(step):
            job.close()
            return seen
    pytest.fail(f"not seen in {seen}")
