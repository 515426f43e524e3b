"""Simulated shoppers at the real service: Envoy, two predictors and the intake."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.deploy import CanaryTarget, Deployment, Target
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.state import make_salt, write_state
from endcap.features.sessions import Sessions
from endcap.features.view import Vocabulary
from endcap.models import Fitting, make
from endcap.registry.package import write_package
from endcap.simulation.live_habits import LiveHabits
from endcap.simulation.live_shop import LiveShop
from endcap.simulation.live_shoppers import LiveShoppers
from endcap.simulation.simulate import SimulatedLog, simulate
from endcap.store import Store, open_store
from endcap_serving.local.serve import serving
from tests.serving.conftest import recommender

NAME = "shoes"


def publish_package(store: Store, model: str, log: SimulatedLog) -> str:
    """Fit a model on the log, and return the address of its package."""
    frame = log.events.to_pandas().query("type == 'view'")
    numbers = {item: number for number, item in enumerate(log.truth.items)}
    visits = frame.assign(number=frame["item"].map(numbers)).groupby("session")["number"].agg(list)
    spec = recommender(model)
    fitted = make(spec.model)
    fitted.fit(Sessions.of(list(visits)), len(numbers), Fitting(seed=1, settings={}))
    items = pa.table({"item": log.truth.items, "category": ["all"] * len(numbers)})
    with store.publish(f"packages/{NAME}", model) as draft:
        write_package(
            draft.path,
            model=fitted,
            vocabulary=Vocabulary(log.truth.items),
            items=items,
            recommender=spec,
            customers=pa.nulls(0, pa.string()),
            lineage={},
        )
    return draft.address


@pytest.mark.slow
def test_shoppers_at_a_real_service_click_as_expected(tmp_path: Path) -> None:
    log = simulate(seed=5, days=3, events=6_000, items=60, customers=300)
    store = open_store(str(tmp_path))
    stable, canary = (publish_package(store, model, log) for model in ("sequential-rules", "popularity"))
    state = Deployment(
        recommender=NAME,
        stable=Target(version="1", package=stable),
        canary=CanaryTarget(version="2", package=canary, share=0.5),
        salt=make_salt(NAME, "2"),
        terms=GatewaySettings(popular=tuple(log.truth.items[:10])),
        changed=datetime.now(UTC),
    )
    write_state(state, store)
    shoppers = LiveShoppers(log, replace(LiveHabits(), interest=0.9), seed=1)
    with serving(store, NAME, listener=lambda event: None) as address:
        shop = LiveShop(address, NAME, shoppers, visits_per_second=50.0, pause=0.01, most_visits=8, timeout=20.0)
        counts = shop.run(150)
    assert set(counts.versions) == {("stable", "1"), ("canary", "2")}
    assert (dict(counts.failures), dict(counts.reasons)) == ({}, {})
    for version in counts.versions.values():
        assert version.clicks == pytest.approx(version.expected_clicks, abs=3.5 * sqrt(version.variance))
    expected = {variant: shown.expected_clicks / shown.rankings for variant, shown in counts.by_variant.items()}
    assert expected["stable"] > 1.5 * expected["canary"]
    files = [file for file in tmp_path.rglob("*.parquet") if "impressions" in file.parts]
    reported = pa.concat_tables(pq.read_table(file) for file in files)
    assert reported.num_rows == counts.accepted["impressions"]
    assert set(reported["shopper"].to_pylist()) <= counts.shoppers
    assert len(set(reported["ranking_id"].to_pylist())) == counts.rankings
