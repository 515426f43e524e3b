"""What a run tells: a failed run by its report step, a verdict by the evaluate step."""

from __future__ import annotations

import json

import pytest

from endcap.messages.addresses import VARIABLE
from endcap.runs.fault import Fault
from endcap.runs.record import begin_run, end_run
from endcap.runs.start import Start
from endcap.store import Store
from endcap_components.messages import tell_failed_run, tell_verdict
from endcap_components.reuse import check_reuse
from tests.messages.receiver import Receiver

FACTS = {
    "outcome": "failed",
    "conditions": [{"text": "mrr@20 above the champion", "passed": False}],
    "evidence": {"lacking": []},
    "metrics": {"challenger": {"mrr@20": 0.1}, "popularity": {"mrr@20": 0.2}},
    "dataset": "datasets/demo/d1",
}


def test_a_failed_run_is_told_once_with_step_and_code(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        monkeypatch.setenv(VARIABLE, f"json+{receiver.url}")
        begin_run(store, "home-1", Start(pipeline="training", recommender="home", shop="demo"))
        document = end_run(store, "home-1", "failed", ["train"], Fault("no session", code="features.no-session"))
        for _ in range(2):
            tell_failed_run(store.root, document)
        tell_failed_run(store.root, {**document, "run": "home-2", "state": "succeeded"})
    (body,) = map(json.loads, receiver.bodies)
    assert (body["kind"], body["run"], body["facts"]["code"]) == ("run.failed", "home-1", "features.no-session")
    assert body["recommender"] == "home"


def test_a_verdict_is_told_with_its_metrics_and_data(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.publish("verdicts/home", "v1") as draft:
        draft.facts |= FACTS
    with Receiver() as receiver:
        monkeypatch.setenv(VARIABLE, f"json+{receiver.url}")
        with check_reuse():
            tell_verdict(store.root, draft.address, "home", "home-1")
        assert not receiver.bodies
        tell_verdict(store.root, draft.address, "home", "home-1")
    (body,) = map(json.loads, receiver.bodies)
    assert (body["kind"], body["metrics"], body["dataset"]) == ("gate.failed", {"mrr@20": 0.1}, "datasets/demo/d1")


def test_a_store_that_is_not_there_costs_the_message_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:9/x")
    tell_failed_run("/proc/none/store", {"run": "home-1", "state": "failed"})
