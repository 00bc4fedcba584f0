"""Where what is kept lies."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder of tables and caches; ``UNAS_HW_HOME`` moves it."""
    return Path(os.environ.get("UNAS_HW_HOME") or platformdirs.user_data_dir("unas-hw"))
