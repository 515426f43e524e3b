"""What a real gateway, predictor and intake did is replayed from what they wrote."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from endcap.cli.main import main
from endcap.deploy import Deployment, Target
from endcap.deploy.state import write_state
from endcap.pseudonyms import KEY
from endcap.replay import reasons
from endcap_serving.local.serve import serving
from tests.replay.conftest import Shop
from tests.reproduction.versions import load_specs, make_version

pytestmark = pytest.mark.slow
NAME = "served"


def test_what_was_served_is_explained(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    keys = {"model": {"name": "sequential-rules"}, "serving": {"samples": {"share": 1, "most_per_second": 1000}}}
    version = make_version(shop.store, load_specs(shop.folder, NAME, **keys), register=True)
    target = Target(version=version.version, package=version.package)
    write_state(Deployment(recommender=NAME, stable=target, salt="0", changed=datetime.now(UTC)), shop.store)
    begun = datetime.now(UTC) - timedelta(minutes=1)
    asked = 0
    with serving(shop.store, NAME) as address, httpx.Client(base_url=address, timeout=30) as client:
        for number in range(12):
            event = {"id": f"e{number}", "item": "abcxyz"[number % 6], "customer": f"ann{number % 4}", "type": "view"}
            assert client.post("/v1/events", json=event).status_code == 200
            for instance in ({"customer": event["customer"]}, {"items": ["a", "b"]}):
                body = {"instances": [instance, {"customer": "nobody"}]}
                answer = client.post(f"/v1/models/{NAME}:predict", json=body)
                assert answer.status_code == 200, answer.text
                asked += 2
    report = run_replay(shop, begun, capsys)
    assert report["answers"] == asked
    assert report["unexplained"] == 0
    assert report["checks"]["model"]["answers"] == {reasons.EQUAL: asked}
    log = report["checks"]["log"]["answers"]
    assert set(log) <= {reasons.EQUAL, reasons.FROM_REQUEST, reasons.IN_FLIGHT}
    assert log[reasons.FROM_REQUEST] == asked // 4
    assert log[reasons.EQUAL] >= asked // 2


def run_replay(shop: Shop, begun: datetime, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    until = datetime.now(UTC) + timedelta(minutes=1)
    capsys.readouterr()
    times = ["--since", begun.isoformat(), "--until", until.isoformat()]
    main(["replay", NAME, "--store", shop.store.root, *times, "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document
