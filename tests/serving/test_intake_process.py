"""The intake beside this machine's predictors, as versions with other policies come and go."""

import time
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from endcap.features.vocabulary import Vocabulary
from endcap.models import Fitting, make
from endcap.registry.package import write_package
from endcap.spec.recommender import Recommender
from endcap.store import Store, open_store
from endcap_serving.local.events import ServingEvent
from endcap_serving.local.intake_process import IntakeProcess
from tests.serving.conftest import N_ITEMS, sessions


def publish_package(store: Store, key: str, **sections: object) -> Path:
    spec = Recommender.model_validate(
        {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "shoes", "shop": "demo", **sections}
        | {"model": {"name": "popularity"}}
    )
    model = make(spec.model)
    model.fit(sessions(50, seed=1), N_ITEMS, Fitting(seed=1))
    ids = [f"i{number}" for number in range(N_ITEMS)]
    with store.publish("packages/shoes", key) as draft:
        write_package(
            draft.path,
            model=model,
            vocabulary=Vocabulary(ids),
            items=pa.table({"item": ids}),
            recommender=spec,
            customers=pa.array([], pa.string()),
            lineage={},
        )
    return store.fetch(draft.address)


@pytest.mark.slow
def test_segments_become_shorter_when_a_version_with_faster_looks_comes(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    plain = publish_package(store, "plain")
    fast = publish_package(store, "fast", rollout={"look_every": "2s"})
    events: list[ServingEvent] = []
    intake = IntakeProcess(store, "shoes", tmp_path, events.append)

    def settle(*packages: Path) -> tuple[int, str]:
        """Take turns until the intake answers. Returns its process and the age of its segments."""
        deadline = time.monotonic() + 90
        while True:
            intake.reconcile(packages)
            if intake.process is not None and not intake.is_replaced and intake.is_settled:
                arguments = Path(f"/proc/{intake.process.pid}/cmdline").read_text().split("\0")
                return intake.process.pid, arguments[arguments.index("--segment-age") + 1]
            assert time.monotonic() < deadline, events
            time.sleep(0.05)

    try:
        first = settle(plain)
        body = {"id": "e1", "session": "s1", "item": "i1", "type": "view"}
        address = f"http://127.0.0.1:{intake.upstream.port}/v1/events"
        assert httpx.post(address, json=body, timeout=30).status_code == 200
        second = settle(plain, fast)
        assert (first[1], second[1]) == ("300s", "1s")
        assert second[0] != first[0]
        assert settle(plain) == second, "longer segments are worth no restart"
        assert httpx.post(address, json=body, timeout=30).json()["duplicates"] == 1, "it knows the event"
        assert list((tmp_path / "store/intake/events").rglob("*.parquet")), "the first process sealed at its end"
        assert not events
    finally:
        intake.close()
        if intake.process is not None:
            intake.process.ask_to_end()
            intake.process.end(30)
