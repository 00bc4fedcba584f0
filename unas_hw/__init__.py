"""Search for networks that meet a latency on a device.

    import unas_hw

    table = unas_hw.profile("mbconv-small", device="cpu")
    found = unas_hw.search(table, budget="50%", dataset="digits")
    file = found.export("onnx")
    print(found.architecture, found.latency, file.verdict)

Nothing is loaded before it is used. The functions are the commands of ``unas-hw``, with the same names and defaults.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unas_hw import errors
    from unas_hw.api.found import Exported, Found, evaluate, export, load_run, train, verify
    from unas_hw.api.results import Evaluated, Front, Latency, Predicted, Trained
    from unas_hw.api.running import Callback
    from unas_hw.api.search import prune, search, spaces
    from unas_hw.api.tables import Table, load_table, predict, profile
    from unas_hw.budget import Budget
    from unas_hw.progress import Step
    from unas_hw.space import Architecture, SearchSpace
    from unas_hw.spaces import find_space

__all__ = [
    "Architecture", "Budget", "Callback", "Evaluated", "Exported", "Found", "Front", "Latency", "Predicted",
    "SearchSpace", "Step", "Table", "Trained", "errors", "evaluate", "export", "find_space", "load_run", "load_table",
    "predict", "profile", "prune", "search", "spaces", "train", "verify",
]  # fmt: skip
_HOMES = {
    "api.found": "Exported Found evaluate export load_run train verify",
    "api.results": "Evaluated Front Latency Predicted Trained",
    "api.running": "Callback",
    "api.search": "prune search spaces",
    "api.tables": "Table load_table predict profile",
    "budget": "Budget",
    "progress": "Step",
    "space": "Architecture SearchSpace",
    "spaces": "find_space",
}
_HOME = {name: f"unas_hw.{module}" for module, names in _HOMES.items() for name in names.split()}


class _Package(ModuleType):
    """Four of the functions are called as a room of the package is; the import of a room does not take their names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


if not TYPE_CHECKING:  # which would take it for leave to use any name

    def __getattr__(name: str) -> Any:
        if name == "errors":
            return import_module("unas_hw.errors")
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_HOME[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
