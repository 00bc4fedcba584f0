"""Accuracies of networks that somebody has trained, from a table."""

from __future__ import annotations

import math
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from profilers.files import explained
from unas_hw.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

ARCHITECTURES, ACCURACY = ("arch", "architecture"), "accuracy"


def read_accuracies(name: str, column: str | None = None) -> dict[str, float]:
    """Accuracies by architecture, as the file writes it.

    Args:
        name: A CSV or Parquet file with a column ``arch`` or ``architecture`` and one of accuracies.
        column: Of the accuracies; ``accuracy`` by default, or the only one there is.

    Raises:
        DataError: If that is no such table.
        FileError: If it cannot be read.
    """
    import pandas as pd

    path = Path(name)
    read = pd.read_parquet if path.suffix in (".parquet", ".pq") else pd.read_csv
    with explained(path):
        if not path.is_file():
            raise FileNotFoundError(2, "No such file or directory", name)
        try:
            rows = read(path)
        except (ValueError, UnicodeDecodeError) as error:  # what pandas and pyarrow raise is one of these
            what = next(iter(str(error).splitlines()), "")
            raise DataError(f"{name} is no table: {what}", mend="give a .csv or .parquet file") from error
    key = next((each for each in ARCHITECTURES if each in rows), None)
    if key is None:
        raise DataError(
            f"{name} has no column of architectures, only {', '.join(map(str, rows.columns))}",
            mend=f"call one of them {ARCHITECTURES[0]}",
        )
    values = rows[_column(name, rows, column)]
    known = dict(zip(rows[key].astype(str), values.astype(float), strict=True))
    if not known or not all(map(math.isfinite, known.values())):
        raise DataError(f"{name} has no number for every architecture", mend="remove the rows without")
    return known


def _column(name: str, rows: pd.DataFrame, column: str | None) -> str:
    numbers = [str(each) for each in rows.select_dtypes("number").columns]
    if column in numbers:
        return str(column)
    if column is None and (ACCURACY in numbers or len(numbers) == 1):
        return ACCURACY if ACCURACY in numbers else numbers[0]
    near = get_close_matches(column or ACCURACY, numbers)
    raise DataError(
        f"{name} has no column of numbers {column!r}" if column else f"{name} does not say which are the accuracies",
        mend=f"add --column {near[0]}"
        if near
        else f"add --column NAME, one of {', '.join(numbers) or 'those to come'}",
    )
