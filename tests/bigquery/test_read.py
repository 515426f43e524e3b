"""Tables read by the Storage Read API, at a server that does what no emulator does."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

from endcap.errors import DataError, EndcapError, TransientError
from endcap.sources.bigquery.client import CREDENTIALS, EMULATOR, STORAGE_EMULATOR, Warehouse, open_warehouse
from endcap.sources.bigquery.find import find_table_parts
from endcap.sources.bigquery.parts import TablePart
from endcap.sources.engine import open_engine
from endcap.sources.find import prepare_parts
from endcap.sources.formats.typed_table import read_typed_table
from endcap.spec.bigquery_source import BigQuery
from tests.bigquery.fake_bigquery import PROJECT, FakeBigQuery, Refusal, serve
from tests.secrets_given import PLANTED, error_of

NAME = f"{PROJECT}.shop.events"
SOURCE = BigQuery(table=NAME, streams=4)
COLUMNS = [{"name": "item", "type": "STRING"}, {"name": "number", "type": "INTEGER"}]
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def make_fake(rows: int = 10, **more: Any) -> FakeBigQuery:
    """A server with one table of numbered items."""
    table = pa.table({"item": [f"i{n}" for n in range(rows)], "number": range(rows)})
    document = {"schema": {"fields": COLUMNS}, "numRows": str(rows), "numBytes": "100", "lastModifiedTime": "1"}
    return FakeBigQuery(tables={NAME: document}, rows={NAME: table}, **more)


def read(part: TablePart, folder: Path, *columns: str) -> list[tuple[str | None, ...]]:
    """The part's rows as texts."""
    with open_engine(folder / "spill", "UTC") as connection:
        rows = read_typed_table(part.open(columns), columns, connection)
        return [
            tuple(row.values()) for batch in rows.batches for row in batch.table.select(range(len(columns))).to_pylist()
        ]


def find(warehouse: Warehouse, source: BigQuery = SOURCE) -> TablePart:
    (part,) = find_table_parts(source, warehouse=warehouse).parts
    return part


def test_all_streams_are_read_once(tmp_path: Path) -> None:
    fake = make_fake(101, streams=3)
    with serve(fake) as warehouse:
        rows = read(find(warehouse), tmp_path, "item", "number")
    assert sorted(rows) == sorted((f"i{n}", str(n)) for n in range(101))
    assert len(fake.reads) == 3


def test_a_stream_that_breaks_goes_on_where_it_broke(tmp_path: Path) -> None:
    fake = make_fake(break_after=[2, 1])
    with serve(fake) as warehouse:
        rows = read(find(warehouse), tmp_path, "item")
    assert rows == [(f"i{n}",) for n in range(10)]
    assert [offset for _, offset in fake.reads] == [0, 4, 6]


def test_a_stream_that_stays_broken_is_an_error(tmp_path: Path) -> None:
    fake = make_fake(break_after=[2, *[0] * 1000])
    with serve(fake) as warehouse, pytest.raises(TransientError) as raised:
        read(find(warehouse), tmp_path, "item")
    assert raised.value.code == "bigquery.unavailable"


