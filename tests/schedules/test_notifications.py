"""Notifications in each form, at the real webhook: what is forged, unknown or double wakes up nothing."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

import httpx
import pytest

from endcap.errors import RequestError
from endcap.schedules.notifications import NotificationDesk, parse_notifications
from endcap.schedules.webhook import LARGEST, NotificationWebhook, read_token
from endcap.spec.shop import Shop

TOKEN = "0123456789abcdef0123"
SHOP = Shop.model_validate(
    {
        "apiVersion": "endcap/v2",
        "kind": "Shop",
        "name": "shoes",
        "events": {
            "sources": [{"path": "s3://log/shoes/day=*/*.parquet"}],
            "columns": {"session": "s", "item": "i", "time": "t", "type": "y"},
            "types": ["view"],
        },
    }
)
RECORD = {
    "eventSource": "aws:s3",
    "eventName": "ObjectCreated:Put",
    "eventTime": "2026-03-02T03:00:00.000Z",
    "s3": {
        "bucket": {"name": "log"},
        "object": {
            "key": "shoes/day%3D2026-03-01/a+b.parquet",
            "size": 7,
            "eTag": "e1",
            "sequencer": "0055AED6DCD90281E5",
        },
    },
}
S3 = {"Records": [RECORD]}
DETAIL = {"bucket": {"name": "log"}, "object": {"key": "shoes/day=2026-03-01/a b.parquet", "etag": "e1"}}
EVENT_BRIDGE = {"source": "aws.s3", "detail-type": "Object Created", "time": "2026-03-02T03:00:00Z", "detail": DETAIL}
EVENT = {"specversion": "1.0", "id": "1", "source": "aws:s3", "type": "com.amazonaws.s3.ObjectCreated:Put"}
PLAIN, STRUCTURED = (
    {"content-type": "application/json"},
    {"content-type": "application/cloudevents+json; charset=utf-8"},
)
BATCH = {"content-type": "application/cloudevents-batch+json"}
BINARY = {"content-type": "application/json", **{f"ce-{name}": value for name, value in EVENT.items()}}


def _later(sequencer: str, etag: str) -> dict[str, Any]:
    about = {**RECORD["s3"]["object"], "sequencer": sequencer, "eTag": etag}  # type: ignore[index]
    return {"Records": [{**RECORD, "s3": {"bucket": {"name": "log"}, "object": about}}]}


@pytest.mark.parametrize(
    ("headers", "document"),
    [
        (PLAIN, S3),
        (PLAIN, {"EventName": "s3:ObjectCreated:Put", "Key": "log/shoes/a", **S3}),
        (PLAIN, {"Type": "Notification", "MessageId": "1", "Message": json.dumps(S3)}),
        (PLAIN, EVENT_BRIDGE),
        (STRUCTURED, {**EVENT, "data": S3}),
        (STRUCTURED, {**EVENT, "data": RECORD}),
        (STRUCTURED, {**EVENT, "data": DETAIL}),
        (BATCH, [{**EVENT, "data": S3}]),
        (BINARY, S3),
        (BINARY, DETAIL),
    ],
)
def test_each_form_names_the_same_object(headers: dict[str, str], document: Any) -> None:
    (notice,) = parse_notifications(headers, json.dumps(document).encode()).notices
    assert notice.address == "s3://log/shoes/day=2026-03-01/a b.parquet"
    assert notice.etag == "e1"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (PLAIN, b"<html>"),
        (PLAIN, b"[]"),
        (PLAIN, b"{}"),
        (PLAIN, b'{"Records": 3}'),
        (PLAIN, b'{"Records": [{"s3": {"bucket": {"name": 3}, "object": {"key": "a"}}}]}'),
        (PLAIN, b'{"Type": "Notification", "Message": "no JSON"}'),
        (STRUCTURED, json.dumps({"data": S3}).encode()),
        (BATCH, json.dumps(S3).encode()),
    ],
)
def test_what_is_no_notification_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse_notifications(headers, body)
    assert caught.value.code == "schedule.notification-malformed"


def test_doubles_disorder_and_strangers_are_counted() -> None:
    desk = NotificationDesk([SHOP])

    def accept(document: dict[str, Any]) -> set[str]:
        return desk.accept(parse_notifications(PLAIN, json.dumps(document).encode()))

    assert accept(_later("0A", "e2")) == {"shoes"}
    assert accept(_later("0A", "e2")) == set()
    assert accept(_later("09F", "e1")) == {"shoes"}
    assert accept(json.loads(json.dumps(S3).replace("shoes", "hats"))) == set()
    assert accept({"Service": "Amazon S3", "Event": "s3:TestEvent"}) == set()
    assert accept({"Type": "SubscriptionConfirmation", "SubscribeURL": "http://127.0.0.1:1/"}) == set()
    assert desk.counts == {"accepted": 1, "double": 1, "disordered": 1, "unknown": 1, "test": 1, "unconfirmed": 1}


def test_only_who_shows_the_token_wakes_up_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_SCHEDULE_TOKEN", f"{TOKEN}\n")
    woken: list[set[str]] = []
    webhook = NotificationWebhook(NotificationDesk([SHOP]), woken.append, "127.0.0.1", 0, read_token())
    try:
        with httpx.Client(timeout=30) as client:
            post = functools.partial(client.post, webhook.address)
            assert post(json=S3).status_code == 401
            assert post(json=S3, headers={"authorization": "Bearer 0123456789abcdef0124"}).status_code == 401
            assert woken == []
            bearer = {"authorization": f"Bearer {TOKEN}"}
            answer = post(json=S3, headers=bearer)
            assert (answer.status_code, answer.json(), woken) == (202, {"woken": ["shoes"]}, [{"shoes"}])
            basic = base64.b64encode(f"sns:{TOKEN}".encode()).decode()
            assert post(json=S3, headers={"authorization": f"Basic {basic}"}).json() == {"woken": []}
            assert post(content=b"{}", headers=bearer).status_code == 400
            assert post(content=b" " * (LARGEST + 1), headers=bearer).status_code == 413
            counts = client.get(webhook.address, headers=bearer).json()
            assert counts == {"forged": 2, "accepted": 1, "double": 1, "malformed": 1, "too-large": 1}
    finally:
        webhook.close()
