"""Errors that a user of the search can cause.

UnasError
├── UnknownSpaceError         no search space of that name
├── SpaceError                a space of the user's own that cannot be read or built
├── ArchitectureError         an architecture that the space does not have, or cannot be read
├── BudgetError               a budget that cannot be read
├── MemoryBudgetError         a memory budget that no way of running a step keeps
├── DataError                 a data set that is not there or not of the expected form
├── AugmentationError         an augmentation that cannot be read
├── RecipeError               a recipe of training that is not there or cannot be
├── RunError                  a run folder that is missing, foreign or damaged
├── ConfigurationError        a configuration file that cannot be read, or settings that do not exist
├── MethodError               no method of that name, or with settings that contradict each other
├── ChildError                a network that a search could not have trained
├── TaskError                a task that no library has, or that is no task for a network of images
├── EstimatorError            an estimator that cannot work with these objectives
├── PruningError              a network that cannot be pruned, or not like that
└── ExportError               a format or an artifact that cannot be written or read
"""

from __future__ import annotations

from profilers.errors import UnasError as UnasError


class UnknownSpaceError(UnasError, LookupError):
    """No search space has that name."""

    misuse = True


class SpaceError(UnasError, ValueError):
    """A space of the user's own, described or programmed, that cannot be read or built."""

    misuse = True


class ArchitectureError(UnasError, ValueError):
    """An architecture that does not belong to the space, or a file that holds none."""

    misuse = True


class BudgetError(UnasError, ValueError):
    """A budget that cannot be read."""

    misuse = True


class MemoryBudgetError(UnasError):
    """No way of running a step keeps the memory budget, or nothing here tells."""


class DataError(UnasError):
    """A data set that is not there or does not have the expected form."""


class AugmentationError(UnasError, ValueError):
    """An augmentation that cannot be read."""

    misuse = True


class RecipeError(UnasError, ValueError):
    """No recipe of training has that name, or one cannot have such a value."""

    misuse = True


class RunError(UnasError):
    """A run folder that is missing, was made with other settings, or is damaged."""


class ConfigurationError(UnasError, ValueError):
    """A configuration file that cannot be read, an unknown setting, or a value of another type."""

    misuse = True


class MethodError(UnasError, LookupError):
    """No method has that name, or its settings contradict each other."""

    misuse = True


class ChildError(UnasError):
    """A network of a search that could not be trained where it was to be, or workers that are not there."""


class TaskError(UnasError, LookupError):
    """No environment has that name, or it shows no images, or takes other than one of a few actions."""

    misuse = True


class EstimatorError(UnasError, LookupError):
    """No estimator has that name, or it cannot work with these objectives."""

    misuse = True


class PruningError(UnasError, ValueError):
    """A network that cannot be traced or has nothing to leave out, or masks that leave nothing."""

    misuse = True


class ExportError(UnasError):
    """A format or an artifact that cannot be written or read."""
