"""What is taken, and in what words the rest is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from endcap.spec.base import EARLIEST_MS
from endcap_serving.intake import records
from endcap_serving.intake.records import KINDS, RefusedError

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
    ("impressions", {"position": 1_000_000, "surface": "brand", "session": "s"}),
    ("orders", {"items": [{"item": "p1", "quantity": 2, "price": 9.95}, {"item": "p2", "price": 0}]}),
]
BAD: list[tuple[str, Any, str]] = [
    ("events", {"id": None}, "id: found nothing; allowed: a text of 1 to 256"),
    ("events", {"id": 7}, "id: found 7; allowed: a text"),
    ("events", {"item": ""}, "item: found ''"),
    ("events", {"item": "x" * 257}, "item: found 'xxxxxxxx"),
    ("events", {"item": "a\x00b"}, r"item: found 'a\x00b'; allowed: a text of 1 to 256 characters without control"),
    ("events", {"session": None}, "customer, session: found neither; allowed: at least one"),
    ("events", {"type": ["view"]}, "type: found a list"),
    ("events", {"itme": "p1"}, "itme: no such key; allowed in an event: customer, id, item"),
    ("events", {"time": NOW + DAY + 1}, "more than a day ahead of 2026-01-01T12:00:00"),
    ("events", {"time": NOW // 1000}, "before 1990 (are these seconds?)"),
    ("events", {"time": 1e300}, "time: found 1e+300; allowed: epoch milliseconds as an integer"),
    ("events", {"time": True}, "time: found a truth value"),
    ("events", {"time": "2026-01-01T12:00:00"}, "time: found '2026-01-01T12:00:00'; allowed: epoch milliseconds"),
    ("events", {"time": "0001-01-01T00:00:00+14:00"}, "time: found '0001"),
    ("events", {"time": "yesterday"}, "ISO 8601 text with a zone"),
    ("impressions", {"position": -1}, "position: found -1; allowed: an integer from 0"),
    ("impressions", {"position": 1.0}, "position: found 1.0"),
    ("impressions", {"position": None}, "position: found nothing"),
    ("impressions", {"type": "view"}, "type: no such key"),
    ("orders", {"customer": None}, "customer: found nothing"),
    ("orders", {"items": []}, "items: found 0 lines; allowed: a list of 1 to 1,000 lines"),
    ("orders", {"items": {"item": "p1"}}, "items: found an object"),
    ("orders", {"items": ["p1"]}, "items[0].found 'p1'; allowed: a line, an object"),
    ("orders", {"items": [{"item": "p1"}, {"item": "p2", "quantity": 0}]}, "items[1].quantity: found 0"),
    ("orders", {"items": [{"item": "p1", "price": -1}]}, "items[0].price: found -1"),
    ("orders", {"items": [{"item": "p1", "sku": 1}]}, "items[0].sku: no such key; allowed in a line"),
]


@pytest.mark.parametrize(("kind", "change"), GOOD, ids=str)
def test_what_is_right_is_taken(kind: str, change: dict[str, Any]) -> None:
    given = WHOLE[kind] | change
    taken = KINDS[kind](orjson.loads(orjson.dumps(given)), NOW)
    assert taken["time"] == given.get("time", NOW)
    assert {key: taken[key] for key in given if key not in ("time", "items")}.items() <= given.items()


@pytest.mark.parametrize(("kind", "change", "says"), BAD, ids=[says[:40] for _, _, says in BAD])
def test_what_is_wrong_is_refused_where_it_stands(kind: str, change: dict[str, Any], says: str) -> None:
    with pytest.raises(RefusedError) as refused:
        KINDS[kind](WHOLE[kind] | change, NOW)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 400


def test_what_ingest_would_set_aside_as_too_old_is_not_taken() -> None:
    assert records.EARLIEST_MS == EARLIEST_MS


@pytest.mark.parametrize("value", [None, 1, "e1", [], [EVENT], True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_record_is_an_object(kind: str, value: Any) -> None:
    with pytest.raises(RefusedError, match=r"^found .*; allowed: an? .* an object with the keys"):
        KINDS[kind](value, NOW)


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
