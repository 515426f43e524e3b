"""`endcap events describe`, and `endcap spec check --data`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from endcap.cli.main import main
from endcap.description.croissant import make_croissant
from endcap.description.describe import CROISSANT
from endcap.store import open_store
from tests.cli.printed_errors import find_code
from tests.events.shops import ROWS, write_csv

SHOP = """\
apiVersion: endcap/v2
kind: Shop
name: toys
events:
  sources: [{path: in}]
  columns: {session: session, customer: customer, type: type}
rules: {blacklist: {sources: [{path: black.csv}]}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "toys.yaml").write_text(SHOP)
    (tmp_path / "home.yaml").write_text(
        "apiVersion: endcap/v2\nkind: Recommender\nname: home\nshop: toys.yaml\nmodel: {name: popularity}\n"
    )
    write_csv(tmp_path / "in" / "day-1.csv", ROWS)
    (tmp_path / "in" / "day-2.csv.7z").write_bytes(b"7z")
    write_csv(tmp_path / "black.csv", ["I1"], "item")
    return str(tmp_path / "home.yaml")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    main([*arguments])
    return capsys.readouterr().out


def described(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run(capsys, "events", "describe", *arguments, "--json"))
    return told


def test_a_shop_is_described_and_a_run_finds_what_that_made(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", str(tmp_path / "store")]
    checked = run(capsys, "spec", "check", spec, "--data", *where)
    assert checked.startswith("✓ home and its shop toys")
    store = open_store(where[1])
    made = [store.list(f"{kind}/toys") for kind in ("snapshots", "datasets", "descriptions")]
    assert [len(addresses) for addresses in made] == [1, 1, 1]
    told = described(capsys, spec, *where)
    assert [told["snapshot"], told["dataset"]] == [made[0][0], made[1][0]]
    assert [warning["name"] for warning in told["warnings"]] == ["blacklist_unmatched", "files_left_out"]
    assert told["rules"]["blacklist"]["likely"]["reason"] == "case"
    # A line a warning, then the tables: readable where there is neither colour nor a terminal.
    text = run(capsys, "events", "describe", spec, *where)
    assert text in checked
    assert [line[:2] for line in text.splitlines()[:3]] == ["! ", "! ", ""]
    ran = run(capsys, "run", spec, "--pipeline", "features", *where)
    assert [store.list(f"{kind}/toys") for kind in ("snapshots", "datasets", "descriptions")] == made
    (line,) = [line for line in ran.splitlines() if "✓ ingest" in line]
    assert "1 file left out" in line
    (line,) = [line for line in ran.splitlines() if "✓ features" in line]
    assert "1 of 1 blacklisted ids match no item" in line
    assert len([line for line in ran.splitlines() if line.startswith("  ! ")]) == 2


def test_files_are_left_out_now_whatever_an_older_snapshot_of_the_same_rows_says(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", str(tmp_path / "store")]
    assert described(capsys, spec, *where)["files"][0]["skipped"] != []
    (tmp_path / "in" / "day-2.csv.7z").unlink()
    assert described(capsys, spec, *where)["files"][0]["skipped"] == []
    (tmp_path / "in" / "day-3.arrow").write_bytes(b"ARROW1")
    (skipped,) = described(capsys, spec, *where)["files"][0]["skipped"]
    assert skipped.endswith("day-3.arrow")


def test_older_snapshots_and_datasets_are_described_by_their_addresses(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", str(tmp_path / "store")]
    older = described(capsys, spec, *where)
    write_csv(tmp_path / "in" / "day-1.csv", ROWS[:2])
    newer = described(capsys, spec, *where)
    assert (older["data"]["events"], newer["data"]["events"]) == (4, 2)
    for name in ("snapshot", "dataset"):
        again = described(capsys, spec, *where, f"--{name}", older[name])
        assert (again["snapshot"], again["dataset"]) == (older["snapshot"], older["dataset"])
    # By the shop's name alone the newest of the store are described, without its rules.
    by_name = described(capsys, "toys", *where)
    assert by_name["dataset"] == newer["dataset"]
    assert "rules" not in by_name


@pytest.mark.parametrize(
    ("file", "text", "code"),
    [
        ("in/day-1.csv", "session,customer,item,type\n", "events.column-missing"),
        ("black.csv", "sku\nx\n", "events.column-missing"),
    ],
)
def test_data_that_would_stop_a_run_stop_the_check(
    file: str, text: str, code: str, spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).write_text(text)
    for command in (["spec", "check", spec, "--data"], ["events", "describe", spec]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--store", str(tmp_path / "store")])
        assert ended.value.code == 2
        assert find_code(capsys.readouterr().err) == code


@pytest.mark.slow
def test_a_blacklist_that_cannot_be_read_stops_no_step_that_does_not_need_it(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "black.csv").unlink()
    ran = run(capsys, "run", spec, "--pipeline", "features", "--store", str(tmp_path / "store"))
    notices = [line for line in ran.splitlines() if line.startswith("  ! features")]
    assert "black.csv" in notices[0]
    assert "✓ features" in ran


def test_a_dataset_can_be_read_by_its_croissant_description(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", str(tmp_path / "store")]
    described(capsys, spec, *where)
    store = open_store(where[1])
    (address,) = store.list("datasets/toys")
    before = store.manifest(address)
    document = json.loads(run(capsys, "events", "croissant", "toys", *where, "--license", "CC-BY-4.0"))
    assert store.manifest(address) == before
    # What the specification requires of each dataset.
    required = {"@context", "@type", "conformsTo", "description", "license", "name", "url", "creator", "datePublished"}
    assert all(document[name] for name in required)
    assert (document["conformsTo"], document["license"]) == ("http://mlcommons.org/croissant/1.0", "CC-BY-4.0")
    files = {file["@id"]: file for file in document["distribution"]}
    for file in files.values():
        content = Path(file["contentUrl"]).read_bytes()
        assert (file["sha256"], file["contentSize"]) == (hashlib.sha256(content).hexdigest(), f"{len(content)} B")
    fields = [field for table in document["recordSet"] for field in table["field"]]
    ids = [entry["@id"] for entry in (*files.values(), *document["recordSet"], *fields)]
    assert len(ids) == len(set(ids))
    types = {field["@id"]: field["dataType"] for field in fields}
    assert (types["events/item"], types["items/item"]) == ("sc:Integer", "sc:Text")
    for field in fields:
        source = field["source"]
        place = files[source["fileObject"]["@id"]]["contentUrl"]
        assert pq.read_schema(place).get_field_index(source["extract"]["column"]) >= 0


def test_each_dataset_has_its_croissant_description_as_a_file(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described(capsys, spec, "--store", str(tmp_path / "store"))
    # The store may move: the description goes with it.
    moved = open_store(str((tmp_path / "store").rename(tmp_path / "elsewhere")))
    (address,) = moved.list("descriptions/toys")
    folder = moved.fetch(address)
    document = json.loads((folder / CROISSANT).read_text())
    (dataset,) = moved.list("datasets/toys")
    asked = make_croissant(dataset, moved)
    assert [file["sha256"] for file in document["distribution"]] == [file["sha256"] for file in asked["distribution"]]
    assert document["recordSet"] == asked["recordSet"]
    for file in document["distribution"]:
        content = (folder / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()


def test_croissant_of_a_shop_without_a_dataset_is_refused(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "spec", "check", spec, "--data", "--store", str(tmp_path / "store"))
    with pytest.raises(SystemExit):
        run(capsys, "events", "croissant", "hats", "--store", str(tmp_path / "store"))
    assert find_code(capsys.readouterr().err) == "query.no-data"
