"""The bar of a job, in a terminal or a notebook: the one place of this package that writes to a screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast, final

from profilers.text import one_line, visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from unas_hw.progress import Step

QUIET_S = 1.5
"""A stage that has not reported for so long is over, and its bar goes."""
REDRAWN_S = 0.2
"""Between two drawings in a notebook."""
NOTES = 12
"""Lines that a notebook keeps under its bar; a terminal scrolls."""


@contextmanager
def bar(wanted: bool | None) -> Iterator[Callable[[Step], None]]:
    """What shows a step; of several devices each has its own bar.

    Args:
        wanted: False for none. None for one where somebody looks on: in a terminal, on standard error, or a notebook.
            True for one in any case; where standard error is no terminal, it is lines.
    """
    if wanted is False:
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich would end the process in the middle of the job, and with 1

    # By name, so that older versions of rich ask it for its encoding, too.
    console = Screen(file=sys.stderr, stderr=True, highlight=False)
    console.width = console.width or 80  # COLUMNS=0, which some remote terminals say, would show nothing
    draws = console.is_terminal and not console.is_dumb_terminal
    if wanted is None and not console.is_terminal and not console.is_jupyter:
        yield lambda step: None
        return
    stage = TextColumn("{task.description:<38}", markup=False)
    columns = (stage, BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Progress(*columns, console=console, transient=True)
    stages = _Stages(bars)
    if console.is_jupyter:
        with _notebook(stages) as show:
            yield show
        return

    def show_line(step: Step) -> None:
        if step.note:
            console.print(visible(step.note), markup=False, soft_wrap=True)
        if step.stage not in stages.reported and not draws:
            console.print(f"{one_line(step.stage)} ...", markup=False, soft_wrap=True)
        stages.show(step)

    with bars:
        yield show_line


@final
class _Stages:
    """The bars, one for each stage that has reported lately.

    Attributes:
        bars: Where they are drawn.
        reported: When each stage reported last.
    """

    def __init__(self, bars: Progress) -> None:
        self.bars, self.reported = bars, dict[str, float]()
        self._shown: dict[str, TaskID] = {}

    def show(self, step: Step) -> None:
        """Moves the bar of the step's stage."""
        now = self.reported[step.stage] = time.monotonic()
        if step.stage not in self._shown:
            self._shown[step.stage] = self.bars.add_task(one_line(step.stage), total=step.total)
        self.bars.update(self._shown[step.stage], completed=step.done, total=step.total)
        for stage in [each for each in self._shown if self.reported[each] < now - QUIET_S]:
            self.bars.remove_task(self._shown.pop(stage))


@contextmanager
def _notebook(stages: _Stages) -> Iterator[Callable[[Step], None]]:
    """Redraws one output of the cell; at the end only the notes are left. Rich itself would need ipywidgets for it."""
    from IPython import display
    from rich.table import Table
    from rich.text import Text

    notes, drawn = list[str](), 0.0
    handle: Any = cast(Any, display).DisplayHandle()  # untyped

    def drawing(*below: Progress) -> Table:
        grid = Table.grid()
        for note in notes[-NOTES:]:
            grid.add_row(Text(note))
        for bars in below:
            grid.add_row(bars)
        return grid

    def show(step: Step) -> None:
        nonlocal drawn
        stages.show(step)
        notes.extend([step.note] if step.note else [])
        if time.monotonic() - drawn > REDRAWN_S:
            handle.update(drawing(stages.bars))
            drawn = time.monotonic()

    handle.display(drawing(stages.bars))
    try:
        yield show
    finally:
        handle.update(drawing())