def test_a_quota_is_waited_for_as_long_as_the_server_says(tmp_path: Path) -> None:
    fake = make_fake(refusals=[Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", 0.5)])
    with serve(fake) as warehouse:
        assert len(read(find(warehouse), tmp_path, "item")) == 10
    assert len(fake.sessions) == 1


def test_a_quota_that_stays_used_up_is_an_error() -> None:
    fake = make_fake(http_refusals=[(403, "rateLimitExceeded", "Exceeded rate limits")] * 1000)
    with serve(fake) as warehouse, pytest.raises(TransientError) as raised:
        find(warehouse)
    assert raised.value.code == "bigquery.quota"


def test_a_passing_quota_of_the_rest_interface_is_retried() -> None:
    fake = make_fake(http_refusals=[(403, "rateLimitExceeded", "Exceeded rate limits"), (503, "backendError", "busy")])
    with serve(fake) as warehouse:
        assert find(warehouse).table is not None


def test_all_parts_are_read_as_of_one_moment(tmp_path: Path) -> None:
    fake = make_fake()
    fake.tables[NAME]["timePartitioning"] = {"type": "DAY"}
    fake.queries.append(("INFORMATION_SCHEMA.PARTITIONS", make_partitions("20251230", "20251231")))
    with serve(fake) as warehouse:
        parts = find_table_parts(SOURCE, warehouse=warehouse).parts
        for part in parts:
            read(part, tmp_path, "item")
    moments = {session.table_modifiers.snapshot_time.isoformat() for session in fake.sessions}
    assert moments == {"2026-01-01T00:00:00+00:00"}
    assert {part.facts()["snapshot_time"] for part in parts} == moments
    assert [session.read_options.row_restriction for session in fake.sessions] == [
        f"_PARTITIONTIME >= TIMESTAMP '{day} 00:00:00+00:00' AND _PARTITIONTIME < TIMESTAMP '{next_} 00:00:00+00:00'"
        for day, next_ in (("2025-12-30", "2025-12-31"), ("2025-12-31", "2026-01-01"))
    ]


def make_partitions(*names: str, rows: int = 5) -> dict[str, Any]:
    """The answer to the query for partitions."""
    schema = [
        {"name": "partition_id", "type": "STRING"},
        {"name": "total_rows", "type": "INTEGER"},
        {"name": "total_logical_bytes", "type": "INTEGER"},
        {"name": "last_modified_time", "type": "TIMESTAMP"},
    ]
    return {"schema": schema, "rows": [[name, str(rows), "50", "1767225600000000"] for name in names]}


def test_the_digest_of_a_partition_changes_with_it() -> None:
    fake = make_fake()
    fake.tables[NAME]["timePartitioning"] = {"type": "DAY"}
    digests = []
    with serve(fake) as warehouse:
        for rows in (5, 5, 6):
            fake.queries = [("INFORMATION_SCHEMA.PARTITIONS", make_partitions("20251230", rows=rows))]
            digests.append(find(warehouse).digest())
    assert digests[0] == digests[1] != digests[2]


def test_only_the_needed_fields_of_structs_are_asked_for(tmp_path: Path) -> None:
    items = pa.array([[{"item_id": "a"}, {"item_id": "b"}], [{"item_id": "c"}]])
    fields = [{"name": "item_id", "type": "STRING"}, {"name": "price", "type": "FLOAT"}]
    fake = make_fake()
    fake.tables[NAME]["schema"]["fields"] = [
        {"name": "items", "type": "RECORD", "mode": "REPEATED", "fields": fields}, {"name": "time", "type": "TIMESTAMP"}
    ]  # fmt: skip
    fake.rows[NAME] = pa.table({"items": items, "time": pa.array([0, 1], pa.timestamp("us", "UTC"))})
    with serve(fake) as warehouse:
        rows = read(find(warehouse), tmp_path, "time", "items[].item_id")
    assert [item for _, item in rows] == ["a", "b", "c"]
    assert list(fake.sessions[0].read_options.selected_fields) == ["items.item_id", "time"]


def test_decimals_are_written_as_sql_writes_them(tmp_path: Path) -> None:
    """BIGNUMERIC is a decimal of 256 bits, which bqemulator does not have."""
    plain = [Decimal("5"), Decimal("1.25"), None, Decimal("10")]
    big = pa.array(plain, pa.decimal256(76, 38))
    nested = pa.array([{"n": value} for value in plain], pa.struct([("n", pa.decimal128(38, 9))]))
    listed = pa.array([[Decimal("2")], None, [], [Decimal("3.5"), None]], pa.list_(pa.decimal128(38, 9)))
    fake = make_fake()
    fake.tables[NAME]["schema"]["fields"] = [
        {"name": "big", "type": "BIGNUMERIC"},
        {"name": "nested", "type": "RECORD", "fields": [{"name": "n", "type": "NUMERIC"}]},
        {"name": "listed", "type": "NUMERIC", "mode": "REPEATED"},
    ]
    fake.rows[NAME] = pa.table({"big": big, "nested": nested, "listed": listed})
    with serve(fake) as warehouse:
        assert read(find(warehouse), tmp_path, "big") == [("5",), ("1.25",), (None,), ("10",)]
        assert read(find(warehouse), tmp_path, "nested.n") == [("5",), ("1.25",), (None,), ("10",)]
        assert read(find(warehouse), tmp_path, "listed[]") == [("2",), (None,), (None,), ("3.5",), (None,)]


def test_a_plain_json_value_is_its_text(tmp_path: Path) -> None:
    fake = make_fake()
    fake.tables[NAME]["schema"]["fields"] = [{"name": "data", "type": "JSON"}]
    fake.rows[NAME] = pa.table({"data": ['"a\\"b"', "12", "null", None, '{"a":1}']})
    with serve(fake) as warehouse:
        assert read(find(warehouse), tmp_path, "data") == [('a"b',), ("12",), (None,), (None,), ('{"a":1}',)]


def test_more_bytes_than_the_limit_are_refused_before_a_row_is_read(tmp_path: Path) -> None:
    fake = make_fake()
    fake.queries.append(("SELECT `item`", {"bytes": 1001}))
    source = SOURCE.model_copy(update={"max_bytes": 1000})
    with serve(fake) as warehouse, pytest.raises(DataError) as raised:
        read(find(warehouse, source), tmp_path, "item")
    fields = raised.value.fields
    assert (raised.value.code, fields["bytes"], fields["limit"]) == ("bigquery.too-many-bytes", 1001, 1000)
    assert fake.sessions == []
    assert [job["configuration"].get("dryRun") for job in fake.asked] == [None, True]


@pytest.mark.parametrize(
    ("message", "permission", "role"),
    [
        (
            "Access Denied: Project p: User does not have bigquery.jobs.create permission in project p.",
            "bigquery.jobs.create",
            "roles/bigquery.jobUser",
        ),
        (
            "Access Denied: Table p:d.t: Permission bigquery.tables.getData denied on table p:d.t",
            "bigquery.tables.getData",
            "roles/bigquery.dataViewer",
        ),
        (
            "request failed: the user does not have 'bigquery.readsessions.create' permission for 'projects/p'",
            "bigquery.readsessions.create",
            "roles/bigquery.readSessionUser",
        ),
        ("Access Denied: VPC Service Controls", None, None),
    ],
)
def test_a_missing_role_is_named(message: str, permission: str | None, role: str | None) -> None:
    fake = make_fake(http_refusals=[(403, "accessDenied", message)])
    with serve(fake) as warehouse, pytest.raises(DataError) as raised:
        find(warehouse)
    fields = raised.value.fields
    assert (raised.value.code, fields["permission"], fields["role"]) == (
        "bigquery.permission-missing",
        permission,
        role,
    )


def test_a_role_that_the_read_session_lacks_is_named(tmp_path: Path) -> None:
    text = "user does not have 'bigquery.readsessions.create' permission for 'projects/p'"
    fake = make_fake(refusals=[Refusal(grpc.StatusCode.PERMISSION_DENIED, text)])
    with serve(fake) as warehouse, pytest.raises(DataError) as raised:
        read(find(warehouse), tmp_path, "item")
    assert raised.value.fields["role"] == "roles/bigquery.readSessionUser"


def test_a_view_is_read_by_a_query_within_the_limit(tmp_path: Path) -> None:
    results = f"{PROJECT}._hidden.anon1"
    fake = make_fake(streams=2)
    fake.tables[NAME]["type"] = "VIEW"
    fake.rows[results] = fake.rows[NAME]
    fake.queries.append(("SELECT `item`\nFROM `shop-project.shop.events`", {"bytes": 10, "destination": results}))
    with serve(fake) as warehouse:
        part = find(warehouse)
        assert len(read(part, tmp_path, "item")) == 10
    assert fake.asked[-1]["configuration"]["query"]["maximumBytesBilled"] == str(SOURCE.max_bytes)
    assert part.facts()["job"] == fake.asked[-1]["jobReference"]["jobId"]


def test_a_query_that_bills_more_than_the_limit_is_an_error(tmp_path: Path) -> None:
    fake = make_fake()
    fake.tables[NAME]["type"] = "VIEW"
    error = (400, "bytesBilledLimitExceeded", "Query exceeded limit for bytes billed: 1000. 2000 or higher required.")
    with serve(fake) as warehouse:
        part = find(warehouse)
        fake.queries.append(("SELECT `item`", {"error": error}))
        with pytest.raises(DataError) as raised:
            read(part, tmp_path, "item")
    assert raised.value.code == "bigquery.too-many-bytes"


def test_a_reader_that_stops_ends_its_streams() -> None:
    fake = make_fake(1000, streams=4, batch=1)
    with serve(fake) as warehouse:
        table = find(warehouse).open(["item"])
        blocks = table.read_blocks(["item"], 1)
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("bigquery-")]


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without credentials."""
    for name in (EMULATOR, STORAGE_EMULATOR, CREDENTIALS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def open_code(*arguments: Any) -> str:
    with pytest.raises(EndcapError) as raised:
        open_warehouse(*arguments)
    return raised.value.code


@pytest.mark.usefixtures("no_login")
def test_without_credentials_the_ways_to_them_are_named() -> None:
    assert open_code(None, None) == "bigquery.no-credentials"


@pytest.mark.usefixtures("no_login")
def test_a_file_of_credentials_that_is_none_is_refused_without_its_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key.json"
    key = f"-----BEGIN PRIVATE KEY-----{PLANTED}-----END PRIVATE KEY-----"
    file.write_text(json.dumps({"type": "service_account", "client_email": "a", "token_uri": "b", "private_key": key}))
    monkeypatch.setenv(CREDENTIALS, f"{file}\n")
    assert error_of(lambda: open_warehouse(None, None)).code == "bigquery.no-credentials"


@pytest.mark.usefixtures("no_login")
def test_half_an_emulator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR, "http://127.0.0.1:1")
    assert open_code(None, None) == "bigquery.emulator-incomplete"


@pytest.mark.usefixtures("no_login")
def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "google.cloud.bigquery", None)
    assert open_code(None, None) == "bigquery.package-missing"


def test_a_dry_run_counts_the_parts_that_are_read_alone(tmp_path: Path) -> None:
    fake = make_fake()
    fake.tables[NAME]["timePartitioning"] = {"type": "DAY"}
    fake.queries.append(("INFORMATION_SCHEMA.PARTITIONS", make_partitions("20251230", "20251231")))
    with serve(fake) as warehouse:
        _, changed = find_table_parts(SOURCE, warehouse=warehouse).parts
        prepare_parts([changed])
        read(changed, tmp_path, "item")
    assert fake.asked[-1]["configuration"]["query"]["query"].endswith(
        "WHERE _PARTITIONTIME >= TIMESTAMP '2025-12-31 00:00:00+00:00' "
        "AND _PARTITIONTIME < TIMESTAMP '2026-01-01 00:00:00+00:00'"
    )
