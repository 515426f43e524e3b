"""Text files: encodings, quotes as values have them and as quoting has them, and that no row vanishes."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import DataError
from endcap.events import ingest
from endcap.sources.column_mapping import ColumnMapping
from endcap.sources.files import find_files
from endcap.sources.formats import read_csv
from endcap.sources.formats.read import read_rows
from endcap.spec.source import SourceSpec
from endcap.store import Store
from tests.events.shops import HEADER, ROWS, STORED, facts, make_shop, open_snapshot, stored, write_csv
from tests.refusals import mistaken, refused

TEXT = "".join(f"{line}\n" for line in [HEADER, *ROWS])
OBJECTS = "".join(
    json.dumps(dict(zip(HEADER.split(","), (value or None for value in row.split(",")), strict=True))) + "\n"
    for row in ROWS
)


def rows_of(file: Path, **source: Any) -> list[tuple[str, ...]]:
    """The file's rows as they are read; there must be no rejects."""
    declared = SourceSpec.model_validate({"path": str(file)} | source)
    rows = read_rows(find_files(declared).files[0], declared, [], None)
    assert rows is not None
    batches = list(rows.batches)
    assert [reject for batch in batches for reject in batch.rejects] == []
    return [
        row for batch in batches for row in zip(*(column.to_pylist() for column in batch.table.columns), strict=True)
    ]


def parted(text: str, delimiter: str) -> list[tuple[str, ...]]:
    """The rows below the header, with quotes as plain text."""
    return [tuple(line.split(delimiter)) for line in text.splitlines()[1:]]


@pytest.mark.parametrize(
    "titles",
    [
        ['7" single', "plain"],
        ['"Heroes"', "Heroes"],
        ['"Heroes" live', "x"],
        ['"40', "between", "also between", 'End"', "after"],
        ["first", '"40'],
        ["first", 'End"'],
        ['"', "x", '"'],
        ['""', '"Heroes"" live', "x"],
    ],
)
@pytest.mark.parametrize(("suffix", "delimiter"), [("tsv", "\t"), ("csv", ",")])
@pytest.mark.parametrize("last", [False, True])
def test_bare_quotes_are_plain_text(tmp_path: Path, titles: list[str], suffix: str, delimiter: str, last: bool) -> None:
    columns = ["user", "at", "item", "n"]
    rows = [[*(f"{name}{at}" for name in columns), title] for at, title in enumerate(titles)]
    text = "".join(delimiter.join(row if last else row[::-1]) + "\n" for row in [[*columns, "title"], *rows])
    (tmp_path / f"log.{suffix}").write_text(text)
    expected = parted(text, delimiter)
    if suffix == "csv":
        # Commas leave open whether a whole value in quotes has them for its own.
        expected = [tuple("Heroes" if value == '"Heroes"' else value for value in row) for row in expected]
    assert rows_of(tmp_path / f"log.{suffix}") == expected
    (tmp_path / f"log.{suffix}.gz").write_bytes(gzip.compress(text.encode().partition(b"\n")[2]))
    assert rows_of(tmp_path / f"log.{suffix}.gz", header=["a", "b", "c", "d", "e"]) == expected


QUOTED = [
    ("i1", "a, b", "x"),
    ("i2", 'say "hi"', ""),
    ("i3", "two\nlines", "y"),
    ("i4", "", "z"),
    ("i5", "p\r\n\r\nq", "z"),
]


def written(rows: Sequence[Sequence[str]], quoting: Any = csv.QUOTE_MINIMAL, delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, delimiter=delimiter).writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("before", [0, 1000])
def test_quoted_values_are_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quoting: int, delimiter: str, before: int
) -> None:
    plain = [(f"p{at}", "plain", "x") for at in range(before)]
    text = written([("item", "title", "kind")], csv.QUOTE_MINIMAL, delimiter) + written(plain, delimiter=delimiter)
    (tmp_path / "items.csv").write_bytes((text + written(QUOTED, quoting, delimiter)).encode())
    for size in (1 << 20, 100, 7):
        monkeypatch.setattr("endcap.sources.utf8.CHUNK", size)
        monkeypatch.setattr("endcap.sources.formats.read_csv.BLOCK", max(size, 100))
        assert rows_of(tmp_path / "items.csv", delimiter=delimiter) == plain + QUOTED


def test_a_header_in_quotes_says_that_quotes_enclose_values(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b'\xef\xbb\xbf"item","title"\r\n"i1","a "b" c"\r\n"i2","d"\r\n')
    assert [row[0] for row in rows_of(tmp_path / "log.csv")] == ["i1", "i2"]


