"""What `endcap serve` lets whom do: this machine's user, a page that he looks at, and who comes from elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from endcap.store import open_store
from endcap_serving.gateway.access.policy_file import PolicyFile
from endcap_serving.gateway.access.settings import AccessSettings
from endcap_serving.local import envoy_process
from endcap_serving.local.events import AccessNotFollowed, ServingEvent
from endcap_serving.local.serve import serving
from endcap_serving.local.supervisor import Supervisor
from tests.access.credentials import make_client, make_policy
from tests.serving.conftest import Shop
from tests.serving.pod import wait_for
from tests.serving.test_supervisor import desire

PREDICT = "/v1/models/{name}:predict"
EXPLAIN = {"instances": [{"items": [], "k": 1, "explain": True}]}
ATTACKER = "https://attacker.example"


def listens(text: str, root: str) -> int:
    """The port of the process whose command line has both."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_text().split("\0")
        except OSError:
            continue
        if text in words and any(root in word for word in words):
            return int(words[words.index("--port") + 1])
    raise AssertionError(f"no process of {text}")


def read_code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def test_the_user_may_do_everything_and_a_page_nothing(shop: Shop) -> None:
    desire(shop, "3", name="laptop")
    event = {"id": "e1", "session": "s", "item": shop.ids[0], "type": "view"}
    root = shop.store.root.removeprefix("file://")
    with serving(open_store(shop.store.root), "laptop", listener=lambda event: None) as address:
        predict, events = address + PREDICT.format(name="laptop"), f"{address}/v1/events"
        assert httpx.post(predict, json=EXPLAIN).json()["predictions"][0]["removed"] == []
        assert read_code(httpx.post(events, json=event)) == (200, "")
        direct = f"http://127.0.0.1:{listens('endcap_serving.intake', root)}/v1/events"
        predictor = f"http://127.0.0.1:{listens('endcap_serving.predictor', root)}" + PREDICT.format(name="laptop")
        # What a browser lets a page send without asking, and what a name that is turned to 127.0.0.1 adds to that.
        unasked = {"content": json.dumps(event), "headers": {"content-type": "text/plain"}}
        for url in (events, direct):
            assert httpx.post(url, **unasked).status_code == 415  # type: ignore[arg-type]
            assert httpx.post(url, json=event, headers={"origin": ATTACKER}).status_code == 403
            assert httpx.options(url, headers={"origin": ATTACKER}).headers.get("access-control-allow-origin") is None
        for url in (events, predict):
            assert (
                read_code(httpx.post(url, json=event, headers={"host": "attacker.example"}))[1]
                == "gateway.host-refused"
            )
        forged = {"origin": ATTACKER, "x-endcap-scope": "explain,owned"}
        assert read_code(httpx.post(predictor, json=EXPLAIN, headers=forged)) == (403, "predictor.explain-forbidden")
        assert read_code(httpx.post(predict, json=EXPLAIN, headers=forged)) == (403, "gateway.origin-refused")


@pytest.mark.slow
def test_beyond_loopback_all_get_rankings_and_a_policy_that_changes_says_who_gets_more(
    shop: Shop, tmp_path: Path
) -> None:
    desire(shop, "3", name="beyond")
    file = tmp_path / "access.yaml"

    def write(*keys: str, **more: Any) -> None:
        scopes = ("rank", "explain", "events")
        document = make_policy(clients=[make_client("web", *keys, scopes=scopes)], **more).model_dump(exclude_none=True)
        (tmp_path / "draft").write_text(json.dumps(document))
        (tmp_path / "draft").replace(file)

    def explain(address: str, key: str = "") -> tuple[int, str]:
        shown = {"x-endcap-key": key} if key else {}
        return read_code(httpx.post(address + PREDICT.format(name="beyond"), json=EXPLAIN, headers=shown))

    with serving(open_store(shop.store.root), "beyond", host="0.0.0.0", listener=lambda event: None) as address:
        assert explain(address, "any") == (403, "predictor.explain-forbidden")
        assert read_code(httpx.post(f"{address}/v1/events", json={})) == (403, "gateway.scope-missing")
    write("first-key", anonymous=["rank"])
    command = [sys.executable, "-c", "from endcap.cli.main import main; main()", "serve", "beyond", "--port", "0"]
    command += ["--host", "0.0.0.0", "--json", "--store", shop.store.root, "--access", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stdout is not None
            address = next(
                event["address"] for line in process.stdout if (event := json.loads(line))["event"] == "served"
            )
            assert explain(address) == (403, "predictor.explain-forbidden")
            assert explain(address, "first-key") == (200, "")
            write("next-key")
            wait_for(lambda: explain(address, "next-key") == (200, ""), "the next key is taken")
            assert explain(address, "first-key") == (401, "gateway.credential-invalid")
            file.write_text("anonymous: [all]")
            told = next(
                event for line in process.stdout if (event := json.loads(line))["event"] == "access-not-followed"
            )
            assert told["error"]["code"] == "access.policy-invalid"
            assert explain(address, "next-key") == (200, "")
        finally:
            process.terminate()


@pytest.mark.slow
def test_a_key_is_withdrawn_though_envoy_did_not_follow_at_once(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desire(shop, "3", name="withdrawn")
    (file := tmp_path / "access.yaml").write_text(make_policy(clients=[make_client("web", "key")]).model_dump_json())
    events: list[ServingEvent] = []
    supervisor = Supervisor(
        shop.store, "withdrawn", "127.0.0.1", 0, events.append, settings=AccessSettings(PolicyFile(file))
    )

    def status() -> int:
        url = supervisor.address + PREDICT.format(name="withdrawn")
        return httpx.post(url, json={"instances": [{"items": []}]}, headers={"x-endcap-key": "key"}).status_code

    def stepped(met: Callable[[], bool]) -> bool:
        supervisor.step()
        return met()

    try:
        supervisor.start(threading.Event())
        assert status() == 200
        assert supervisor._gateway.envoy is not None
        envoy = supervisor._gateway.envoy.process.pid
        monkeypatch.setattr(envoy_process, "_PATIENCE", 0.5)  # Only now: Envoy's start may take longer.
        os.kill(envoy, signal.SIGSTOP)
        file.write_text(make_policy(clients=[make_client("web", "another")]).model_dump_json())
        wait_for(
            lambda: stepped(lambda: any(isinstance(event, AccessNotFollowed) for event in events)), "it is late", 30
        )
        os.kill(envoy, signal.SIGCONT)
        wait_for(lambda: stepped(lambda: status() == 401), "the key is taken no more", 90)
        assert supervisor._gateway.envoy.process.pid == envoy, "the one that was late"
    finally:
        supervisor.close()
