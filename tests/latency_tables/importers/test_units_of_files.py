"""Units of imported files are those that their columns say; files of any dialect are read right, or refused."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest

from latency_tables.importers import find_importer, recognise
from latency_tables.importers.base import Source, read_source
from latency_tables.importers.columns import unit_of_column
from latency_tables.rows import Value
from profilers.errors import UnasError, UnitError
from tests.latency_tables.importers.examples import FBNET_TEXT, ONCEFORALL, PROXYLESSNAS

UNITS = {
    "us": "latency (µs)|latency (μs)|Latency [µs]|time_in_us|latency_usec|t/µs|Latency Microseconds|㎲ latency"
    "|latency.us",
    "ms": "latency/ms|latencyMs|GPUTimeMs|latency (ms) mean|p50_ms|ms_p50|latency_ms_min|ms/image|ms per image|ms|MS"
    "|model's latency (ms)|latency (msec)|mean latency, ms|duration_millis|inference time in milliseconds"
    "|latency (ms/img)",
    "s": "s/it|time [s]|latency_sec|runtime_seconds|S",
    "ns": "latency_ns|elapsed ns|time (nanoseconds)",
}
NO_TIMES = (
    "images/s|img/sec|images per second|fps|FPS|throughput|throughput_ms|samples_per_second|it/s|1/s|s^-1|img·s⁻¹"
    "|images_s|Hz|qps|inferences/ms|MFLOPs|macs|energy_mJ|energy (J)|power_W|memory_MB|var_ms|ms²|latency (%)|accuracy"
)


@pytest.mark.parametrize(("unit", "name"), [(unit, name) for unit, names in UNITS.items() for name in names.split("|")])
def test_every_way_to_write_a_unit_in_a_column_is_read(unit: str, name: str) -> None:
    assert unit_of_column(name) == unit


@pytest.mark.parametrize("name", NO_TIMES.split("|"))
def test_a_column_of_something_else_is_refused(name: str) -> None:
    with pytest.raises(UnitError, match="is no column of times"):
        unit_of_column(name)


@pytest.mark.parametrize("name", ["time (s) [ms]", "latency_ms_us", "ms (µs)", "time_s (ms)"])
def test_a_column_of_two_units_is_refused(name: str) -> None:
    with pytest.raises(UnitError, match="says two units"):
        unit_of_column(name)


@pytest.mark.parametrize("name", ["latency", "latency_min", "latency (min)", "us_region", "model's latency"])
def test_a_column_that_says_no_unit_has_none(name: str) -> None:
    assert unit_of_column(name) is None


def rows(
    folder: Path, content: str | bytes, columns: dict[str, str] | None = None, unit: str | None = None
) -> list[Value]:
    path = folder / "lut.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source, _ = read_source(path, columns or {}, unit)
    return recognise(source).values(source)


def test_microseconds_with_the_micro_sign_are_microseconds(tmp_path: Path) -> None:
    (value,) = rows(tmp_path, "op,latency (µs)\na,1500\n", {"key": "op", "ms": "latency (µs)"})
    assert value.ms == 1.5
    (value,) = rows(tmp_path, "key,latency\na,1500\n", {"ms": "latency"}, "µs")
    assert value.ms == 1.5


@pytest.mark.parametrize(
    ("column", "unit", "words"),
    [
        ("images/s", None, "'images/s' is no column of times"),
        ("images/s", "ms", "'images/s' is no column of times"),
        ("latency_ms", "us", "its latencies are in ms, as the csv file says, not in us"),
        ("ms", "s", "its latencies are in ms, as the csv file says, not in s"),
        ("latency", None, "nothing in a csv file says which unit"),
        ("latency", "parsec", "'parsec' is no unit of latencies"),
        ("latency", "min", "'min' is no unit of latencies"),
    ],
)
def test_what_is_no_time_or_is_said_in_two_ways_is_refused(
    tmp_path: Path, column: str, unit: str | None, words: str
) -> None:
    with pytest.raises(UnitError, match=words):
        rows(tmp_path, f"key,{column}\na,1500\n", {"ms": column}, unit)


@pytest.mark.parametrize("example", [PROXYLESSNAS, ONCEFORALL])
def test_a_format_that_says_its_unit_takes_no_other(example: object) -> None:
    text = getattr(example, "text", "")
    source = Source(path=Path("lut.yaml"), text=text, unit="us")
    with pytest.raises(UnitError, match="its latencies are in ms") as caught:
        recognise(source).values(source)
    assert "leave out --unit us" in caught.value.mend


def test_nanoseconds_are_rounded_once() -> None:
    source = Source(path=Path("lut.txt"), text=FBNET_TEXT.text, unit="ns")
    first = find_importer("fbnet").values(source)[0]
    assert first.ms == 5129.75 / 1e6


@pytest.mark.parametrize(
    ("head", "columns", "sd_ms"),
    [
        ("key,latency_us,sd_ms", {"ms": "latency_us"}, 100.0),
        ("key,latency_us,sd_us", {"ms": "latency_us", "sd_ms": "sd_us"}, 0.1),
        ("key,latency_us,sd", {"ms": "latency_us", "sd_ms": "sd"}, 0.1),
        ("key,latency_us,sd (ns)", {"ms": "latency_us", "sd_ms": "sd (ns)"}, 1e-4),
    ],
)
def test_a_spread_has_the_unit_of_its_own_column(
    tmp_path: Path, head: str, columns: dict[str, str], sd_ms: float
) -> None:
    (value,) = rows(tmp_path, f"{head}\na,1500,100\n", columns)
    assert (value.ms, value.sd_ms) == (1.5, sd_ms)


@pytest.mark.parametrize("column", ["var_ms", "cv (%)", "sd_percent"])
def test_a_spread_that_is_no_time_is_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(UnitError, match="is no column of times"):
        rows(tmp_path, f"key,ms,{column}\na,1.5,10\n", {"sd_ms": column})


KEY = "conv[kernel=3,out=32,stride=2]@1x3x224x224:float32"


@pytest.mark.parametrize(
    "content",
    [
        f"key;ms\n{KEY};1.5\n",
        f"key\tms\n{KEY}\t1.5\n",
        f'\ufeffkey,ms\n"{KEY}","1.5"\n',
        f"key\tms\r\n{KEY}\t1.5\r\n".encode("utf-16"),
        f"key;ms\r{KEY};1.5\r",
    ],
)
def test_every_dialect_of_a_spreadsheet_is_read(tmp_path: Path, content: str | bytes) -> None:
    (value,) = rows(tmp_path, content)
    assert (value.key, value.ms) == (KEY, 1.5)


def test_decimal_commas_are_refused_and_the_mend_makes_points_of_them(tmp_path: Path) -> None:
    with pytest.raises(UnasError, match=r"row 2: '0,25' has a comma") as caught:
        rows(tmp_path, f"key;ms;sd_ms\n{KEY};1,5;0,25\n")
    command = caught.value.mend[caught.value.mend.index("sed ") :].replace("> mended", f"> {tmp_path}/mended")
    subprocess.run(command, shell=True, check=True)
    (value,) = rows(tmp_path, (tmp_path / "mended").read_bytes())
    assert (value.key, value.ms, value.sd_ms) == (KEY, 1.5, 0.25)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("key,ms\n", "has no rows"),
        ("key,ms,ms\na,1,2\n", "has 2 columns called 'ms'"),
        ("key,ms\na,1\na,2\n", "row 3: 'a' is there already, in row 2"),
        ("key,ms\na,inf\n", "'inf' is not a number"),
        ("key,ms\na,\n", "'' is not a number"),
        ("key,ms\na,0\n", "0.0 is not a positive latency"),
        ("key,ms\na,-1\n", "-1.0 is not a positive latency"),
        ('key,ms\na,"1,234.5"\n', "without commas between thousands"),
        ('key,ms\na,"1,5"\n', "write decimal points"),
        ("key,ms\na,3.4 ms\n", "all in the unit that the column's name or --unit says"),
        ("key,latency (µs)\na,1\n".encode("cp1252"), "save it as UTF-8"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_in_one_line(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(UnasError) as caught:
        rows(tmp_path, content)
    assert words in f"{caught.value.what}; {caught.value.mend}"
    assert "\n" not in caught.value.what


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UnasError, match=r"0 columns called 'lat_us': 'op, latency_us'"):
        rows(tmp_path, "op,latency_us\na,1\n", {"key": "op", "ms": "lat_us"})


@pytest.mark.parametrize("form", [{}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}])
def test_published_rows_as_json_are_recognised_and_are_those_of_the_yaml(form: dict[str, object]) -> None:
    import yaml

    for example, name in ((ONCEFORALL, "onceforall"), (PROXYLESSNAS, "proxylessnas")):
        text = json.dumps(yaml.safe_load(example.text), **form)  # type: ignore[arg-type]
        source = Source(path=Path("lut.json"), text=text)
        importer = recognise(source)
        assert importer.name == name
        found, expected = importer.values(source), importer.values(example.source())
        assert [(v.key, v.ms) for v in found] == [(v.key, v.ms) for v in expected]
        assert all(a.sd_ms == b.sd_ms or math.isnan(b.sd_ms) for a, b in zip(found, expected, strict=True))
