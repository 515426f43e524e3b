"""What the gateway logs of shoppers, who may read it, and how much of it is kept; and Envoy's parent in a pod."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from endcap.errors import UserError
from endcap_serving.gateway.pseudonyms import KEY, Pseudonyms, ShopperLogging
from endcap_serving.gateway.routes import SHOPPER_HEADER, Split, Upstream
from endcap_serving.local import log_rotation
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.log_rotation import LogRotator, RotationSettings
from endcap_serving.local.predictors import find_free_port
from endcap_serving.local.process import Process
from tests.refusals import refused
from tests.serving.backends import Backend
from tests.serving.conftest import children, running
from tests.serving.pod import wait_for

SHOPPER = 'Zoë "the" customer'
PATH = "/v1/models/shoes:predict?who=zoe-7"


@pytest.fixture(scope="module")
def stable() -> Iterator[Upstream]:
    with Backend("stable-1") as backend:
        yield backend.upstream
        backend.shutdown()


def lines_of(file: Path, count: int) -> list[dict[str, Any]]:
    """Envoy writes its log every second."""
    wait_for(lambda: file.exists() and file.read_text().count("\n") >= count, "lines are written")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("shoppers", ["plain", "pseudonym", "none"])
@pytest.mark.slow
def test_the_access_log_shows_shoppers_as_configured_and_is_rotated(
    tmp_path: Path, stable: Upstream, shoppers: ShopperLogging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_rotation, "LOOK", 0.0)
    monkeypatch.setenv(KEY, "a key of 16 chars")
    # Longer than the path of a socket may be.
    folder = tmp_path / ("deep-" * 20) / "gateway"
    envoy = EnvoyProcess(folder, "127.0.0.1", 0, "shoes", Split(stable), shoppers=shoppers)
    log = folder / "access.log"
    try:
        headers = {SHOPPER_HEADER: SHOPPER.encode()}
        for _ in range(2):
            assert httpx.post(envoy.address + PATH, json={}, headers=headers).status_code == 200
        line, again = lines_of(log, 2)
        assert line.get("shopper") == again.get("shopper")
        pseudonym = Pseudonyms(b"a key of 16 chars").make_pseudonym(SHOPPER)
        assert line.get("shopper") == {"plain": SHOPPER, "pseudonym": pseudonym, "none": None}[shoppers]
        assert ("zoe-7" in line["path"]) == (shoppers == "plain")

        logs = LogRotator(folder, RotationSettings(size=1, kept=2))
        for count in range(3):
            logs.reconcile(lambda file: envoy.access_log.reopen if file == log else None)
            httpx.post(envoy.address + PATH, json={}, headers={**headers, "x-request-id": f"later-{count}"})
            assert [line["request_id"] for line in lines_of(log, 1)] == [f"later-{count}"]
        kept = sorted(file.name for file in folder.glob("access.log*"))
        assert kept == ["access.log", "access.log.1", "access.log.2"]
        assert "later-1" in (folder / "access.log.1").read_text()
        assert {file.stat().st_mode & 0o077 for file in folder.iterdir()} == {0}
    finally:
        envoy.end()


def test_a_childs_log_is_set_aside_while_the_child_writes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rotation, "LOOK", 0.0)
    script = "import time\nfor number in range(1000):\n print(number, flush=True)\n time.sleep(0.02)"
    child = Process("writer", [sys.executable, "-c", script], tmp_path / "writer.log")
    try:
        wait_for(lambda: "5\n" in child.log.read_text(), "it writes")
        LogRotator(tmp_path, RotationSettings(size=1)).reconcile(lambda file: None)
        assert (tmp_path / "writer.log.1").read_text().startswith("0\n1\n2\n")
        wait_for(lambda: child.log.stat().st_size > 0, "it writes on")
        assert not child.log.read_bytes().startswith(b"\0"), "at the file's end, wherever that is"
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    finally:
        child.kill()


def test_a_short_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "short")
    with refused(UserError, "serving.log-key-short", variable=KEY, least=16):
        Pseudonyms()


IMPATIENT = """
import sys
from endcap_serving import watchdog
from endcap_serving.gateway import envoy
watchdog.EVERY, watchdog.WITHIN, watchdog.MISSED = 0.1, 0.3, 3
sys.exit(envoy.main())
"""


@pytest.mark.slow
def test_a_stopped_envoy_ends_its_parent_so_that_the_container_restarts(tmp_path: Path) -> None:
    words = [
        "--namespace",
        "shop",
        "--host",
        "127.0.0.1",
        "--port",
        str(find_free_port()),
        "--metrics-port",
        "0",
        "--xds-port",
        str(find_free_port()),
    ]
    words += ["--admin", str(tmp_path / "own" / "admin.sock"), "--log-shoppers", "pseudonym"]
    with running([sys.executable, "-c", IMPATIENT, *words], tmp_path / "log") as parent:
        wait_for((tmp_path / "own" / "admin.sock").exists, "Envoy runs")
        # Once it has answered: until then it is starting.
        time.sleep(1.5)
        # Beside it is the xDS service, which has no cluster.
        (envoy,) = [child for child, words in children(parent.pid).items() if "--config-yaml" in words]
        os.kill(envoy, signal.SIGSTOP)
        assert parent.wait(20) == 128 + signal.SIGKILL
    assert '"code": "serving.hung"' in (tmp_path / "log").read_text()
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700
