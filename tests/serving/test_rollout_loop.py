"""A rollout as users run it: predictors, Envoy, the intake, and the loop of `endcap serve`, with shoppers who click."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from endcap.deploy import deploy, find_state
from endcap.experiments.decision_log import DecisionLog
from endcap.features.view import Vocabulary
from endcap.models import Fitting, make
from endcap.registry import Registry, get_default_uri
from endcap.registry.package import write_package
from endcap.rollout.controller import RolloutController
from endcap.spec import Recommender
from endcap.store import Store, open_store
from endcap_serving.gateway.routes import SHOPPER_HEADER
from endcap_serving.local.events import RolloutChanged, ServingEvent
from endcap_serving.local.serve import serving
from tests.serving.conftest import N_ITEMS, sessions

POLICY: dict[str, Any] = {
    "metrics": [{"kind": "ctr", "types": ["click"], "window": "2s", "delay": "1s"}],
    "guardrails": [{"kind": "errors"}],
    "first_share": 0.4,
    "steps": [{"share": 0.6, "worst": -0.6}],
    "margin": 0.4,
    "look_every": "2s",
    "guard": {"previous_share": 0.1},
}
PREDICT = "/v1/models/quick:predict"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two versions of one recommender, the first of which serves everyone."""
    return make_store(tmp_path_factory.mktemp("rollout") / "store", POLICY)


def make_store(folder: Path, policy: dict[str, Any], versions: int = 2, **sections: Any) -> Store:
    """A store with some versions of one recommender, the first of which serves everyone."""
    import pyarrow as pa

    store = open_store(str(folder))
    ids = [f"p{number}" for number in range(N_ITEMS)]
    registry = Registry(get_default_uri(store))
    for version in map(str, range(1, versions + 1)):
        document = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "quick", "shop": "demo", **sections}
        spec = Recommender.model_validate({**document, "model": {"name": "popularity"}, "rollout": policy})
        model = make(spec.model)
        model.fit(sessions(300, seed=int(version)), N_ITEMS, Fitting(seed=1))
        with store.publish("packages/quick", version) as draft:
            write_package(
                draft.path,
                model=model,
                vocabulary=Vocabulary(ids),
                items=pa.table({"item": ids}),
                recommender=spec,
                customers=pa.array([], pa.string()),
                lineage={},
            )
        registry.add_version("quick", draft.address, "approved", "a test", {})
    deploy(spec, "1", store)
    return store


class Shoppers:
    """Shoppers who come one after the other, see a ranking, and click at the rate of the version that they meet."""

    def __init__(self, address: str, rates: dict[str, float]) -> None:
        self._address, self._rates = address, rates
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.statuses: set[int] = set()

    def __enter__(self) -> Shoppers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        rng, number = random.Random(7), 0
        with httpx.Client(base_url=self._address, timeout=10) as client:
            while not self._stop.is_set():
                impressions, clicks = [], []
                for _ in range(50):
                    number += 1
                    shopper = f"shopper-{number}"
                    answer = client.post(
                        PREDICT, json={"instances": [{"items": [], "k": 3}]}, headers={SHOPPER_HEADER: shopper}
                    )
                    self.statuses.add(answer.status_code)
                    ranking = answer.json()["predictions"][0]
                    mark = {
                        "id": f"i{number}",
                        "ranking_id": ranking["ranking_id"],
                        "item": ranking["items"][0]["item"],
                    }
                    impressions.append({**mark, "position": 0, "shopper": shopper})
                    if rng.random() < self._rates[ranking["model_version"]]:
                        clicks.append({**mark, "id": f"c{number}", "session": shopper, "type": "click"})
                self.statuses.add(client.post("/v1/impressions", json=impressions).status_code)
                self.statuses.add(client.post("/v1/events", json=clicks).status_code if clicks else 200)


@pytest.fixture
def events() -> list[ServingEvent]:
    return []


def wait_for_phase(store: Store, phases: tuple[str, ...], patience: float) -> str:
    deadline = time.monotonic() + patience
    last = None
    while time.monotonic() < deadline:
        last = DecisionLog(store, "quick").find_last()
        if last is not None and last.after.phase in phases:
            return last.after.phase
        time.sleep(0.2)
    raise AssertionError(last)


@pytest.mark.slow(minutes=1)
def test_a_version_is_promoted_by_what_shoppers_do_and_taken_back_by_it(
    store: Store, events: list[ServingEvent], tmp_path: Path
) -> None:
    with (
        serving(store, "quick", listener=events.append) as address,
        Shoppers(address, {"1": 0.3, "2": 0.35}) as shoppers,
    ):
        RolloutController(store, "quick").start("2")
        assert wait_for_phase(store, ("guarding", "rolled-back"), 120) == "guarding"
    assert shoppers.statuses == {200}
    state = find_state("quick", store)
    assert state is not None
    assert (state.stable.version, state.previous and state.previous.version) == ("2", "1")
    changes = [(event.phase, event.share) for event in events if isinstance(event, RolloutChanged)]
    assert changes[-1] == ("guarding", 1.0)
    log = DecisionLog(store, "quick")
    assert log.verify() > 3
    entries = [entry for entry in log.read_entries() if entry.evidence is not None]
    assert all(entry.evidence.mismatches == 0 and entry.evidence.problems == {} for entry in entries if entry.evidence)
    # Served again after its end, it goes on, and shoppers who now like the version before bring it back.
    with serving(store, "quick", listener=events.append) as address, Shoppers(address, {"1": 0.6, "2": 0.1}):
        assert wait_for_phase(store, ("rolled-back",), 120) == "rolled-back"
    state = find_state("quick", store)
    assert state is not None
    assert (state.stable.version, state.canary, state.previous) == ("1", None, None)
    assert Registry(get_default_uri(store)).find_champion("quick").version == "1"  # type: ignore[union-attr]
