"""One rule of what an id is: ingest's SQL and glance, requests, the intake and the client agree on odd texts."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.client import Client
from endcap.errors import RequestError, UserError
from endcap.events import ingest
from endcap.ids import LONGEST, find_id_fault
from endcap.ranking.request import parse_instance
from endcap.sources.values import ids as of_ingest
from endcap.spec.serving import ServingSpec
from endcap.store import Store
from endcap_serving.intake.records import RecordError, read_event
from endcap_serving.predictor.asgi_io import read_head
from endcap_serving.request_ids import read_request_id
from tests.events.shops import facts, make_shop, stored
from tests.refusals import refused

LETTERS = [*map(chr, range(0x180)), "\u2028", "\u202e", "\ufeff", "\ufffd", "\U0001f600", "店", "e\u0301", "\ue000"]


def texts(count: int, seed: int, *, halves: bool = False) -> list[str]:
    """Odd texts: of odd letters, of lengths about the limit, of both."""
    rng = random.Random(seed)
    letters = [*LETTERS, *(["\ud800", "\udfff"] if halves else [])]
    made = ["", "\0", "a\0b", "a\nb", "\x7f", "a\x80", "a\xa0b", "a" * LONGEST, "a" * (LONGEST + 1), "é" * LONGEST]
    made += ["\U0001f600" * LONGEST, "\U0001f600" * (LONGEST + 1), "x" * 5000, "é" * 700, " ", "a b", "\ta", "a\r"]
    while len(made) < count:
        length = rng.choice([1, 2, 5, 12, 300, LONGEST - 1, LONGEST, LONGEST + 1]) if rng.random() < 0.2 else 6
        plain = rng.random() < 0.4
        made.append("".join(rng.choice("abc019-" if plain else letters) for _ in range(length)))
    return made


def test_sql_and_the_glance_say_what_the_rule_says() -> None:
    made = [text for text in texts(5000, 11) if text]
    checks = of_ingest.list_id_checks("id", ['"other"'])
    bad = " OR ".join(f"({is_so})" for is_so, reason in checks if reason.endswith((of_ingest.LONG, of_ingest.CONTROL)))
    given = pa.table({"id": made})  # read by DuckDB under this name
    found = [row[0] for row in duckdb.sql(f"SELECT {bad} FROM given").fetchall()]
    assert found == [find_id_fault(text) is not None for text in made]
    assert {True, False} == set(found)
    words, glanced = of_ingest.list_words([]), 0
    for text in given["id"].to_pylist():
        read = of_ingest.read_plain_ids(pa.chunked_array([[text]]), words)
        assert read is None or find_id_fault(text) is None, repr(text)
        glanced += read is not None
    assert glanced > 1000


def test_requests_and_the_intake_say_what_the_rule_says() -> None:
    for text in texts(700, 12, halves=True):
        right = find_id_fault(text) is None
        for key in ("item", "customer", "session"):
            record = {"id": "e", "item": "i", "session": "s", key: text}
            assert taken(lambda record=record: read_event(record, 2_000_000_000_000), RecordError) == right, repr(text)
        for instance in ({"items": [text]}, {"items": [], "exclude": [text]}, {"customer": text}, {"session": text}):
            asked = lambda instance=instance: parse_instance(instance, 0, ServingSpec())  # noqa: E731
            assert taken(asked, RequestError) == right, repr(text)


def taken(call, error: type[Exception]) -> bool:
    try:
        call()
    except error:
        return False
    return True


def test_a_request_names_what_is_wrong_with_an_id() -> None:
    with refused(RequestError, "request.control-character", at="items.0"):
        parse_instance({"items": ["a\0"]}, 0, ServingSpec())
    with refused(RequestError, "request.wrong-length", at="customer"):
        parse_instance({"customer": "x" * 5000}, 0, ServingSpec())


def test_ingest_sets_such_rows_aside_under_their_reasons(tmp_path: Path, store: Store) -> None:
    odd = ["good", "a\0b", "a\nb", "x" * 5000, "é" * LONGEST, "a\x85b"]
    for column in ("item", "session", "customer"):
        names = {name: odd if name == column else ["k"] * len(odd) for name in ("item", "session", "customer")}
        pq.write_table(pa.table({**names, "time": ["2024-03-01T10:00:00Z"] * len(odd)}), tmp_path / "log.parquet")
        columns = {name: name for name in ("item", "time", "session", "customer")}
        address = ingest(make_shop(tmp_path / "log.parquet", events={"max_bad_share": 0.9, "columns": columns}), store)
        assert sorted(row[0] for row in stored(store, address, column)) == sorted(["good", "é" * LONGEST])
        expected = {f"{column} {of_ingest.CONTROL}": 3, f"{column} {of_ingest.LONG}": 1}
        assert facts(store, address)["bad"]["events"] == expected


def test_request_ids_are_kept_where_they_fit() -> None:
    for given, fits in (
        ("r-1", True),
        ("r" * 256, True),
        ("r" * 257, False),
        ("", False),
        ("é", False),
        ("a\tb", False),
    ):
        assert (read_request_id(given.encode()) == given) == fits
        head = read_head({"headers": [(b"x-request-id", given.encode())]})
        assert (head.given_id == given, bool(head.id)) == (fits, True)


@pytest.mark.parametrize("shopper", ["a\nb", "a\0", "x" * 5000, "\ud800", " a", "a "])
def test_a_shopper_that_no_header_carries_is_refused_before_it_is_sent(shopper: str) -> None:
    with (
        Client("http://127.0.0.1:1", "shoes", retries=0) as client,
        refused(UserError, "client.id-malformed", at="shopper"),
    ):
        client.rank(shopper=shopper, items=[])
    with Client("http://127.0.0.1:1", "shoes", retries=0) as client, refused(UserError, "client.id-malformed"):
        client.events([{"item": "i", "session": "s"}], request_id="é")


def test_a_shopper_of_any_letters_is_sent_as_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.headers.raw)[b"x-endcap-shopper"])
        return httpx.Response(200, json={"predictions": [{"items": []}]})

    with Client("http://127.0.0.1:1", "shoes") as client:
        client._http = httpx.Client(transport=httpx.MockTransport(answer))
        client.rank(shopper="Zoë 店", items=[])
    assert seen == ["Zoë 店".encode()]
