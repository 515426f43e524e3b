"""A shop with pseudonyms from its log to rankings and back: no file of anybody has a plain id."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.deploy import Deployment, Target
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.state import make_salt, write_state
from endcap.events import ingest
from endcap.features import build
from endcap.features.dataset_files import read_customer_ids
from endcap.pseudonyms import KEY, Pseudonymiser
from endcap.rules.read import read_rules
from endcap.store import Store, open_store
from endcap_serving.local.serve import serving
from tests.batch.conftest import registry as registry
from tests.batch.given import FakeRegistry, made, of, package, rows
from tests.features.logs import shop
from tests.serving.pod import wait_for

SECRET = "the key of this test, no secret"
MAKER = Pseudonymiser(SECRET.encode())
NAME = "hidden"
PREDICT = f"/v1/models/{NAME}:predict"
OWNERS = [f"{kind}-of-{number:03}" for kind in ("cust", "sess", "shop") for number in range(40)]
START = 1_717_372_800_000


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / "work" / "cache"))
    return open_store(str(tmp_path / "work" / "store"))


def write_log(folder: Path) -> Path:
    lines = ["session,customer,item,time,type"]
    for number in range(30):
        for step, item in enumerate(("abc", "bcd", "cda")[number % 3]):
            lines.append(
                f"sess-of-{number:03},cust-of-{number % 10:03},{item},{START + 10**5 * number + 1000 * step},view"
            )
    lines.append("sess-of-031,cust-of-031,,never,view")
    folder.mkdir()
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    return folder / "log.csv"


def read_texts(file: Path) -> Iterator[str]:
    """A file's name and bytes; of a Parquet or Arrow file also its values; of a compressed file what is in it."""
    raw = file.read_bytes()
    yield f"{file} {raw.decode('utf-8', 'replace')}"
    if raw[:4] == b"PAR1":
        for column in pq.ParquetFile(file).read().columns:
            yield "\n".join(map(str, column.to_pylist()))
    elif raw[:6] == b"ARROW1":
        yield str(pa.ipc.open_file(file).read_all().to_pylist())
    elif raw[:2] == b"\x1f\x8b":
        yield zlib.decompress(raw, 47).decode("utf-8", "replace")


def read_rows(file: Path) -> list[dict[str, Any]]:
    rows_of: list[dict[str, Any]] = pq.ParquetFile(file).read().to_pylist()
    return rows_of


def find_plain_ids(folder: Path) -> dict[str, set[str]]:
    """The files below a folder that hold an id of an owner, or the key, and which."""
    results: dict[str, set[str]] = {}
    for file in (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        for text in read_texts(file):
            if plain := {owner for owner in [*OWNERS, SECRET] if owner in text}:
                results.setdefault(str(file), set()).update(plain)
    return results


@pytest.mark.slow
def test_no_file_has_a_plain_id(hidden: Store, registry: FakeRegistry, tmp_path: Path) -> None:
    sources = [{"path": str(write_log(tmp_path / "given"))}]
    columns = {name: name for name in ("session", "customer", "type")}
    events = {"sources": sources, "columns": columns, "time": {"unit": "ms"}, "pseudonyms": True, "max_bad_share": 0.1}
    its = shop(events=events, rules={"owned": {"types": ["purchase"]}})
    spec = of(NAME, {"name": "ease", "history": "customer", "regularisation": 1.0}, serving={"samples": {"share": 1.0}})
    dataset = build(its, ingest(its, hidden), hidden)
    at = package(hidden, spec, dataset, rules=read_rules(its))
    registry.versions["1"] = at
    (tmp_path / "given" / "customers.csv").write_text("customer\ncust-of-003\ncust-of-030\n")
    lists = made(spec, hidden, its, dataset=dataset, customers=str(tmp_path / "given" / "customers.csv"))
    assert set(rows(hidden, lists.address)) == {MAKER.pseudonymise("cust-of-003")}
    terms = GatewaySettings(popular=("a", "b"))
    stable = Target(version="1", package=at)
    write_state(
        Deployment(recommender=NAME, stable=stable, salt=make_salt(NAME, "1"), terms=terms, changed=datetime.now(UTC)),
        hidden,
    )
    owner = {"customer": "cust-of-003", "session": "sess-of-035", "shopper": "shop-of-003"}
    with (
        serving(open_store(hidden.root), NAME, listener=lambda event: None) as address,
        httpx.Client(base_url=address, timeout=20, headers={"x-endcap-shopper": owner["shopper"]}) as client,
    ):

        def rank() -> dict[str, Any]:
            instance = {"customer": owner["customer"], "session": owner["session"], "k": 4}
            answer = client.post(PREDICT, json={"instances": [instance]})
            assert answer.status_code == 200, answer.text
            ranking: dict[str, Any] = answer.json()["predictions"][0]
            return ranking

        def list_items() -> list[str]:
            return [entry["item"] for entry in rank()["items"]]

        first = rank()
        reports = {
            "events": {"id": "e1", "item": "a", "type": "view", **owner},
            "impressions": {"id": "m1", "item": "b", "position": 0, "ranking_id": first["ranking_id"], **owner},
            "orders": {"id": "o1", "items": [{"item": "a"}], **owner},
        }
        for kind, report in reports.items():
            assert client.post(f"/v1/{kind}", json=report).status_code == 200
        # The predictor finds by pseudonyms what the intake stored under them: the customer owns the item now.
        assert "a" in [entry["item"] for entry in first["items"]]
        wait_for(lambda: "a" not in list_items(), "the customer owns it")
        wrong = {"instances": [{"customer": owner["customer"], "k": 10**9}]}
        assert client.post(PREDICT, json=wrong).status_code == 400
        wrong_event = {"id": "e2", "item": "", "customer": owner["customer"]}
        assert client.post("/v1/events", json=wrong_event).status_code == 400
    assert find_plain_ids(tmp_path / "work") == {}
    assert find_plain_ids(tmp_path / "given")  # the search finds what there is
    names = {path.name for path in (tmp_path / "work").rglob("*") if path.is_file() and path.stat().st_size}
    assert {"access.log", "intake.log", "online.sqlite", "quarantine.jsonl"} <= names
    root = Path(hidden.root.removeprefix("file://"))
    assert list((root / "samples").rglob("*.parquet"))
    # What the intake wrote is a log: its customers are those of the first one.
    (event, *_) = [row for file in (root / "intake" / "events").rglob("*.parquet") for row in read_rows(file)]
    assert {name: event[name] for name in owner} == {name: MAKER.pseudonymise(value) for name, value in owner.items()}
    log = {"sources": [{"path": str(root / "intake" / "events")}], "columns": columns, "pseudonyms": True}
    (customer,) = read_customer_ids(hidden.fetch(build(again := shop(events=log), ingest(again, hidden), hidden)))
    assert customer.as_py() in read_customer_ids(hidden.fetch(dataset)).to_pylist()