def test_files_of_one_source_may_differ(tmp_path: Path, store: Store) -> None:
    header = "session\tcustomer\titem\ttime\ttype\ttitle\n"
    row = "s\tc\t{}\t2024-03-01\tview\t{}\n"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "bare.tsv").write_text(header + row.format("i1", '"40') + row.format("i2", 'End"'))
    (tmp_path / "logs" / "quoted.tsv").write_text(header + row.format("i3", '"a\tb"') + row.format('"i4"', "x"))
    address = ingest(make_shop(tmp_path / "logs", events={"max_bad_share": 0.0}), store)
    assert stored(store, address, "item") == [("i1",), ("i2",), ("i3",), ("i4",)]


UNCLEAR = 'item,title,kind\ni0,x,y\ni1,"Red, big\nsoft, warm",z\n'


def test_what_can_be_read_both_ways_is_refused_until_the_source_says(tmp_path: Path) -> None:
    log = tmp_path / "items.csv"
    log.write_text(UNCLEAR)
    with refused(DataError, "events.quotes-unclear", path=str(log), line=3, lines=2):
        rows_of(log)
    assert rows_of(log, quoted=True) == [("i0", "x", "y"), ("i1", "Red, big\nsoft, warm", "z")]
    assert rows_of(log, quoted=False) == parted(UNCLEAR, ",")
    log.write_text(UNCLEAR + 'i2,"a, b",z\n')  # this only makes sense as a value in quotes
    assert len(rows_of(log)) == 3


def test_rows_that_quotes_swallow_late_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.sources.formats.quotes.SAMPLE", 100)
    monkeypatch.setattr("endcap.sources.formats.read_csv.BLOCK", 400)
    plain = [f"i{at},title,kind,{at}" for at in range(100)]
    text = "\n".join(
        ["item,title,kind,n", 'i,"Heroes",kind,0', *plain, 'a,"40,kind,1', "b,lost,kind,2", 'c,End",kind,3']
    )
    (tmp_path / "log.csv").write_text(text)
    with refused(DataError, "events.quotes-unclear", line=103, lines=3):
        rows_of(tmp_path / "log.csv")
    assert len(rows_of(tmp_path / "log.csv", quoted=False)) == 104
    assert len(rows_of(tmp_path / "log.csv", quoted=True)) == 102


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_quote_that_is_never_closed_in_the_last_column(tmp_path: Path, store: Store, end: str) -> None:
    rows = [*ROWS, 's3,,i4,2024-03-01,"view', "s3,,i5,2024-03-01,view"]
    (tmp_path / "log.csv").write_bytes("\n".join([HEADER, *rows]).encode() + end.encode())
    shop = make_shop({"path": str(tmp_path / "log.csv"), "quoted": True}, events={"max_bad_share": 0.5})
    address = ingest(shop, store)
    assert facts(store, address)["events"] == 4
    assert facts(store, address)["bad"]["events"] == {"a quote is opened and never closed": 2}


def test_rows_with_too_many_columns_say_how_quotes_were_read(tmp_path: Path, store: Store) -> None:
    rows = [row + ',"a "b" c"' for row in ROWS] + [ROWS[0] + ',"d, e"']
    log = write_csv(tmp_path / "log.csv", rows, header=f"{HEADER},title")
    address = ingest(make_shop(log, events={"max_bad_share": 0.5}), store)
    assert facts(store, address)["events"] == 4
    (reason,) = facts(store, address)["bad"]["events"]
    assert "quoted to true" in reason


def test_quotes_that_are_escaped_by_backslashes_are_named(tmp_path: Path, store: Store) -> None:
    rows = [f"{row},x" for row in ROWS] + [ROWS[0] + r',"say \"hi\", he"', ROWS[0] + ',"a, b"']
    log = write_csv(tmp_path / "log.csv", rows, header=f"{HEADER},title")
    address = ingest(make_shop(log, events={"max_bad_share": 0.5}), store)
    assert facts(store, address)["events"] == 5
    (reason,) = facts(store, address)["bad"]["events"]
    assert "write it doubled" in reason


VALUES = st.text(st.sampled_from('ab",;\n\ré '), max_size=6)
SHAPES = st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=1))


