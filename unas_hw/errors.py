"""Errors that a user of the search can cause.

UnasError
├── UnknownSpaceError         no search space of that name
├── ArchitectureError         an architecture that the space does not have, or cannot be read
├── BudgetError               a budget that cannot be read
├── DataError                 a data set that is not there or not of the expected form
├── RunError                  a run folder that is missing, foreign or damaged
├── EstimatorError            an estimator that cannot work with these objectives
└── ExportError               a format or an artifact that cannot be written or read
"""

from __future__ import annotations

from profilers.errors import UnasError


class UnknownSpaceError(UnasError, LookupError):
    """No search space has that name."""

    misuse = True


class ArchitectureError(UnasError, ValueError):
    """An architecture that does not belong to the space, or a file that holds none."""

    misuse = True


class BudgetError(UnasError, ValueError):
    """A budget that cannot be read."""

    misuse = True


class DataError(UnasError):
    """A data set that is not there or does not have the expected form."""


class RunError(UnasError):
    """A run folder that is missing, was made with other settings, or is damaged."""


class EstimatorError(UnasError, LookupError):
    """No estimator has that name, or it cannot work with these objectives."""

    misuse = True


class ExportError(UnasError):
    """A format or an artifact that cannot be written or read."""
