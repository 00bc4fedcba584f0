"""What a search minimises: task loss with generalization gap, and the excess over budgets."""

from unas_hw.objectives.base import ObjectiveTerm
from unas_hw.objectives.latency import LatencyExcess
from unas_hw.objectives.task import Gap, LossOn, TaskLoss

__all__ = ["Gap", "LatencyExcess", "LossOn", "ObjectiveTerm", "TaskLoss"]