@settings(max_examples=300, deadline=None)
@given(SHAPES, st.sampled_from(["minimal", "all", "plain"]), st.sampled_from([8, 64, 1 << 20]), st.booleans())
def test_every_row_is_read_as_it_was_written_or_the_file_is_refused(
    tmp_path_factory: Any, values: list[list[str]], how: str, chunk: int, headed: bool
) -> None:
    header = [f"c{at}" for at in range(len(values[0]) + 1)]
    rows = [(f"i{at}", *row) for at, row in enumerate(values)]
    if how == "plain":
        # A whole value in quotes is read without them.
        rows = [tuple(value.translate(dict.fromkeys(map(ord, ",\n\r"))).rstrip('"') for value in row) for row in rows]
        text = "".join(",".join(row) + "\n" for row in ([header] if headed else []) + rows)
    else:
        quoting = csv.QUOTE_ALL if how == "all" else csv.QUOTE_MINIMAL
        text = written([header] if headed else [], quoting) + written(rows, quoting)
    file = tmp_path_factory.mktemp("table") / "table.csv"
    file.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("endcap.sources.utf8.CHUNK", chunk)
        refusal = None
        try:
            assert rows_of(file, **({} if headed else {"header": header})) == rows
        except DataError as error:
            refusal = error
    assert refusal is None or refusal.code == "events.quotes-unclear"


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1 << 20, 64, 9])
def test_line_ends_of_any_kind(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, ends: str, size: int
) -> None:
    monkeypatch.setattr("endcap.sources.utf8.CHUNK", size)
    rows = [ROWS[0], "", ROWS[1], f's2,,"i1",{ROWS[2].split(",")[3]},cart', "s,c,i,never,view", ROWS[3], "", ""]
    (tmp_path / "log.csv").write_bytes(ends.join([HEADER, *rows]).encode())
    address = ingest(make_shop(tmp_path / "log.csv", events={"max_bad_share": 0.5}), store)
    assert stored(store, address) == STORED
    (bad,) = open_snapshot(store, address).quarantine.read_text().splitlines()
    assert json.loads(bad)["line"] == 6


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    ("name", "text"), [("log.csv", TEXT), ("log.tsv", TEXT.replace(",", "\t")), ("log.jsonl", OBJECTS)]
)
@pytest.mark.parametrize("big", [False, True])
def test_the_mark_of_a_text_tells_its_encoding(
    tmp_path: Path, store: Store, encoding: str, name: str, text: str, big: bool
) -> None:
    swapped = encoding if encoding == "utf-8-sig" else f"{encoding}-be"
    data = ("\ufeff" + text).encode(swapped.removesuffix("-sig")) if big else text.encode(encoding)
    (tmp_path / name).write_bytes(data)
    assert stored(store, ingest(make_shop(tmp_path / name), store)) == STORED


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-16-le", "é✓漢🛒"),
        ("utf-16-be", "é✓漢🛒"),
        ("utf-32-le", "é🛒"),
        ("latin-1", "é£"),
        ("cp1252", "œ€“"),
        ("shift_jis", "漢字ソ表"),
        ("gb18030", "汉字é🛒"),
        ("koi8-r", "Ж"),
    ],
)
@pytest.mark.parametrize("size", [1 << 20, 5])
def test_the_encoding_that_the_source_names(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, encoding: str, text: str, size: int
) -> None:
    monkeypatch.setattr("endcap.sources.utf8.CHUNK", size)
    rows = f"{HEADER}\n" + "".join(f"s,c,{text}{at},2024-03-01,{text}\n" for at in range(20))
    (tmp_path / "log.csv").write_bytes(rows.encode(encoding))
    shop = make_shop({"path": str(tmp_path / "log.csv"), "encoding": encoding}, events={"max_bad_share": 0.0})
    expected = [(f"{text}{at}", text) for at in range(20)]
    assert stored(store, ingest(shop, store), "item, type") == expected


def test_an_encoding_that_does_not_exist() -> None:
    for name in ("latin-9000", "hex", "rot13", "", "a\0b"):
        with mistaken((("encoding",), "unknown-name")):
            SourceSpec(path="log.csv", encoding=name)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(("name", "text"), [("log.csv", TEXT), ("log.jsonl", OBJECTS)])
