"""Accuracies of networks that somebody has trained, from a table; of several trainings of one network their mean."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from profilers.files import explained
from unas_hw.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

ARCHITECTURES, ACCURACY = ("arch", "architecture"), "accuracy"
PACKED = (".parquet", ".pq")
SEEDS = ("seed", "run", "trial", "rep", "repeat", "repetition", "replica", "fold", "iteration")
"""Columns in which rows of one network may differ without being of different trainings."""
FEW = 0.05
"""Share of the rows up to which accuracies on the other side of 1 may be what they seem."""
Network = TypeVar("Network", bound=Hashable)


@final
@dataclass(frozen=True)
class Accuracies(Generic[Network]):
    """Of each network the mean of its rows.

    Attributes:
        mean: By network.
        rows: How many there are.
        several: Networks that have more than one.
        sd: Standard deviation of the rows of one network, pooled; NaN where no network has several.
    """

    mean: dict[Network, float]
    rows: int
    several: int
    sd: float

    @property
    def words(self) -> str:
        """What to tell of several rows a network; empty where there is one each."""
        if not self.several:
            return ""
        return (
            f"{self.several} of {len(self.mean)} networks have several of the {self.rows} rows: their means count, "
            f"their standard deviation is {self.sd:.3g}"
        )


def averaged(rows: Iterable[tuple[Network, float]]) -> Accuracies[Network]:
    """Means over the rows of each network, in the order in which networks are first seen."""
    found: dict[Network, list[float]] = {}
    for network, accuracy in rows:
        found.setdefault(network, []).append(accuracy)
    squares = sum(float(np.var(each)) * len(each) for each in found.values())
    count = sum(map(len, found.values()))
    spare = count - len(found)
    return Accuracies(
        mean={network: float(np.mean(each)) for network, each in found.items()},
        rows=count,
        several=sum(len(each) > 1 for each in found.values()),
        sd=math.sqrt(squares / spare) if spare else math.nan,
    )


def read_accuracies(name: str, column: str | None = None) -> list[tuple[str, float]]:
    """Architectures, as the file writes them, and accuracies, row by row.

    Args:
        name: A CSV or Parquet file with a column ``arch`` or ``architecture`` and one of accuracies.
        column: Of the accuracies; ``accuracy`` by default, or the only one there is.

    Raises:
        DataError: If that is no such table, mixes shares with percent, or has rows of one network that differ in more
            than the seed.
        FileError: If it cannot be read.
    """
    rows = _read(name)
    key = next((each for each in ARCHITECTURES if each in rows), None)
    if key is None:
        raise DataError(
            f"{name} has no column of architectures, only {', '.join(map(str, rows.columns))}",
            mend="part columns by commas, and decimals by points"
            if ";" in str(rows.columns[0])
            else f"call one of them {ARCHITECTURES[0]}",
        )
    packed = Path(name).suffix in PACKED
    if not packed and (rows.index.nlevels > 1 or rows.index.dtype.kind not in "iu"):  # pandas takes them for names
        raise DataError(
            f"{name} has rows of more cells than its first line", mend='put architectures in quotes: "k3e3,id,k5e6"'
        )
    theirs = _column(name, rows, column)
    networks, values = rows[key].astype(str), rows[theirs].astype(float)
    if not len(values) or not all(map(math.isfinite, values)):
        raise DataError(f"{name} has no number for every architecture", mend="remove the rows without")
    _refuse_mixture(name, np.array(values.tolist(), np.float64))
    _refuse_conditions(name, rows.drop(columns=[key, theirs]), networks)
    return list(zip(networks, values.tolist(), strict=True))


def _read(name: str) -> pd.DataFrame:
    import pandas as pd

    path = Path(name)
    packed = path.suffix in PACKED
    read: Callable[[Path], pd.DataFrame] = pd.read_parquet if packed else pd.read_csv
    with explained(path):
        if not path.is_file():
            raise FileNotFoundError(2, "No such file or directory", name)
        try:
            rows = read(path)
            first = [] if packed else next(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
        except (ValueError, UnicodeDecodeError, StopIteration) as error:  # pandas and pyarrow raise one of these
            what = next(iter(str(error).splitlines()), "it has no line")
            raise DataError(f"{name} is no table: {what}", mend="give a .csv or .parquet file") from error
    if twice := next((each for each in first if first.count(each) > 1), None):
        raise DataError(f"{name} has {first.count(twice)} columns called {twice!r}", mend="rename one of them")
    return rows


def _refuse_mixture(name: str, values: NDArray[np.float64]) -> None:
    """Shares among percent: those up to 1 that would, as percent, lie among the others."""
    shares, percent = values[values <= 1], values[values > 1]
    if min(len(shares), len(percent)) <= FEW * len(values):
        return
    if percent.min() <= np.median(shares) * 100 <= percent.max():
        raise DataError(
            f"{name} has {len(shares)} accuracies up to 1, such as {np.median(shares):g}, and {len(percent)} above, "
            f"such as {np.median(percent):g}",
            mend="write all of them in percent, or all as shares",
        )


def _refuse_conditions(name: str, others: pd.DataFrame, networks: pd.Series[str]) -> None:
    """Rows of one network that differ in words or whole numbers, such as the data set or the epochs."""
    for column in others.columns:
        values = others[column]
        if str(column).lower() in SEEDS or values.dtype.kind == "f" or values.is_unique:
            continue
        counts = values.groupby(networks).nunique(dropna=False)
        if counts.max() > 1:
            network = counts.idxmax()
            seen = list(dict.fromkeys(map(str, values[networks == network])))
            raise DataError(
                f"{name} has rows of {network!r} with {column} {seen[0]} and {seen[1]}",
                mend=f"keep the rows of one {column}, or call the column seed if that is what it is",
            )


def _column(name: str, rows: pd.DataFrame, column: str | None) -> str:
    numbers = [str(each) for each in rows.select_dtypes("number").columns]
    if column in numbers:
        return str(column)
    numbers = [each for each in numbers if each.lower() not in SEEDS] if column is None else numbers
    if column is None and (ACCURACY in numbers or len(numbers) == 1):
        return ACCURACY if ACCURACY in numbers else numbers[0]
    near = get_close_matches(column or ACCURACY, numbers)
    raise DataError(
        f"{name} has no column of numbers {column!r}" if column else f"{name} does not say which are the accuracies",
        mend=f"add --column {near[0]}"
        if near
        else f"add --column NAME, one of {', '.join(numbers) or 'those to come'}",
    )
