"""The page of a store: values of its documents, and what it shows while the store cannot be read."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from endcap.deploy.ab_arms import begin_ab
from endcap.deploy.state import Deployment, Target, write_state
from endcap.errors import UserError
from endcap.experiments.ab_log import AbLog
from endcap.experiments.ab_state import AbCommand
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.rollout_state import RolloutCommand
from endcap.experiments.splits import TOTAL_WEIGHT
from endcap.monitoring import MetricsPage, StoreCollector
from endcap.runs.fault import Fault
from endcap.runs.record import begin_run, end_run
from endcap.runs.start import Start
from endcap.store import Store, open_store
from tests.ab import stories as ab_stories
from tests.ab.states import EPOCH, START, VERSIONS, make_evidence, make_policy
from tests.rollout.stories import POLICY, tell_story

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


def test_an_ab_test_is_shown_as_its_log_has_it(store: Store) -> None:
    now = ab_stories.tell_story(store)
    log = AbLog(store, "home")
    entry = log.find_last()
    assert entry is not None
    assert entry.evidence is not None
    assert entry.decision is not None
    assert entry.decision.allocation is not None
    collector = StoreCollector(store)
    collector.read()
    shown = read(collector)
    name, state = {"recommender": "home"}, entry.after
    info = {**name, "stable_version": "6", "phase": "running", "reason": state.reason}
    assert shown["endcap_ab_info"] == [(info, 1.0)]
    assert shown["endcap_ab_running"] == [(name, 1.0)]
    assert shown["endcap_ab_epoch"] == [(name, state.epoch + 1)]
    assert shown["endcap_ab_look_timestamp_seconds"] == [(name, now.timestamp())]
    assert shown["endcap_ab_look_every_seconds"] == [(name, 600.0)]
    shares = {labels["version"]: value for labels, value in shown["endcap_ab_share"]}
    weights = state.layout.weights
    stays = {"6": "stable", "8": "challenger-2", "9": "challenger-3"}
    assert shares == {version: weights[arm] / TOTAL_WEIGHT for version, arm in stays.items()}  # type: ignore[index]
    best = entry.decision.allocation.best
    assert {labels["version"]: value for labels, value in shown["endcap_ab_best_probability"]} == {
        version: best[arm]  # type: ignore[index]
        for version, arm in stays.items()
    }
    deciding = {each.version: each.effects[0] for each in entry.evidence.challengers}
    for ending, side in (("", "effect"), ("_lower", "lower"), ("_upper", "upper")):
        assert shown[f"endcap_ab_effect{ending}"] == [
            ({**name, "version": version, "metric": "ctr"}, getattr(effect, side))
            for version, effect in deciding.items()
        ]


def test_an_ab_test_that_holds_or_is_over_says_so(store: Store) -> None:
    now = ab_stories.tell_story(store)
    log, collector = AbLog(store, "home"), StoreCollector(store)
    state = log.find_last().after  # type: ignore[union-attr]
    log.look(make_evidence(state, now, impressions_until=None), make_policy(draws=1_000), now)
    collector.read()
    shown = read(collector)
    assert [(labels["phase"], labels["reason"]) for labels, _ in shown["endcap_ab_info"]] == [("holding", "no-feed")]
    assert shown["endcap_ab_best_probability"] == []
    log.command(AbCommand("stop", "ann"), now)
    collector.read()
    shown = read(collector)
    assert [labels["phase"] for labels, _ in shown["endcap_ab_info"]] == ["kept"]
    assert [value for _, value in shown["endcap_ab_running"]] == [0.0]
    assert shown["endcap_ab_share"] == shown["endcap_ab_effect"] == []


def test_a_guard_that_rests_during_an_ab_test_is_not_shown_as_running(store: Store) -> None:
    log = DecisionLog(store, "home")
    log.begin("7", "packages/home/b", "6", "packages/home/a", POLICY, START)
    log.command(RolloutCommand("promote", "ann"), POLICY, START + EPOCH)
    stable = Target(version="7", package="packages/home/b")
    write_state(Deployment(recommender="home", stable=stable, salt="a1", changed=START), store)
    collector = StoreCollector(store)
    collector.read()
    assert [value for _, value in read(collector)["endcap_rollout_running"]] == [1.0]
    test = AbLog(store, "home").begin(("7", "packages/home/b"), VERSIONS[1:], make_policy(), START + EPOCH).after
    challengers = [Target(version=each.version, package=each.package) for each in test.challengers]
    begin_ab("home", challengers, test.layout, test.salt, store)
    collector.read()
    shown = read(collector)
    assert [value for _, value in shown["endcap_rollout_running"]] == [0.0]
    assert {labels["variant"]: value for labels, value in shown["endcap_deployment_share"]} == {
        "stable": pytest.approx(1 / 3, abs=1e-5),
        "challenger-1": pytest.approx(1 / 3, abs=1e-5),
        "challenger-2": pytest.approx(1 / 3, abs=1e-5),
    }


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