def test_an_encoding_without_a_mark_is_named(tmp_path: Path, store: Store, encoding: str, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    with refused(DataError, "events.encoding-unmarked", path=str(tmp_path / name), encoding=encoding):
        ingest(make_shop(tmp_path / name), store)


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_character_of_another_encoding_counts_where_it_is_read(tmp_path: Path, store: Store, name: str) -> None:
    columns = [*HEADER.split(","), "note"]
    rows = [["s", "c", "i1", "2024-03-01", "view", "café"], ["s", "c", "café", "2024-03-01", "view", "x"]]
    if name == "log.csv":
        data = "\n".join(",".join(row) for row in [columns, *rows]).encode("latin-1")
    else:
        objects = (dict(zip(columns, row, strict=True)) for row in rows)
        data = "\n".join(json.dumps(one, ensure_ascii=False) for one in objects).encode("latin-1")
    (tmp_path / name).write_bytes(data)
    address = ingest(make_shop(tmp_path / name, events={"max_bad_share": 0.5}), store)
    assert stored(store, address, "item") == [("i1",)]
    (bad,) = (json.loads(line) for line in open_snapshot(store, address).quarantine.read_text().splitlines())
    assert (bad["line"], "encoding" in bad["reason"]) == (3 if name == "log.csv" else 2, True)
    assert r"caf\xe9" in bad["text"]
    shop = make_shop({"path": str(tmp_path / name), "encoding": "latin-1"})
    assert stored(store, ingest(shop, store), "item") == [("i1",), ("café",)]


def test_a_header_of_another_encoding(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(TEXT.replace("customer", "café").encode("latin-1"))
    with refused(DataError, "events.column-missing") as stopped:
        ingest(make_shop(log), store)
    assert r"caf\xe9" in stopped.value.fields["found"]
    assert "encoding" in str(stopped.value)


def test_what_is_not_of_the_encoding_that_the_source_names(tmp_path: Path, store: Store) -> None:
    (tmp_path / "log.csv").write_bytes(TEXT.encode() + b"s,c,\x81,2024-03-01,view\n")
    source = {"path": str(tmp_path / "log.csv"), "encoding": "cp1252"}
    address = ingest(make_shop(source, events={"max_bad_share": 0.5}), store)
    (reason,) = facts(store, address)["bad"]["events"]
    assert reason.startswith("not CP1252 text")


class Losing:
    """A parser of Arrow's that loses a row of each block."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.schema = reader, reader.schema

    def __enter__(self) -> Losing:
        return self

    def __exit__(self, *error: object) -> None:
        self.reader.close()

    def __iter__(self) -> Any:
        return (block.slice(1) for block in self.reader)


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("i1", '"i1"'), TEXT + "\n\n"])
def test_a_row_that_the_parser_loses_stops_the_run(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "log.csv").write_text(text)
    real = pa.csv.open_csv
    monkeypatch.setattr(read_csv.pa.csv, "open_csv", lambda *given, **more: Losing(real(*given, **more)))
    with refused(DataError, "events.rows-vanished", path=str(tmp_path / "log.csv"), read=3, counted=4):
        ingest(make_shop(tmp_path / "log.csv"), store)


def test_a_row_that_is_lost_on_the_way_stops_the_run(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = ColumnMapping.sql
    monkeypatch.setattr(ColumnMapping, "sql", lambda plan, batch: f"{sql(plan, batch)} LIMIT 3")
    with refused(DataError, "events.rows-vanished", read=3, counted=4):
        ingest(make_shop(write_csv(tmp_path / "log.csv", ROWS)), store)


def test_rows_of_json_lines_and_parquet_are_counted_too(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.jsonl").write_text(OBJECTS + "\r\n\n")
    pq.write_table(pa.table({name: ["2024-03-01"] * 4 for name in HEADER.split(",")}), tmp_path / "log.parquet")
    from endcap.sources.formats import read_json, typed_table

    for module, name in ((read_json, "log.jsonl"), (typed_table, "log.parquet")):
        real = module.make_batch
        monkeypatch.setattr(
            module,
            "make_batch",
            lambda columns, lines, *more, real=real: real([c[1:] for c in columns], lines[1:], *more),
        )
        with refused(DataError, "events.rows-vanished", path=str(tmp_path / name), read=3, counted=4):
            ingest(make_shop(tmp_path / name), store)
    monkeypatch.undo()
    assert stored(store, ingest(make_shop(tmp_path / "log.jsonl"), store)) == STORED


def zipped(data: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("log.csv", data)
    return whole.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("log.7z", "a 7z archive"),
        ("log.feather", "an Arrow (Feather) file"),
        ("log.sqlite", "an SQLite data base"),
    ],
)
def test_a_kind_of_file_that_is_not_read_is_named(tmp_path: Path, store: Store, name: str, kind: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / name).write_bytes(b"7z" + b"\0" * 300)
    for path in (tmp_path / "logs" / name, tmp_path / "logs"):
        with refused(DataError, "events.kind-foreign", path=str(tmp_path / "logs" / name), kind=kind):
            ingest(make_shop(path), store)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (gzip.compress(b"log.csv" + b"\0" * 250 + b"ustar\x0000"), "a tar archive"),
        (gzip.compress(gzip.compress(TEXT.encode())), "compressed twice"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook"),
        (b"SQLite format 3\0", "an SQLite data base"),
        (gzip.compress(b"Obj\x01\x04\x14avro.codec"), "an Avro file"),
        (gzip.compress(b"PAR1\x15\x04\x15\xb4"), "a Parquet file"),
    ],
)
def test_a_file_of_another_kind_is_known_by_its_first_bytes(
    tmp_path: Path, store: Store, begin: bytes, kind: str
) -> None:
    for name, declared in (("log.csv", {}), ("log.jsonl", {}), ("log.txt", {"format": "csv"})):
        (tmp_path / name).write_bytes(begin)
        with refused(DataError, "events.kind-foreign", path=str(tmp_path / name), kind=kind):
            ingest(make_shop({"path": str(tmp_path / name)} | declared), store)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("log.csv.bz2", bz2.compress(TEXT[:50].encode()) + bz2.compress(TEXT[50:].encode())),
        ("log.csv", gzip.compress(TEXT.encode())),
        ("log.csv.gz", bz2.compress(TEXT.encode())),
        ("log.jsonl", bz2.compress(OBJECTS.encode("utf-16"))),
    ],
)
def test_a_compression_is_known_by_its_first_bytes(tmp_path: Path, store: Store, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert stored(store, ingest(make_shop(tmp_path / name), store)) == STORED


@pytest.mark.parametrize(("delimiter", "header"), itertools.product(";|\t", [HEADER, f"{HEADER},a b"]))
def test_the_delimiter_that_a_header_seems_to_have(tmp_path: Path, store: Store, delimiter: str, header: str) -> None:
    (tmp_path / "log.csv").write_text(TEXT.replace(HEADER, header).replace(",", delimiter))
    with refused(DataError, "events.column-missing", delimiter=delimiter):
        ingest(make_shop(tmp_path / "log.csv"), store)
    source = {"path": str(tmp_path / "log.csv"), "delimiter": delimiter}
    if header == HEADER:
        assert stored(store, ingest(make_shop(source), store)) == STORED


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_first_line_that_tells_the_delimiter_is_no_row(
    tmp_path: Path, store: Store, encoding: str, delimiter: str, end: str, quoted: bool
) -> None:
    written = [HEADER, *ROWS, "s9,c9,i9,never,view"]
    if quoted:
        written = [re.sub(r"\bi\d", r'"\g<0>"', line) for line in written]
    text = "".join(line.replace(",", delimiter) + end for line in [f"sep={delimiter}", *written])
    (tmp_path / "log.csv").write_bytes(text.encode(encoding))
    address = ingest(make_shop(tmp_path / "log.csv", events={"max_bad_share": 0.5}), store)
    assert stored(store, address) == STORED
    (bad,) = map(json.loads, open_snapshot(store, address).quarantine.read_text().splitlines())
    assert bad["line"] == 7


@pytest.mark.parametrize("text", ["sep=;", "sep=;\n", "SEP=;\r\n"])
def test_a_file_of_nothing_but_its_delimiter_is_empty(tmp_path: Path, store: Store, text: str) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.csv").write_text(TEXT)
    (tmp_path / "log" / "b.csv").write_text(text)
    address = ingest(make_shop(tmp_path / "log"), store)
    assert facts(store, address)["empty_files"] == [str(tmp_path / "log" / "b.csv")]


@pytest.mark.parametrize("lines", ["# made on 1 March, by hand\n", "#\n# two\n", "# one value\n"])
def test_a_comment_in_place_of_the_header_is_told(tmp_path: Path, store: Store, lines: str) -> None:
    (tmp_path / "log.csv").write_text(lines + TEXT)
    with refused(DataError, "events.column-missing", comment=True):
        ingest(make_shop(tmp_path / "log.csv"), store)
    (tmp_path / "log.csv").write_text(TEXT.replace("item", "#item"))
    with refused(DataError, "events.column-missing", comment=False):
        ingest(make_shop(tmp_path / "log.csv"), store)


def test_titles_of_an_item_table_keep_their_quotes(tmp_path: Path, store: Store) -> None:
    write_csv(tmp_path / "log.csv", ROWS)
    titles = {"i1": '"Heroes"', "i2": '7" single', "i3": "Heroes"}
    (tmp_path / "items.tsv").write_text("item\ttitle\n" + "".join(f"{i}\t{title}\n" for i, title in titles.items()))
    items = {"sources": [{"path": str(tmp_path / "items.tsv")}], "columns": {"title": "title"}}
    address = ingest(make_shop(tmp_path / "log.csv", items=items), store)
    table = open_snapshot(store, address).items
    assert dict(duckdb.sql(f"SELECT item, title FROM '{table}'").fetchall()) == titles
