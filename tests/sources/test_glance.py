"""What is read at a glance is what SQL makes of the same values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from endcap.sources.batch_mapping import BatchMapper
from endcap.sources.column_mapping import ColumnMapping
from endcap.sources.values import ids, times
from endcap.sources.values.glance import GlancedColumn
from endcap.sources.values.times import LOCAL, TimeFormat
from endcap.spec.event_log import MISSING

PLAIN_IDS = [
    "s-1",
    "17",
    "00017",
    "a.b@c.de",
    "1.5",
    "GA1.2.33.40",
    "1e5",
    "Ω",
    "日本",
    "x y",
    "-",
    "4b1e+",
    "1+1",
    "v1.0",
]
OTHER_IDS = [
    *("", " ", "\t", " \t ", "\u00a0", "\u3000", "NULL", "(not set)", "nan", "NaN", "inf", "-Infinity"),
    *("123.0", "-7.00", "1.2E+08", "1E+8", "1.2345678E7", "1.0E10", "1.5e-3", "[1, 2]", '{"a": 1}'),
]
DOUBTFUL_IDS = ["  b", " b", "[b]", "{b}", "ábc", "â", "ã", "1.0x"]
"""Ids all the same, each of which may send a batch to SQL."""
TEXTS = {
    "iso": [
        *("2024-03-01T10:00:00Z", "2024-03-01 10:00:00", "2024-03-01", "2024-03-01T10:00:00.123456Z"),
        *("2024-03-01 10:00:00 UTC", "2024-03-01T10", "2024-03-01T10:00", "2024-03-01T10:00:00.5", "1970-01-01"),
        *(
            "2024-03-01T10:00+14:59",
            "2024-03-01T10:00:00.5-01:30",
            "2024-03-01T10:00:00+24:00",
            "2024-03-01T10:00:00+01:60",
        ),
        *(
            "2024-03-01T10:00:00 +01:00",
            "2024-03-01T24:00:00+01:00",
            "20240301T100000.000+01:00",
            "2024-03-01T10:00+0a:00",
        ),
        *("2024-03-01T10:00:00+15:00", "2024-03-01T10:00:00+01:00", "2024-03-01 10:00:00 PST", "2024-06-30T23:59:60Z"),
        *("2024-02-30", "20240301", "2024-03-01T24:00:00Z", "2024-03-01T10:00:00z", "1709287200000", "", "NULL"),
    ],
    "ms": ["1709287200000", "0", "-1", "0017", "0x18df9d4a300", "1.7e12", " 17", "99999999999999999999", "", "NULL"],
    "s": ["1709287200", "1709287200.5", "9007199254741", "9007199254740"],
    "us": ["1709287200000499", "1709287200000500", "1709287200000500.0", "9007199254740993"],
    "ns": ["1709287200000499999", "1709287200000500000", "9223372036854775807", "9223372036854775808"],
}


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        yield opened


def results(connection: Any, table: pa.Table, plan: ColumnMapping) -> list[Any]:
    connection.register("batch", table)
    computed = connection.sql(plan.sql("batch")).to_arrow_table()
    taken = plan.passthrough_columns
    columns = [table[taken[name]] if name in taken else computed[name] for name in plan.select]
    return [column.to_pylist() for column in [*columns, computed["reason"]]]


def both(
    connection: Any, values: list[str], make_mapping: Callable[[Mapping[str, str]], ColumnMapping]
) -> list[list[Any]]:
    """What a glance and SQL, and what SQL alone make of a batch of these values."""
    table = pa.table({"§0": pa.array(values)})
    located = {"id": '"§0"'}
    plan, seen = BatchMapper(located, make_mapping).map_batch(table)
    return [results(connection, seen, plan), results(connection, table, make_mapping(located))]


@pytest.mark.parametrize("whole", [False, True])
def test_ids_at_a_glance(connection: Any, whole: bool) -> None:
    def make_mapping(located: Mapping[str, str]) -> ColumnMapping:
        column, words = located["id"], list(MISSING)
        checks = [
            *ids.list_nested_checks("item", ["id"], located),
            *ids.list_id_checks("item", [column], words, whole=whole),
        ]
        return ColumnMapping({"item": ids.convert_to_id([column], words, whole=whole)}, checks, words=words)

    for value in [*PLAIN_IDS, *OTHER_IDS, *DOUBTFUL_IDS]:
        glance, sql = both(connection, ["a", value], make_mapping)
        assert glance == sql
        plain = glance == [["a", value], [None, None]]
        assert plain == (value not in OTHER_IDS), value
    words = ids.list_words(MISSING)
    for gap in (None, ""):
        read = ids.read_plain_ids(pa.chunked_array([PLAIN_IDS, ["b", gap]]), words)
        assert read is not None
        assert read.to_pylist() == [*PLAIN_IDS, "b", None]
    for value in set(OTHER_IDS) - {""}:
        for gap in ("longer than all", None, ""):
            assert ids.read_plain_ids(pa.chunked_array([pa.array(["a", value, gap])[1:]]), words) is None


@pytest.mark.parametrize("unit", TEXTS)
def test_times_at_a_glance(connection: Any, unit: Any) -> None:
    reading = TimeFormat(unit, (), zone=unit == "iso")

    def make_mapping(located: Mapping[str, str]) -> ColumnMapping:
        column = located["id"]
        select = times.parse_times(column, reading)
        return ColumnMapping(select, times.list_time_checks(column, reading), times={'"§0"': reading})

    for value in TEXTS[unit]:
        for values in ([value], [TEXTS[unit][0], value]):
            glance, sql = both(connection, values, make_mapping)
            assert glance == sql


def test_plain_times_are_read_at_a_glance() -> None:
    zoned = [
        ("2024-03-01T08:30:00.000-01:30", False),
        ("2024-03-01T10:00:00Z", False),
        ("2024-03-01 10:00:00 UTC", False),
        ("2024-03-01 10:00:00", True),
    ]
    for value, local in zoned:
        read = times.read_plain_times(pa.chunked_array([[value]]), TimeFormat())
        assert read is not None
        assert (read[0].to_pylist(), read[1]) == ([1709287200000], local)
    assert times.read_plain_times(pa.chunked_array([["2024"]]), TimeFormat("iso", ("%Y",))) is None
    column = GlancedColumn("§0", plain=False, milliseconds="§0ms", local=True)
    assert times.parse_times(column, TimeFormat(zone=True))[LOCAL] == "true"
