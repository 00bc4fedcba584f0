"""Every importer keeps the contract that others' importers are held to."""

from __future__ import annotations

import pytest

from latency_tables.importers import IMPORTERS, find_importer
from latency_tables.importers.base import Importer
from latency_tables.importers.testing import Example, ImporterContract
from tests.latency_tables.importers.examples import EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
class TestBuiltIn(ImporterContract):
    @pytest.fixture
    def importer(self, name: str) -> Importer:
        return find_importer(name.split()[0])

    @pytest.fixture
    def example(self, name: str) -> Example:
        return EXAMPLES[name]


def test_every_importer_has_an_example() -> None:
    assert {name.split()[0] for name in EXAMPLES} == IMPORTERS.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_importer_takes_the_files_of_another(name: str) -> None:
    source = EXAMPLES[name].source()
    assert [other for other in IMPORTERS if find_importer(other).recognises(source)] == [name.split()[0]]
