"""The page of a store: values of its documents, and what it shows while the store cannot be read."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from endcap.errors import UserError
from endcap.experiments.decision_log import DecisionLog
from endcap.monitoring import MetricsPage, StoreCollector
from endcap.runs.fault import Fault
from endcap.runs.record import begin_run, end_run
from endcap.runs.start import Start
from endcap.store import Store, open_store
from tests.rollout.stories import tell_story

Labels = dict[str, str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    begin_run(store, "home-1", Start(pipeline="training", recommender="home", shop="demo"))
    return store


def read(collector: StoreCollector) -> dict[str, list[tuple[Labels, float]]]:
    return {metric.name: [(sample.labels, sample.value) for sample in metric.samples] for metric in collector.collect()}


def test_a_rollout_is_shown_as_its_log_has_it(store: Store) -> None:
    tell_story(store, -0.2, 30, refusals={"bot": 4})
    entry = DecisionLog(store, "home").find_last()
    assert entry is not None
    assert entry.evidence is not None
    collector = StoreCollector(store)
    collector.read()
    collector.read()
    shown = read(collector)
    of = {"recommender": "home", "version": "7"}
    state = entry.after
    info = {**of, "previous_version": "6", "phase": state.phase, "reason": state.reason}
    assert shown["endcap_rollout_info"] == [(info, 1.0)]
    assert shown["endcap_rollout_share"] == [(of, state.share)]
    assert shown["endcap_rollout_log_entries"] == [({"recommender": "home"}, entry.number + 1)]
    assert state.looked is not None
    assert shown["endcap_rollout_look_timestamp_seconds"] == [(of, state.looked.timestamp())]
    effects = {effect.metric: effect for effect in entry.evidence.effects}
    assert {labels["metric"]: value for labels, value in shown["endcap_rollout_effect"]} == {
        name: effect.effect for name, effect in effects.items()
    }
    assert {labels["metric"]: value for labels, value in shown["endcap_rollout_effect_upper"]} == {
        name: effect.upper for name, effect in effects.items() if effect.upper < float("inf")
    }
    rates = {(labels["version"], labels["metric"]): value for labels, value in shown["endcap_version_online_rate"]}
    ctr = effects["ctr"]
    assert rates["6", "ctr"] == ctr.stable_rate
    assert rates["7", "ctr"] == pytest.approx(ctr.stable_rate * (1 + ctr.effect))
    assert ({**of, "reason": "bot"}, 4.0) in shown["endcap_rollout_refused_reports"]


def test_a_failed_run_has_its_step_and_code(store: Store) -> None:
    end_run(store, "home-1", "failed", ["train"], Fault("no data", code="models.no-data"))
    collector = StoreCollector(store)
    collector.read()
    shown = read(collector)
    assert [labels["state"] for labels, _ in shown["endcap_run_state"]] == ["failed"]
    assert [labels["code"] for labels, _ in shown["endcap_run_state"]] == ["models.no-data"]
    assert [value for _, value in shown["endcap_runs_failed"]] == [1.0]


def test_what_cannot_be_read_keeps_its_values_and_its_age(store: Store) -> None:
    tell_story(store, 0.05, 3)
    collector = StoreCollector(store)
    collector.read()
    collector.read(only_often=True)
    before = read(collector)
    file = next(Path(store.root.removeprefix("file://")).rglob("log-0*.json"))
    file.write_text(json.dumps({"entries": "damaged"}))
    collector.read(only_often=True)
    after = read(collector)
    assert before["endcap_rollout_info"]
    assert after["endcap_rollout_info"] == before["endcap_rollout_info"]
    assert after["endcap_store_read_timestamp_seconds"] == before["endcap_store_read_timestamp_seconds"]
    assert [labels["part"] for labels, _ in after["endcap_store_read_errors"]] == ["rollouts"]


def test_the_page_answers_before_the_store_was_read(store: Store) -> None:
    page = MetricsPage(store, None, "127.0.0.1", 0)
    try:
        text = httpx.get(page.address, timeout=5).text
    finally:
        page.close()
    assert "endcap_store_read_seconds" in {family.name for family in text_string_to_metric_families(text)}


def test_a_port_that_is_taken_is_refused(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError) as refused:
        MetricsPage(store, None, "127.0.0.1", taken.getsockname()[1])
    assert refused.value.code == "monitoring.port-taken"
