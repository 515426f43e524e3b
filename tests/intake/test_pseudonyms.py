"""An intake with pseudonyms: what it keeps, everywhere, are pseudonyms of the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from endcap.online import name_customer_owner, open_online
from endcap.pseudonyms import KEY, Pseudonymiser
from endcap_serving.intake.__main__ import main
from endcap_serving.intake.app import IntakeApp
from endcap_serving.intake.intake import Intake, IntakeSettings
from tests.intake.servers import eventually, read_sealed
from tests.intake.test_app import ask

MAKER = Pseudonymiser(b"the key of this test, no secret")
OWNERS = {"customer": "cust-of-anna", "session": "sess-of-anna", "shopper": "shop-of-anna"}
RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("events", {"id": "e1", "item": "i1", **OWNERS}),
    ("impressions", {"id": "m1", "item": "i1", "ranking_id": "r.0", "position": 0, **OWNERS}),
    ("orders", {"id": "o1", "items": [{"item": "i1"}], **OWNERS}),
]


def test_no_file_and_no_store_has_a_plain_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_online(f"sqlite:///{tmp_path / 'online.db'}", shop="test")
    intake = Intake(IntakeSettings(tmp_path / "intake", str(tmp_path / "out"), reserve=0), store)
    intake.start()
    app = IntakeApp(intake, pseudonymiser=MAKER)
    caplog.set_level("INFO")
    try:
        for kind, record in RECORDS:
            (reply,) = ask(app, (f"/v1/{kind}", dict(record), {}))
            assert reply.status_code == 200, reply.text
        # What is refused is quoted to the caller alone.
        wrong = {"id": "e2", "item": "i1", "customer": "cust-of-anna\x01"}
        (reply,) = ask(app, ("/v1/events", wrong, {}))
        assert reply.status_code == 400
        assert "cust-of-anna" in reply.text
        assert "cust-of-anna" not in "".join(json.dumps(vars(record), default=str) for record in caplog.records)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert any(b"p-" in path.read_bytes() for path in (tmp_path / "intake").rglob("*") if path.is_file())
        eventually(lambda: intake.writer and not intake.writer.failure and _is_followed(tmp_path))
    finally:
        intake.end()
    for path in [*files, *(path for path in tmp_path.rglob("*") if path.is_file())]:
        if path.exists():
            content = path.read_bytes()
            assert not [owner for owner in OWNERS.values() if owner.encode() in content], path
    for kind, _ in RECORDS:
        (row,) = read_sealed(tmp_path / "out", kind).to_pylist()[:1]
        assert {name: row[name] for name in OWNERS} == {
            name: MAKER.pseudonymise(owner) for name, owner in OWNERS.items()
        }


def _is_followed(folder: Path) -> bool:
    with_events = open_online(f"sqlite:///{folder / 'online.db'}", shop="test")
    try:
        owner = name_customer_owner(MAKER.pseudonymise(OWNERS["customer"]))
        return bool(with_events.recent([owner], 10)[0])
    finally:
        with_events.close()


def test_an_intake_without_the_key_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setattr("endcap_serving.intake.__main__.log_json_lines", lambda: None)
    assert main(["--folder", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--pseudonyms"]) == 1
    assert not (tmp_path / "in").exists()
