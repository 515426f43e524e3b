"""A/B tests of a namespace, in a cluster whose objects are in memory."""

from __future__ import annotations

import pytest

from endcap.ab.cluster_tests import ClusterTests
from endcap.ab.controller import AbController
from endcap.errors import TransientError
from endcap.experiments.ab_log import AbLog
from endcap.messages import Message
from endcap.registry import Registry
from endcap.store import Store
from tests.rollout.cluster_shop import ClusterShop, serve_from_a_bucket
from tests.rollout.fake_api import NAMESPACE
from tests.rollout.shop import MINUTE


def test_a_test_of_a_served_recommender_is_looked_at_and_finished(
    shop_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_from_a_bucket(monkeypatch)
    shop, told = ClusterShop(shop_store), list[Message]()
    tests = ClusterTests(
        shop.api.connect(), NAMESPACE, shop.store, None, notify=[told.append], read_clock=lambda: shop.now
    )
    controller = AbController(shop.store, "shoes", read_clock=lambda: shop.now)
    controller.start(["2", "3"])
    # Nobody serves it here yet, so it is another namespace's.
    assert tests.tick() == []
    shop.ask("2")
    shop.tick(2)
    assert shop.api.variants is not None
    shop.now += 10 * MINUTE
    assert [(report.recommender, dict(report.errors)) for report in tests.tick()] == [("shoes", {})]
    last = AbLog(shop.store, "shoes").find_last()
    assert last is not None
    assert (last.kind, last.after.reason) == ("decision", "no-feed")
    assert [message.kind for message in told] == ["ab.attention"]

    def fail(*_: object) -> None:
        raise TransientError("away", code="registry.away")

    # What is away for one is its own error, and the next tick goes on.
    monkeypatch.setattr(Registry, "list_versions", fail)
    monkeypatch.setattr(AbController, "look", fail)
    shop.now += 10 * MINUTE
    assert [set(report.errors) for report in tests.tick()] == [{"ab"}]
