"""What is taken, and how the rest is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from endcap.spec.base import EARLIEST_MS
from endcap_serving.intake import records
from endcap_serving.intake.records import KINDS, RecordError

NOW = 1_767_268_800_000
"""2026-01-01T12:00:00Z."""
DAY = 86_400_000
EVENT = {"id": "e1", "item": "p1", "session": "s1"}
IMPRESSION = {"id": "i1", "ranking_id": "r1.0", "item": "p1", "position": 0}
ORDER = {"id": "o1", "customer": "c1", "items": [{"item": "p1"}]}
WHOLE = {"events": EVENT, "impressions": IMPRESSION, "orders": ORDER}

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("events", {}),
    ("events", {"session": None, "customer": "c1", "type": "view", "surface": "home", "ranking_id": "r.0"}),
    ("events", {"item": "x" * 256, "customer": 'Zoë "O\u00a0Neil" 店'}),
    ("events", {"time": NOW + DAY}),
    ("events", {"item": None, "type": "search"}),
    *((kind, {"shopper": "anon-7", "variant": "canary", "model_version": "3"}) for kind in WHOLE),
    ("impressions", {"position": 1_000_000, "surface": "brand", "session": "s"}),
    ("orders", {"items": [{"item": "p1", "quantity": 2, "price": 9.95}, {"item": "p2", "price": 0}]}),
]
BAD: list[tuple[str, Any, str, str, str | None]] = [
    ("events", {"id": None}, "wrong-value", "id", "nothing"),
    ("events", {"id": 7}, "wrong-value", "id", "7"),
    ("events", {"item": None}, "wrong-value", "item", "nothing"),
    ("events", {"item": "", "type": "search"}, "wrong-value", "item", "''"),
    ("events", {"item": "x" * 1025}, "wrong-value", "item", f"'{'x' * 40}…' of 1,025"),
    ("events", {"item": "a\x00b"}, "wrong-value", "item", r"'a\x00b'"),
    ("events", {"session": None}, "owner-missing", "customer, session", None),
    ("events", {"type": ["view"]}, "wrong-value", "type", "a list"),
    ("events", {"itme": "p1"}, "unknown-key", "itme", None),
    ("events", {"time": NOW + DAY + 1}, "time-ahead", "time", str(NOW + DAY + 1)),
    ("events", {"time": NOW // 1000}, "time-before-1990", "time", str(NOW // 1000)),
    ("events", {"time": 1e300}, "wrong-value", "time", "1e+300"),
    ("events", {"time": True}, "wrong-value", "time", "a truth value"),
    ("events", {"time": "2026-01-01T12:00:00"}, "wrong-value", "time", "'2026-01-01T12:00:00'"),
    ("events", {"time": "0001-01-01T00:00:00+14:00"}, "wrong-value", "time", "'0001-01-01T00:00:00+14:00'"),
    ("events", {"time": "yesterday"}, "wrong-value", "time", "'yesterday'"),
    ("impressions", {"position": -1}, "wrong-value", "position", "-1"),
    ("impressions", {"position": 1.0}, "wrong-value", "position", "1.0"),
    ("impressions", {"position": None}, "wrong-value", "position", "nothing"),
    ("impressions", {"type": "view"}, "unknown-key", "type", None),
    *((kind, {"shopper": 7}, "wrong-value", "shopper", "7") for kind in WHOLE),
    ("orders", {"customer": None}, "wrong-value", "customer", "nothing"),
    ("orders", {"items": []}, "wrong-value", "items", "0 lines"),
    ("orders", {"items": {"item": "p1"}}, "wrong-value", "items", "an object"),
    ("orders", {"items": ["p1"]}, "record-not-object", "items[0]", "'p1'"),
    ("orders", {"items": [{"item": "p1"}, {"item": "p2", "quantity": 0}]}, "wrong-value", "items[1].quantity", "0"),
    ("orders", {"items": [{"item": "p1", "price": -1}]}, "wrong-value", "items[0].price", "-1"),
    ("orders", {"items": [{"item": "p1", "sku": 1}]}, "unknown-key", "items[0].sku", None),
]


@pytest.mark.parametrize(("kind", "change"), GOOD, ids=str)
def test_a_right_record_is_accepted(kind: str, change: dict[str, Any]) -> None:
    given = WHOLE[kind] | change
    taken = KINDS[kind](orjson.loads(orjson.dumps(given)), NOW)
    assert taken["time"] == given.get("time", NOW)
    assert {key: taken[key] for key in given if key not in ("time", "items")}.items() <= given.items()


@pytest.mark.parametrize(("kind", "change", "code", "at", "found"), BAD, ids=[f"{one[3]}-{one[4]}" for one in BAD])
def test_a_wrong_record_is_refused_with_its_place(
    kind: str, change: dict[str, Any], code: str, at: str, found: str | None
) -> None:
    with pytest.raises(RecordError) as refused:
        KINDS[kind](WHOLE[kind] | change, NOW)
    error = refused.value
    assert (error.code, error.fields["at"]) == (f"intake.{code}", at)
    assert error.fields.get("found") == found
    assert str(error).startswith(f"{at}: ")
    assert len(str(error)) < 400


def test_the_earliest_time_is_that_of_ingest() -> None:
    assert records.EARLIEST_MS == EARLIEST_MS


@pytest.mark.parametrize("value", [None, 1, "e1", [], [EVENT], True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_record_is_an_object(kind: str, value: Any) -> None:
    with pytest.raises(RecordError) as refused:
        KINDS[kind](value, NOW)
    assert refused.value.code == "intake.record-not-object"
    assert set(WHOLE[kind]) <= set(refused.value.fields["allowed"])


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026-01-01T12:00:00Z", NOW),
        ("2026-01-01T13:00:00.123456+01:00", NOW + 123),
        ("2025-12-31T12:00-00:00", NOW - DAY),
        ("1999-12-31T23:59:59.999Z", 946_684_799_999),
    ],
)
def test_times_in_words_become_milliseconds(text: str, milliseconds: int) -> None:
    assert KINDS["events"]({**EVENT, "time": text}, NOW)["time"] == milliseconds
