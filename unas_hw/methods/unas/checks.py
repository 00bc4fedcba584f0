"""Settings that cannot work together are refused before a search begins."""

from __future__ import annotations

from profilers.units import format_ms
from unas_hw.data import Dataset
from unas_hw.distributed import Ranks
from unas_hw.errors import MethodError
from unas_hw.latency_model import LatencyModel
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.objectives.forms import FORMS, MICROSECOND, has_logarithm


def check(config: UnasConfig, model: LatencyModel, data: Dataset, budget_ms: float, ranks: Ranks) -> None:
    """Raises ``MethodError`` if the form of the latency, the images or the processes do not go with the settings."""
    config.check()
    count, form = config.architectures, config.budget_form
    if form not in FORMS:
        raise MethodError(f"no form of the latency is called {form!r}", mend=f"choose one of {', '.join(FORMS)}")
    shortest_ms = min(budget_ms, model.latency_ms(model.smallest))
    if has_logarithm(form) and shortest_ms <= MICROSECOND:
        raise MethodError(
            f"the form {form!r} takes logarithms of times, which have no meaning at {format_ms(shortest_ms)}",
            mend="use --budget-form hinge, or --budget-form mnasnet",
        )
    if config.batch_size < count or len(data.valid) < count:
        raise MethodError(
            f"{count} architectures a step share {min(config.batch_size, len(data.valid))} images",
            mend=f"add --batch-size {4 * count}, or draw fewer architectures",
        )
    if count % ranks.world:
        raise MethodError(
            f"{count} architectures a step cannot be shared among {ranks.world} processes",
            mend=f"add --architectures {ranks.world * -(-count // ranks.world)}",
        )
