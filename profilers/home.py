"""Where what is kept lies."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import platformdirs

from profilers.errors import FileError


def home() -> Path:
    """The folder of tables and caches; ``UNAS_HW_HOME`` moves it. Raises ``FileError`` where nothing names one."""
    with contextlib.suppress(RuntimeError):  # newer platformdirs; older ones leave the ~ as it is
        path = os.path.expanduser(os.environ.get("UNAS_HW_HOME") or platformdirs.user_data_dir("unas-hw"))
        if not path.startswith("~"):
            return Path(path)
    raise FileError("this user has no home folder", mend="say where tables and caches go: export UNAS_HW_HOME=FOLDER")
