"""Whatever stands in a file, the answer is rows or an error that names file, row and value; never code that runs."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.errors import ImportFileError, UnknownFormatError
from latency_tables.importers import IMPORTERS, find_importer
from latency_tables.importers.base import MAX_BYTES, Source
from latency_tables.importers.convert import import_table
from profilers.errors import FileError, UnasError
from tests.latency_tables.importers.examples import EXAMPLES, PROXYLESSNAS

ROW = "expanded_conv-input:14x14x80-output:14x14x80-expand:6-kernel:5-stride:1-idskip:1"
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"
YAML = [
    (f"{ROW}:\n  mean: .nan\n", ".nan"),
    (f"{ROW}:\n  mean: -2.5\n", "-2.5"),
    (f"{ROW}:\n  mean: 0\n", "0.0"),
    (f'{ROW}:\n  mean: "2.5"\n', "2.5"),
    (f"{ROW}:\n  mean: fast\n", "fast"),
    (f"{ROW}:\n  mean: [1, 2]\n", "seq"),
    (f"{ROW}:\n  mean: 2.5\n  count: 1000000000000\n", "1000000000000"),
    (f"{ROW}:\n  mean: 2.5\n  count: 2.5\n", "2.5"),
    (f"{ROW}:\n  mean: 2.5\n  count: 0\n", "0.0"),
    (f"{ROW}:\n  mean: 2.5\n  count: 5\n  var: -1\n", "-1.0"),
    (f"{ROW}:\n  mean: 2.5\n  count: 5\n  std: -1\n", "-1.0"),
    (f"{ROW}:\n  count: 5\n", ROW[:40]),
    (f"{ROW}: 2.5\n", ROW[:40]),
    (f"{ROW}:\n  mean: 2.5\n  mean: 3.5\n", "mean"),
    (f"{ROW}:\n  mean: 2.5\n{ROW}:\n  mean: 3.5\n", ROW[:40]),
    (f"{ROW}: &x\n  mean: 2.5\nother: *x\n", "alias"),
    (f"{ROW}:\n  mean: &m 2.5\nother:\n  mean: *m\n", "alias"),
    (f"{ROW}:\n  mean: !!python/object/apply:os.getcwd []\n", "os.getcwd"),
    (f"{ROW}:\n  mean: 2.5\n---\nb: 1\n", "document"),
    (BOMB + f"{ROW}:\n  mean: 2.5\n", "'a'"),
    (f"{ROW}:\n  mean: " + "9" * 500 + "\n", "999"),
    ("[" * 5000, "YAML"),
]


@pytest.mark.parametrize(("text", "value"), YAML)
def test_yaml_that_is_no_table_is_refused_with_file_row_and_value(text: str, value: str) -> None:
    for name in ("proxylessnas", "onceforall"):
        with pytest.raises(ImportFileError) as caught:
            find_importer(name).values(Source(path=Path("pixel.yaml"), text=text))
        assert "pixel.yaml" in caught.value.what
        assert value in caught.value.what
        assert caught.value.mend


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("fbnet", "[[1.5, true]]", "True"),
        ("fbnet", "[[1.5, NaN]]", "layer 0, operation 1: nan"),
        ("fbnet", "[[1.5, 1" + "0" * 400 + "]]", "1000"),
        ("fbnet", '[[1.5, "2"]]', "'2'"),
        ("fbnet", "[[1.5], 3]", "3"),
        ("fbnet", "[" * 100_000, "JSON"),
        ("fbnet", "ir_k3_e1 skip\n1.5\n", "2 numbers"),
        ("fbnet", "ir_k3_e1 skip\n1.5 nan\n", "'nan'"),
        ("single-path-nas", '{"0": {"0": 1.5, "0": 2.5}}', "'0'"),
        ("single-path-nas", '{"0": {"zero": 1.5}}', "zero"),
        ("single-path-nas", '{"0": {"0": -1.5}}', "-1.5"),
        ("csv", "key,ms\na,1.5\na,2.5\n", "'a'"),
        ("csv", "key,ms\na,1.5,9\n", "9"),
        ("csv", "key,ms\na,0x10\n", "0x10"),
        ("csv", "key,ms,origin\na,1.5,guessed\n", "guessed"),
        ("csv", "key,ms,sd_ms\na,1.5,-2\n", "-2"),
        ("csv", "key,ms\n" + "k" * 2000 + ",1.5\n", "kkk"),
        ("csv", "key,ms,ms\na,1.5,2\n", "'ms'"),
        ("csv", "name,ms\na,1.5\n", "'key'"),
        ("csv", "", "'key'"),
        ("csv", 'key,ms\n"a,1.5\n', "CSV"),
    ],
)
def test_json_text_and_csv_that_are_no_table_are_refused(name: str, text: str, value: str) -> None:
    with pytest.raises(ImportFileError) as caught:
        find_importer(name).values(Source(path=Path("table"), text=text, unit="ms"))
    assert "table" in caught.value.what
    assert value in caught.value.what


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "table.pkl"
    path.write_bytes(pickle.dumps({"a": 1.0}))
    with pytest.raises(ImportFileError, match="not text"):
        import_table(path, tmp_path / "out.jsonl", unit="ms")


@pytest.mark.parametrize("name", [None, *IMPORTERS])
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str | None) -> None:
    large, zero = tmp_path / "large.yaml", tmp_path / "zero.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    zero.write_bytes(b"a\0b")
    for path, error in ((tmp_path, FileError), (tmp_path / "none", FileError), (large, ImportFileError)):
        with pytest.raises(error, match=path.name):
            import_table(path, tmp_path / "out.jsonl", format_name=name, unit="ms")
    with pytest.raises(ImportFileError, match="zero byte"):
        import_table(zero, tmp_path / "out.jsonl", format_name=name, unit="ms")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_format_that_nobody_knows_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing\n")
    with pytest.raises(ImportFileError, match="no format that is known") as caught:
        import_table(path, tmp_path / "out.jsonl")
    assert "proxylessnas" in caught.value.mend
    with pytest.raises(UnknownFormatError, match="'proxylesnas'") as unknown:
        find_importer("proxylesnas")
    assert "proxylessnas" in unknown.value.mend


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(IMPORTERS)))
def test_no_input_gives_anything_but_rows_or_our_error(data: st.DataObject, name: str) -> None:
    base = data.draw(st.sampled_from([example.text for example in EXAMPLES.values()]))
    begin = data.draw(st.integers(0, len(base)))
    end = data.draw(st.integers(begin, len(base)))
    pieces = st.sampled_from(
        ["&a", "*a", "<<: ", "!!python/name:os.system ", "{", "[", "\n", '"', ": ", ",", "1e400", "-"]
    )
    text = base[:begin] + data.draw(st.text(max_size=20) | pieces) + base[end:]
    source = Source(path=Path("fuzzed"), text=text, unit="ms")
    importer = find_importer(name)
    importer.recognises(source)
    with suppress(UnasError):
        assert importer.values(source)


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=200))
def test_no_bytes_give_anything_but_rows_or_our_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "file"
    path.write_bytes(content)
    for name in (None, *IMPORTERS):
        with suppress(UnasError):
            assert import_table(path, folder / "out.jsonl", format_name=name, unit="ms").values


def test_a_byte_order_mark_is_no_letter_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "pixel.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + PROXYLESSNAS.text.encode())
    assert len(import_table(path, tmp_path / "out.jsonl").values) == PROXYLESSNAS.rows
