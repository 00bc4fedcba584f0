"""What a method is to everything around it: a configuration of its own, and a job from a prepared search to its result.

A method is a folder with ``config.py`` (a ``MethodConfig``), ``search.py`` (the algorithm: no files, no printing) and
``job.py`` (a ``MethodJob``). ``unas_hw.methods.registry`` finds it by name; ``unas_hw.methods.testing`` is what it has
to pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from unas_hw.progress import Job
from unas_hw.settings import check

if TYPE_CHECKING:
    from unas_hw.distribution import ArchitectureDistribution
    from unas_hw.search.prepared import Prepared
    from unas_hw.search.settings import SearchSettings
    from unas_hw.supernet import Supernet


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Hyper-parameters of a method; a subclass is final and has ``unas_hw.settings.setting`` fields.

    ``config.py`` imports no PyTorch: the help of ``unas-hw search`` is made of it.
    """

    section: ClassVar[str]
    """Key under which configuration files have it."""
    needs_budget: ClassVar[bool] = False
    """Whether there has to be a latency budget."""
    shares_weights: ClassVar[bool] = False
    """Whether a supernet is trained on images, whose memory can be bounded."""
    many_processes: ClassVar[bool] = False
    """Whether its job takes part in ``Prepared.ranks``."""
    plays: ClassVar[bool] = False
    """Whether it learns from a task instead of images."""
    has_finals: ClassVar[bool] = False
    """Whether the networks that it finds are trained beside others before one is kept."""
    ends_with: ClassVar[str | None] = None
    """A method that it runs in a part of the space, whose settings it is told too."""

    def suited(self, settings: SearchSettings) -> MethodConfig:
        """With other defaults, where space or task ask for them; what a user says comes after."""
        return self

    def before(self) -> MethodConfig:
        """With the defaults of November 2026, for a run that was begun then."""
        return self

    def check(self) -> None:
        """Raises ``MethodError`` for settings that cannot be."""
        check(self.section, self)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A search as it was published; what a user says comes after.

    Attributes:
        method: Its name.
        space: That it was published for.
        config: All hyper-parameters.
    """

    method: str
    space: str
    config: MethodConfig


class MethodJob(Protocol):
    """The module ``job`` of a method."""

    def refuse(self, settings: SearchSettings) -> None:
        """Raises a ``UnasError`` for what cannot be, before a run is begun."""
        ...

    def search(self, prepared: Prepared) -> Job[dict[str, Any]]:
        """From a prepared search to its result, see ``unas_hw.search.prepared.finish``; resumes by the run's files."""
        ...


class Rehearsed(Protocol):
    """A search whose steps train a supernet, at its begin."""

    @property
    def supernet(self) -> Supernet: ...
    @property
    def distribution(self) -> ArchitectureDistribution: ...
    def rehearse(self) -> Callable[[], None]:
        """A whole step that changes what should not count."""
        ...

    def save(self) -> None:
        """Writes a checkpoint."""
        ...


class DifferentiableJob(MethodJob, Protocol):
    """The module ``job`` of a method that others end with."""

    def images_a_pass(self, settings: SearchSettings) -> int:
        """Of those of a step, how many go through one network."""
        ...

    def begun(self, prepared: Prepared) -> Rehearsed:
        """The search at its begin."""
        ...
