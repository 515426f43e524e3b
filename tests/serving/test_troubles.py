"""What fails while versions are served ends nothing: it is told once, tried again, and told when it has passed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from endcap.deploy import set_share
from endcap_serving import watchdog
from endcap_serving.local.events import (
    GatewayFailed,
    IntakeFailed,
    PartFailed,
    PartRecovered,
    PredictorFailed,
    RoutesChanged,
    ServingEvent,
    ServingStopped,
    StateUnreadable,
)
from endcap_serving.local.serve import serving
from tests.serving.conftest import Shop
from tests.serving.pod import wait_for
from tests.serving.test_supervisor import Server, desire, processes

NAME = "shoes"


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Server]:
    desire(shop, "1", "2", 0.1)
    events: list[ServingEvent] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(watchdog, "EVERY", 0.2)
        patched.setattr(watchdog, "WITHIN", 1.0)
        patched.setattr(watchdog, "MISSED", 3)
        with serving(shop.store, NAME, listener=events.append) as address:
            yield Server(address, events)
        assert not [event for event in events if isinstance(event, ServingStopped)]


@pytest.fixture
def document(shop: Shop) -> Iterator[Path]:
    """The desired state's file, as it was at the end."""
    file = Path(shop.store.root.removeprefix("file://")) / "deployments" / f"{NAME}.json"
    good = file.read_text()
    yield file
    if file.is_dir():
        file.rmdir()
    file.write_text(good)


def run_folder(shop: Shop) -> Path:
    runs = Path(shop.store.root.removeprefix("file://"), ".work/serving", NAME).iterdir()
    return max(runs, key=lambda run: run.stat().st_mtime)


def assert_answered(server: Server) -> None:
    """By a version: on a machine that has much to do the list may answer first."""
    body = {"instances": [{"items": [], "k": 1}]}

    def answered() -> bool:
        answer = httpx.post(f"{server.address}/v1/models/{NAME}:predict", json=body, timeout=10)
        return answer.headers.get("x-endcap-variant") in ("stable", "canary")

    wait_for(answered, "a version answers")


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda file: file.write_text("{"), "deploy.state-damaged"),
        (lambda file: file.write_text('{"format": 99}'), "store.newer-format"),
        (lambda file: file.write_text("[" * 100_000), None),
        (a_folder, None),
    ],
    ids=["no JSON", "newer", "deep", "no file"],
)
def test_a_document_that_cannot_be_read_is_told_once_and_stops_nothing(
    server: Server, document: Path, spoil: Callable[[Path], None], code: str | None
) -> None:
    good = document.read_text()
    server.events.clear()
    spoil(document)
    error = server.wait_for(StateUnreadable, within=60).error
    assert error.code == code or code is None
    time.sleep(0.5)
    assert_answered(server)
    assert not [event for event in server.events if isinstance(event, StateUnreadable)], "told once"
    if document.is_dir():
        document.rmdir()
    document.write_text(good)
    server.wait_for(PartRecovered, within=60)


def removed(folder: Path) -> None:
    shutil.rmtree(folder)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


@pytest.mark.parametrize("spoil", [removed, a_file])
def test_a_run_folder_that_is_lost_is_made_again_and_the_gateway_with_it(
    server: Server, shop: Shop, spoil: Callable[[Path], None]
) -> None:
    desire(shop, "1", "2", 0.1)
    folder = run_folder(shop)
    server.events.clear()
    spoil(folder)
    if spoil is a_file:
        server.wait_for(PartFailed, within=60)
        folder.unlink()
    set_share(NAME, 0.3, shop.store)
    server.wait_for(RoutesChanged, share=0.3, within=60)
    assert_answered(server)
    assert (folder.stat().st_mode & 0o777, (folder / "gateway").stat().st_mode & 0o777) == (0o700, 0o700)


def test_a_full_disk_delays_a_share_and_nothing_else(server: Server, shop: Shop) -> None:
    desire(shop, "1", "2", 0.1)
    time.sleep(0.5)
    draft = run_folder(shop) / "gateway" / ".routes.json"
    draft.symlink_to("/dev/full")
    server.events.clear()
    set_share(NAME, 0.4, shop.store)
    assert server.wait_for(PartFailed, within=60).error.code == "serving.disk-full"
    assert_answered(server)
    draft.unlink()
    server.wait_for(RoutesChanged, share=0.4, within=60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "kind"),
    [("envoy", GatewayFailed), ("--variant stable", PredictorFailed), ("endcap_serving.intake", IntakeFailed)],
    ids=["gateway", "predictor", "intake"],
)
def test_a_stopped_process_is_killed_and_replaced(
    server: Server, shop: Shop, who: str, kind: type[GatewayFailed | PredictorFailed | IntakeFailed]
) -> None:
    desire(shop, "1", "2", 0.1)
    time.sleep(0.5)
    (pid,) = [pid for pid, line in processes(shop).items() if who in line]
    server.events.clear()
    os.kill(pid, signal.SIGSTOP)
    if kind is GatewayFailed:
        # While it is told of something.
        set_share(NAME, 0.2, shop.store)
    error = server.wait_for(kind, within=90).error
    assert (error.code, error.fields["pid"]) == ("serving.hung", pid)
    if kind is IntakeFailed:
        deadline = time.monotonic() + 90
        event = {"id": "e7", "time": "2026-01-01T12:00:00Z", "session": "s1", "item": shop.ids[0], "type": "view"}
        while httpx.post(f"{server.address}/v1/events", json=event, timeout=10).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    else:
        server.wait_for(RoutesChanged, canary="2", within=90)
        assert_answered(server)
