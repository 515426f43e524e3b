"""Sources in a bucket: copied once, told of by their addresses, the same snapshot as from files."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from endcap.errors import DataError, UserError
from endcap.events import convert, ingest
from endcap.sources.s3_sources import translate_glob
from endcap.store import Store
from tests.events.shops import HEADER, ROWS, STORED, facts, make_shop, open_snapshot, stored, write_csv
from tests.refusals import refused
from tests.sources.test_archives import zipped
from tests.sources.test_typed_formats import EVENT, as_records
from tests.sources.typed_files import write_avro
from tests.store.proxy import Fault, Proxy
from tests.store.servers import S3Place


def csv(rows: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in [HEADER, *rows]).encode()


def fill(place: S3Place) -> str:
    """The log of ROWS in two files, and what is passed over."""
    place.put("log/day=2/b.csv.gz", gzip.compress(csv(ROWS[2:])))
    place.put("log/day=1/a.csv", csv(ROWS[:2]))
    place.put("log/readme.md", b"# log")
    place.put("log/_temporary/c.csv", csv(ROWS))
    place.put("log/.hidden.csv", csv(ROWS))
    place.put("log/day=3/", b"")
    place.put("logs.csv", csv(ROWS))
    return f"s3://{place.bucket}/log"


@pytest.mark.parametrize("ending", ["", "/", "/day=*/*.csv*", "/**/[ab].csv*"])
def test_a_prefix_and_a_glob_are_read_as_folders_and_globs_are(
    place: S3Place, way: Proxy, store: Store, ending: str
) -> None:
    lines: list[str] = []
    address = fill(place)
    snapshot = ingest(make_shop(f"{address}{ending}"), store, progress=lines.append)
    assert stored(store, snapshot) == STORED
    told = facts(store, snapshot)["sources"][0]
    assert [file["path"] for file in told["files"]] == [f"{address}/day=1/a.csv", f"{address}/day=2/b.csv.gz"]
    assert told["skipped"] == ([f"{address}/readme.md"] if ending in ("", "/") else [])
    assert any(line.startswith(f"fetching 2 objects of s3://{place.bucket}, ") for line in lines)


def test_archives_and_typed_files_of_a_bucket(place: S3Place, way: Proxy, store: Store, tmp_path: Path) -> None:
    place.put("log/a.zip", zipped({"a.csv": csv(ROWS[:2])}))
    place.put("log/b.avro", write_avro(tmp_path / "b.avro", EVENT, as_records()[2:]).read_bytes())
    place.put("log/c.zip", zipped({"readme.md": b"x"}))
    snapshot = ingest(make_shop(f"s3://{place.bucket}/log"), store)
    assert stored(store, snapshot) == STORED
    assert facts(store, snapshot)["sources"][0]["skipped"] == [f"s3://{place.bucket}/log/c.zip"]
    place.put("log/d.zip", zipped({"a.csv": csv(ROWS), "b.csv": csv(ROWS)}))
    with refused(DataError, "events.archive-members", path=f"s3://{place.bucket}/log/d.zip", count=2):
        ingest(make_shop(f"s3://{place.bucket}/log"), store)


def test_the_same_objects_are_fetched_once_and_changed_ones_again(place: S3Place, way: Proxy, store: Store) -> None:
    shop = make_shop(fill(place))
    first = ingest(shop, store)
    way.seen.clear()
    assert ingest(shop, store) == first
    assert not [line for line in way.seen if ".csv" in line]
    place.put("log/day=1/a.csv", csv(["s9,c9,i9,2024-03-01T10:00:00Z,view"]))
    assert ingest(shop, store) != first
    assert [line.split("/")[-1] for line in way.seen if ".csv" in line] == ["a.csv"]


def test_the_snapshot_is_the_same_wherever_the_log_and_its_copies_lie(
    place: S3Place, way: Proxy, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("log/log.csv", csv(ROWS))
    first = ingest(make_shop(f"s3://{place.bucket}/log"), store)
    lines: list[str] = []
    monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / "another"))
    assert ingest(make_shop(f"s3://{place.bucket}/log/log.csv"), store, progress=lines.append) == first
    assert ingest(make_shop(write_csv(tmp_path / "log.csv", ROWS)), store, progress=lines.append) == first
    assert not [line for line in lines if not line.startswith("fetching 1 object")]


def test_errors_and_bad_rows_name_the_address(place: S3Place, way: Proxy, store: Store) -> None:
    def check(path: str, code: str) -> None:
        address = f"s3://{place.bucket}/{path}"
        with refused(DataError, code, path=address) as stopped:
            ingest(make_shop(address), store)
        assert "cache" not in str(stopped.value)

    place.put("half.csv.gz", gzip.compress(csv(ROWS * 100))[:-20])
    check("half.csv.gz", "events.file-cut-short")
    place.put("other.csv", b"a,b\n1,2\n")
    check("other.csv", "events.column-missing")
    place.put("readme.md", b"x")
    check("readme.md", "events.format-unknown")
    check("none", "events.file-not-found")
    check("none/*.csv", "events.file-not-found")
    with refused(UserError, "store.bucket-not-found", bucket="s3://endcap-none"):
        ingest(make_shop("s3://endcap-none/log"), store)
    place.put("bad.csv", csv([*ROWS * 100, "s,c,i,no time,view"]))
    snapshot = open_snapshot(store, ingest(make_shop(f"s3://{place.bucket}/bad.csv"), store))
    assert f'"source": "s3://{place.bucket}/bad.csv"' in snapshot.quarantine.read_text()


def test_an_object_that_is_replaced_while_it_is_read_is_told(place: S3Place, way: Proxy, store: Store) -> None:
    place.put("log.csv", csv(ROWS))
    way.faults += [Fault("GET .*log.csv", "call", call=lambda: place.put("log.csv", csv(ROWS[1:])))]
    with refused(DataError, "events.file-changed", path=f"s3://{place.bucket}/log.csv"):
        ingest(make_shop(f"s3://{place.bucket}/log.csv"), store)
    assert len(stored(store, ingest(make_shop(f"s3://{place.bucket}/log.csv"), store))) == 3


def test_a_published_log_in_a_bucket_is_converted(place: S3Place, way: Proxy, tmp_path: Path) -> None:
    place.put("clicks.dat", b"1,2014-04-07T10:51:09.277Z,214536502,0\n")
    target = tmp_path / "log.csv"
    assert convert(f"s3://{place.bucket}/clicks.dat", "yoochoose-clicks", target) == {
        "events": 1,
        "bad_rows": 0,
        "left_out": 0,
    }
    assert "214536502" in target.read_text()


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a/*.csv", ["a/x.csv"], ["a/b/x.csv", "a/xcsv", "b/x.csv"]),
        ("a/**/x.csv", ["a/x.csv", "a/b/c/x.csv"], ["a/b/y.csv", "ax.csv"]),
        ("a/**", ["a/x", "a/b/x"], ["b/x"]),
        ("d=?/x", ["d=1/x"], ["d=12/x", "d=//x"]),
        ("[a-c]/[!x]", ["b/y"], ["d/y", "b/x"]),
        ("a+(1)/*", ["a+(1)/x"], ["aa1/x"]),
    ],
)
def test_globs_mean_what_they_mean_for_files(pattern: str, matching: list[str], others: list[str]) -> None:
    regular = re.compile(translate_glob(pattern))
    assert [name for name in (*matching, *others) if regular.fullmatch(name)] == matching
