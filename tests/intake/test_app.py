"""The application in this process: spans, odd bodies by the thousand, and what the guide says."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from endcap_serving.intake.app import IntakeApp
from endcap_serving.intake.intake import Intake, IntakeSettings
from endcap_serving.intake.parquet import SCHEMAS
from endcap_serving.intake.records import KINDS
from endcap_serving.intake.request_bodies import MOST_HELD
from endcap_serving.tracing import Tracing
from tests.intake.servers import event, ids
from tests.intake.test_records import WHOLE

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "intake.md").read_text()
REFERENCE = (DOCS / "intake-reference.md").read_text()
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    1e308,
    -0.0,
    "",
    "a",
    "\u0000",
    "x" * 5000,
    "2026-13-01T00:00:00Z",
    [],
    {},
]
VALUES += [[[]] * 50, {"id": {"id": 1}}, "١٢", "\U0001f600" * 256, ["a"], "2026-01-01T00:00:00+99:99", 10**15]


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def app(tmp_path: Path, spans: InMemorySpanExporter) -> Iterator[IntakeApp]:
    intake = Intake(IntakeSettings(tmp_path / "intake", str(tmp_path / "out"), reserve=0))
    intake.start()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    made = IntakeApp(intake, Tracing(provider))
    yield made
    made.intake.end()


def ask(app: IntakeApp, *requests: tuple[str, Any, dict[str, str]]) -> list[httpx.Response]:
    """Answers to requests that are made at once."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://intake") as client:
            typed = {"content-type": "application/json"}
            posts = [client.post(path, json=body, headers={**typed, **headers}) for path, body, headers in requests]
            return await asyncio.gather(*posts)

    return asyncio.run(all_of_them())


def test_a_request_is_a_span_of_its_callers_trace(app: IntakeApp, spans: InMemorySpanExporter) -> None:
    parent = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-request-id": "abc"}
    ask(app, ("/v1/events", event("e1"), parent), ("/v1/orders", {}, {}))
    first, second = sorted(spans.get_finished_spans(), key=lambda span: span.name)
    assert first.name == "POST /v1/events"
    assert f"{first.context.trace_id:032x}" == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert dict(first.attributes or {}) == {"endcap.request_id": "abc", "http.response.status_code": 200}
    assert (second.parent, dict(second.attributes or {})["http.response.status_code"]) == (None, 400)


def test_no_body_however_odd_is_an_error_of_the_intakes_own(app: IntakeApp, tmp_path: Path) -> None:
    chance = random.Random(1)

    def odd(kind: str) -> Any:
        if chance.random() < 0.05:
            return chance.choice(VALUES)
        record = json.loads(json.dumps(WHOLE[kind])) | {"id": f"{chance.random()}"}
        for _ in range(chance.randint(0, 2)):
            record[chance.choice([*record, "time", "type", "session", "quantity", "😀"])] = chance.choice(VALUES)
        return record

    requests: list[tuple[str, Any, dict[str, str]]] = []
    for number in range(1500):
        kind = chance.choice(list(KINDS))
        body = [odd(kind) for _ in range(chance.randint(0, 6))] if number % 2 else odd(kind)
        requests.append((f"/v1/{kind}", body, {"x-request-id": chance.choice(["", "a b", "\t", "x" * 300, "ok"])}))
    answers = ask(app, *requests)
    assert {one.status_code for one in answers} == {200, 207, 400}
    for (_, body, _), answer in zip(requests, answers, strict=True):
        said = answer.json()
        assert answer.status_code != 400 or said["code"].startswith("intake.")
        assert all(one["code"].startswith("intake.") for one in said.get("rejected", ()))
        if isinstance(body, list):
            assert said["accepted"] + said["duplicates"] + len(said.get("rejected", ())) == len(body)
    taken = sum(one.json().get("accepted", 0) for one in answers)
    app.intake.end()
    lines = sum(not name.endswith(("#0", "#1")) for name in ids(tmp_path / "out"))
    assert lines + len(ids(tmp_path / "out", "impressions")) + len(set(ids(tmp_path / "out", "orders"))) == taken > 500
    app.intake = Intake(app.intake.settings)
    app.intake.start()


def test_more_bodies_at_once_than_memory_is_meant_for_are_put_off(app: IntakeApp) -> None:
    app.body_memory.held = MOST_HELD
    (answer,) = ask(app, ("/v1/events", event("e1"), {}))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["code"] == "intake.bodies-too-many"
    assert app.body_memory.held == MOST_HELD
    app.body_memory.held = 0
    (answer,) = ask(app, ("/v1/events", event("e1"), {}))
    assert (answer.json(), app.body_memory.held) == ({"accepted": 1, "duplicates": 0}, 0)


def test_the_guides_commands_are_answered_as_it_says(app: IntakeApp) -> None:
    asked = re.findall(
        r"^curl localhost:8090(/v1/\w+) -H 'content-type: application/json' -d '(.*)'$", GUIDE, re.MULTILINE
    )
    assert {path for path, _ in asked} == {f"/v1/{kind}" for kind in KINDS}
    for answer in ask(app, *((path, json.loads(body), {}) for path, body in asked)):
        assert answer.status_code == 200
    assert '{"accepted":1,"duplicates":0}' in GUIDE
    for kind in KINDS:
        (columns,) = re.findall(rf"^\| {kind}[^|]*\| (`.*`) \|$", REFERENCE, re.MULTILINE)
        assert re.findall(r"`(\w+)`", columns) == SCHEMAS[kind].names
