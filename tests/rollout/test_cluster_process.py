"""The controller's process, with its threads and a Lease, in a cluster whose objects are in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from kubernetes.client.exceptions import ApiException

from endcap.cluster.lease import ClusterLease
from endcap.messages import Messenger
from endcap.messages.addresses import VARIABLE
from endcap.messages.outbox import DOCUMENT
from endcap.rollout.messages import Notify
from endcap.store import Store
from endcap_serving.rollouts import process as process_module
from endcap_serving.rollouts.process import RolloutProcess
from tests.messages.receiver import Receiver
from tests.rollout.cluster_shop import ClusterShop, serve_from_a_bucket
from tests.rollout.fake_api import NAMESPACE


@pytest.fixture
def shop(shop_store: Store, monkeypatch: pytest.MonkeyPatch) -> ClusterShop:
    serve_from_a_bucket(monkeypatch)
    shop = ClusterShop(shop_store)
    shop.ask("2")
    shop.tick(4)
    assert shop.served == ("1", "2", 0.1)
    return shop


@contextmanager
def run_process(shop: ClusterShop, holder: str = "first", *notify: Notify) -> Iterator[RolloutProcess]:
    lease = ClusterLease(shop.api.connect(), "rollouts", NAMESPACE, holder)
    process = RolloutProcess(lease, lambda: shop.start_loop(notify=notify))
    thread = threading.Thread(target=process.run)
    thread.start()
    try:
        yield process
    finally:
        process.stop()
        thread.join()


def wait_for(look: Callable[[], bool], patience: float) -> None:
    deadline = time.monotonic() + patience
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_traffic_returns_soon_after_an_api_server_that_refused_for_long(
    shop: ClusterShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever keeps the Lease is not in a hurry; who lost it meanwhile must not wait for that.
    monkeypatch.setattr(process_module, "RENEWAL", 60.0)
    refused: list[str] = []

    def refuse(moment: str) -> None:
        refused.append(moment)
        error = ApiException(status=429, reason="TooManyRequests")
        error.headers = {"Retry-After": "60"}
        raise error

    shop.api.disturb = refuse
    with run_process(shop):
        wait_for(lambda: len(refused) >= 3, 40)
        shop.want("2", outcome="Abort")
        assert shop.served == ("1", "2", 0.1)
        shop.api.disturb = lambda moment: None
        wait_for(lambda: shop.served == ("1", "", 0.0), 40)
    assert not shop.api.get("leases", "rollouts")["spec"].get("holderIdentity")


def test_a_process_that_takes_over_acts_at_once(shop: ClusterShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "PAUSE", 60.0)
    with run_process(shop, "first") as first:
        # Its first round came with the Lease, and not after a pause.
        wait_for(lambda: first._rollouts is not None, 40)
        with run_process(shop, "second") as second:
            first.stop()
            wait_for(lambda: second._rollouts is not None, 40)


@pytest.mark.slow
def test_a_webhook_that_hangs_holds_up_no_rollback(shop: ClusterShop) -> None:
    with Receiver(hang=60.0) as receiver:
        messenger = Messenger(shop.store, {VARIABLE: receiver.url})
        with run_process(shop, "first", lambda message: messenger.send(message.to_message(shop.store))) as process:
            shop.want("2", paused=True)
            wait_for(lambda: bool(receiver.tries), 40)
            # The receiver has its first message in hand, and does not answer.
            shop.want("2", outcome="Abort")
            wait_for(lambda: shop.served == ("1", "", 0.0), 40)
            assert process.is_well
        messenger.close(within=1.0)
    waiting = [entry["message"]["kind"] for entry in (shop.store.read_document(DOCUMENT) or {})["messages"]]
    assert waiting[-1] == "rollout.rolled-back"
