"""The contract of every importer, as tests: subclass ``ImporterContract``, give two fixtures.

::

    class TestMyFormat(ImporterContract):
        @pytest.fixture
        def importer(self):
            return MyFormat()

        @pytest.fixture
        def example(self):
            return Example(Path("small.csv").read_text(), rows=2, unit="us")
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from latency_tables.importers.base import Importer, Source
from profilers.errors import UnasError, UnitError
from profilers.opspec import OpSpec
from profilers.units import UNITS

STRANGERS = ("", "\n", "{}", "[]", "\x80\x04\x95", "<html></html>", "a: b", "1", "\x00")
INSTEAD = ("nan", "-1.5", "0", "inf", "1e999", '"x"', "null", "", "[", "*alias", "9" * 400)
_NUMBER = re.compile(r"(?<![\w.])\d+\.\d+")
_WHERE = Path("example")


@dataclass(frozen=True)
class Example:
    """A file of the format.

    Attributes:
        text: All of it, with at least one latency that has a decimal point.
        rows: How many there are.
        unit: That the file has to be told; None where it says so itself.
    """

    text: str
    rows: int
    unit: str | None = None

    def source(self, text: str | None = None) -> Source:
        """As an importer gets it; another text in its place."""
        return Source(path=_WHERE, text=self.text if text is None else text, unit=self.unit)


class ImporterContract:
    """What every importer promises, built-in or yours."""

    @pytest.fixture
    def importer(self) -> Importer:
        """The importer under test."""
        pytest.fail("give the importer under test as a fixture called `importer`")

    @pytest.fixture
    def example(self) -> Example:
        """A file of its format."""
        pytest.fail("give a file of the format as a fixture called `example`")

    def test_its_own_files_are_recognised(self, importer: Importer, example: Example) -> None:
        assert importer.recognises(example.source())

    @pytest.mark.parametrize("text", STRANGERS)
    def test_others_are_not_and_reading_them_is_refused(self, importer: Importer, example: Example, text: str) -> None:
        assert not importer.recognises(example.source(text))
        with pytest.raises(UnasError):
            importer.values(example.source(text))

    def test_every_row_is_kept_under_a_key_of_its_own(self, importer: Importer, example: Example) -> None:
        values = importer.values(example.source())
        assert len(values) == len({value.key for value in values}) == example.rows
        for value in values:
            assert OpSpec.from_key(value.key).key == value.key
            assert 0 < value.ms < math.inf
            assert math.isnan(value.sd_ms) or value.sd_ms >= 0
            assert value.source

    def test_the_unit_is_said_by_the_file_or_asked_for(self, importer: Importer, example: Example) -> None:
        untold = Source(path=_WHERE, text=example.text)
        if example.unit is None:
            assert importer.unit(untold) in UNITS
        else:
            assert importer.unit(untold) is None
            with pytest.raises(UnitError, match="--unit"):
                importer.values(untold)

    def test_a_unit_changes_nothing_but_the_scale(self, importer: Importer, example: Example) -> None:
        if example.unit is None:
            other = next(unit for unit in UNITS if unit != importer.unit(example.source()))
            with pytest.raises(UnitError, match=str(_WHERE)):
                importer.values(Source(path=_WHERE, text=example.text, unit=other))
            return
        ms, us = (importer.values(Source(path=_WHERE, text=example.text, unit=unit)) for unit in ("ms", "us"))
        assert [value.key for value in ms] == [value.key for value in us]
        assert [value.ms / 1000 for value in ms] == [value.ms for value in us]

    def test_a_file_cut_off_or_garbled_gives_rows_or_our_error(self, importer: Importer, example: Example) -> None:
        text = example.text
        cuts = [text[:place] for place in range(0, len(text), max(1, len(text) // 40))]
        numbers = list(_NUMBER.finditer(text))
        garbled = [text[: n.start()] + word + text[n.end() :] for n in numbers[:20] for word in INSTEAD]
        assert garbled, "the example has no latency with a decimal point"
        for broken in (*cuts, *garbled):
            try:
                values = importer.values(example.source(broken))
            except UnasError:
                continue
            assert all(0 < value.ms < math.inf for value in values)

    @pytest.mark.parametrize("word", ["nan", "-1.5", "0"])
    def test_what_is_no_latency_is_refused_with_the_file_and_the_value(
        self, importer: Importer, example: Example, word: str
    ) -> None:
        first = next(iter(_NUMBER.finditer(example.text)))
        broken = example.text[: first.start()] + word + example.text[first.end() :]
        with pytest.raises(UnasError, match=str(_WHERE)) as caught:
            importer.values(example.source(broken))
        assert word in caught.value.what.lower()
