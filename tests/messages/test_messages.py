"""Messages that survive trouble: receivers that hang, refuse, are away or full, and processes that end."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cloudevents.http import from_http

from endcap.errors import StorageError, UserError
from endcap.messages import Message, Messenger
from endcap.messages import outbox as outbox_module
from endcap.messages.addresses import VARIABLE, MessageAddress, read_addresses
from endcap.messages.formats import ID_HEADER, format_message
from endcap.messages.outbox import DOCUMENT, Delivery, Outbox
from endcap.messages.webhook import read_retry_after
from endcap.store import Store, open_store
from tests.messages.receiver import Receiver

START = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)


def make_message(number: int = 0, **changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": f"rollout/home/{number}",
        "kind": "rollout.raised",
        "time": datetime.now(UTC),
        "severity": "info",
        "title": f"home version 7: number {number}",
        "text": "ctr changes by <-9 %> at worst.",
        "recommender": "home",
        "version": "7",
        "dataset": "s3://b/datasets/demo/d1",
        "metrics": {"ctr": -0.01},
        "action": "Nothing",
    }
    return Message(**{**values, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def eventually(look: Callable[[], Any], patience: float = 40.0) -> None:
    deadline = time.monotonic() + patience
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_ids(receiver: Receiver) -> list[str]:
    return [headers[ID_HEADER] for headers in receiver.headers]


def test_messages_arrive_once_and_in_their_order(store: Store) -> None:
    with Receiver() as receiver:
        messenger = Messenger(store, {VARIABLE: f"json+{receiver.url}"})
        for number in (0, 1, 2, 1, 0):
            assert messenger.send(make_message(number)) == ""
        assert messenger.close() == ""
        again = Messenger(store, {VARIABLE: f"json+{receiver.url}"})
        again.send(make_message(2))
        again.close()
    assert read_ids(receiver) == [f"rollout/home/{number}" for number in range(3)]
    assert (store.read_document(DOCUMENT) or {})["messages"] == []


@pytest.mark.parametrize("answer", [(500, {}), (429, {"retry-after": "1"}), (503, {})])
def test_a_receiver_in_trouble_is_asked_again_and_the_order_stays(store: Store, answer: tuple[int, Any]) -> None:
    with Receiver(lambda number: answer if number == 0 else (200, {})) as receiver:
        messenger = Messenger(store, {VARIABLE: f"json+{receiver.url}"})
        messenger.send(make_message(0))
        messenger.send(make_message(1))
        eventually(lambda: len(receiver.bodies) == 2)
        messenger.close()
    assert read_ids(receiver) == ["rollout/home/0", "rollout/home/1"]
    assert receiver.tries[1] - receiver.tries[0] >= 0.9


def test_a_message_that_is_refused_does_not_hold_up_the_next(store: Store) -> None:
    with Receiver(lambda number: (400, {}) if number == 0 else (204, {})) as receiver:
        messenger = Messenger(store, {VARIABLE: f"json+{receiver.url}"})
        messenger.send(make_message(0))
        messenger.send(make_message(1))
        eventually(lambda: receiver.bodies)
        messenger.close()
    assert read_ids(receiver) == ["rollout/home/1"]
    assert [cursor["refused"] for cursor in (store.read_document(DOCUMENT) or {})["addresses"].values()] == [1]


def test_what_could_not_be_delivered_outlives_the_process(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refused = Messenger(store, {VARIABLE: f"http://127.0.0.1:{port}/hunter2"})
    refused.send(make_message(0))
    assert "hunter2" not in refused.close(within=1.0)
    outbox = Outbox(store, [MessageAddress(f"http://127.0.0.1:{port}/hunter2", "slack", 1)])
    time.sleep(1.1)
    sent: list[str] = []

    def post(message: Message, address: MessageAddress) -> Delivery:
        sent.append(message.id)
        return Delivery("delivered")

    assert outbox.deliver(post) is None
    assert sent == ["rollout/home/0"]


def test_a_receiver_that_hangs_delays_neither_the_sender_nor_its_end(store: Store) -> None:
    with Receiver(hang=30.0) as hanging, Receiver() as well:
        messenger = Messenger(store, {VARIABLE: f"json+{well.url} json+{hanging.url}"})
        begun = time.monotonic()
        for number in range(5):
            messenger.send(make_message(number))
        assert time.monotonic() - begun < 15
        begun = time.monotonic()
        messenger.close(within=1.0)
        assert time.monotonic() - begun < 15
        assert read_ids(well)[0] == "rollout/home/0"
    waiting = (store.read_document(DOCUMENT) or {})["messages"]
    assert [entry["number"] for entry in waiting] == list(range(5))


@pytest.mark.slow
def test_two_processes_deliver_each_message_once(store: Store) -> None:
    with Receiver() as receiver:
        environment = {VARIABLE: f"json+{receiver.url}"}
        messengers = [Messenger(store, environment) for _ in range(3)]
        threads = [
            threading.Thread(
                target=lambda own=own, first=first: [own.send(make_message(n)) for n in range(first, 30, 3)]
            )
            for first, own in enumerate(messengers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eventually(lambda: len(receiver.bodies) >= 30, 40)
        for messenger in messengers:
            messenger.close()
    assert sorted(read_ids(receiver)) == sorted(f"rollout/home/{number}" for number in range(30))


def test_a_process_that_was_killed_while_it_delivered_is_succeeded_by_another(store: Store) -> None:
    now = [START]
    address = MessageAddress("http://127.0.0.1:1/x", "json", 1)
    killed, other = (Outbox(store, [address], lambda: now[0]) for _ in range(2))
    killed.put(make_message(0, time=START))

    store.update_document(DOCUMENT, killed._claim)
    sent: list[str] = []

    def post(message: Message, address: MessageAddress) -> Delivery:
        sent.append(message.id)
        return Delivery("delivered")

    assert other.deliver(post) is not None
    assert sent == []
    now[0] += timedelta(seconds=61)
    assert other.deliver(post) is None
    assert sent == ["rollout/home/0"]


def test_waits_grow_and_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "GIVE_UP", timedelta(hours=1))
    now = [START]
    outbox = Outbox(store, [MessageAddress("http://127.0.0.1:1/x", "json", 1)], lambda: now[0])
    outbox.put(make_message(0, time=START))
    waits = []
    while (wait := outbox.deliver(lambda message, address: Delivery("failed", "away"))) is not None:
        waits.append(wait.total_seconds())
        now[0] += wait
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == 300
    assert now[0] - START >= timedelta(hours=1)


def test_without_an_address_nothing_is_kept(store: Store) -> None:
    messenger = Messenger(store, {})
    messenger.start()
    assert messenger.send(make_message()) == ""
    messenger.close()
    assert store.read_document(DOCUMENT) is None


def test_a_store_that_takes_nothing_costs_the_outbox_and_not_the_message(store: Store) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise StorageError("full", code="store.full")

    store.update_document = fail  # type: ignore[method-assign]
    with Receiver() as receiver:
        messenger = Messenger(store, {VARIABLE: receiver.url})
        messenger.send(make_message())
        eventually(lambda: receiver.bodies)
        messenger.close()


def test_formats_say_what_each_receiver_needs() -> None:
    message = make_message(3)
    _, body = format_message(message, "slack")
    text = json.loads(body)["text"]
    assert "&lt;-9 %&gt;" in text
    assert "-0.01" in text
    assert "s3://b/datasets/demo/d1" in text
    _, body = format_message(message, "json")
    assert Message.from_json(json.loads(body)) == message
    headers, body = format_message(message, "cloudevents")
    event = from_http(headers, body)
    assert (event["id"], event["type"]) == (message.id, "dev.cdeventsx.endcap-rollout.raised.0.1.0")
    assert event.data["context"]["type"] == event["type"]
    assert event.data["customData"]["metrics"] == {"ctr": -0.01}


@pytest.mark.parametrize(
    ("kind", "type_", "subject"),
    [
        ("rollout.rolled-back", "dev.cdevents.service.rolledback.0.2.0", "service"),
        ("gate.failed", "dev.cdevents.testsuiterun.finished.0.2.0", "testSuiteRun"),
        ("run.failed", "dev.cdevents.pipelinerun.finished.0.2.0", "pipelineRun"),
    ],
)
def test_cdevents_have_the_words_of_their_specification(kind: Any, type_: str, subject: str) -> None:
    headers, body = format_message(make_message(kind=kind, run="home-1"), "cloudevents")
    event = from_http(headers, body)
    assert (event["type"], event.data["subject"]["type"]) == (type_, subject)
    assert event.data["context"]["version"] == "0.4.1"


def test_an_address_is_shown_nowhere(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), Receiver(lambda number: (500, {})) as receiver:
        messenger = Messenger(store, {VARIABLE: receiver.url})
        messenger.send(make_message())
        eventually(lambda: receiver.tries)
        problem = messenger.close(within=0.5)
        assert "hunter2" not in repr(read_addresses({VARIABLE: receiver.url}))
    kept = "".join(file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file())
    assert "hunter2" not in "".join([problem, caplog.text, kept, *capfd.readouterr()])


@pytest.mark.parametrize(
    "text", ["hooks.example.com/hunter2", "teams+https://x/hunter2", "json+ftp://x/hunter2", "http://"]
)
def test_an_address_that_cannot_be_used_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(UserError) as refused:
        read_addresses({VARIABLE: text})
    assert refused.value.code == "messages.bad-address"
    assert "hunter2" not in str(refused.value) + repr(refused.value.fields)


def test_addresses_have_a_format_each() -> None:
    text = "https://a/x  json+https://b/y?p=a+b cloudevents+http://c/z https://d/e+f"
    assert [(address.url, address.format) for address in read_addresses({VARIABLE: text})] == [
        ("https://a/x", "slack"),
        ("https://b/y?p=a+b", "json"),
        ("http://c/z", "cloudevents"),
        ("https://d/e+f", "slack"),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("Mon, 02 Nov 2026 08:01:00 GMT", 60), ("Mon, 02 Nov 2026 07:00:00 GMT", 0), ("soon", None), ("", None)],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: int | None) -> None:
    read = read_retry_after(text, START)
    assert read == (None if seconds is None else timedelta(seconds=seconds))
