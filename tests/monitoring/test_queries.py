"""Every query of dashboards and alerts, asked of a real Prometheus that scrapes a real shop."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from endcap.registry import Registry, get_default_uri
from endcap.replay.metrics import keep_report
from endcap.replay.reasons import LATE_EVENT
from endcap.replay.report import Check, ReplayReport
from endcap.rollout.controller import RolloutController
from endcap.runs.record import begin_run, end_run
from endcap.runs.start import Start
from endcap.schedules.ledger import ScheduleLedger, update_ledger
from endcap.schedules.metrics import declare_schedules
from endcap.spec.schedule import PartSchedule
from endcap.store import Store
from tests.ab.states import EPOCH
from tests.ab.stories import tell_story
from tests.monitoring.prometheus import CHART, Prometheus, read_rules, run_prometheus
from tests.monitoring.shop import read_names, run_shop
from tests.serving.pod import wait_for
from tests.serving.test_rollout_loop import POLICY, make_store

DASHBOARDS = sorted((CHART / "monitoring" / "dashboards").glob("*.json"))
_NAME = re.compile(r"\b(?:endcap|envoy|process|up)(?:_\w+)?\b(?=[{\[ )])")
_NO_METRICS = {"up", "endcap_component", "envoy_cluster_name", "envoy_response_code_class"}
"""Names of labels, and of what Prometheus itself makes."""
_ONLY_IN_TROUBLE = (
    "endcap_degraded_total",
    "endcap_fallbacks_total",
    "endcap_gpus_missing",
    "endcap_online_store_seconds",
    "endcap_online_store_unreadable_total",
    "endcap_package_mismatch",
    "endcap_request_samples_total",
    "endcap_intake_rejected_total",
    "endcap_intake_duplicates_total",
    "endcap_rollout_problem",
    "endcap_rollout_refused_reports",
    "endcap_store_read_errors_total",
    'status="500"',
)
"""Metrics that have no samples while all is well."""


@dataclass(frozen=True)
class Shown:
    """A query as Grafana sends it, with all values of the variables chosen."""

    where: str
    expression: str


def list_queries() -> list[Shown]:
    queries = []
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                expression = re.sub(r"\$(namespace|recommender|metric)\b", ".*", target["expr"])
                expression = expression.replace("$__rate_interval", "15s")
                queries.append(Shown(f"{file.stem}: {panel['title']}", expression))
    return queries


def list_variables() -> list[tuple[str, str]]:
    """The queries of variables: a series and the label whose values are the choices."""
    texts = [
        variable["query"]
        for file in DASHBOARDS
        for variable in json.loads(file.read_text())["templating"]["list"]
        if variable["type"] == "query"
    ]
    matches = [re.fullmatch(r"label_values\((.+), (\w+)\)", text) for text in texts]
    return [(match[1], match[2]) for match in matches if match is not None]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, set[str]]]:
    folder = tmp_path_factory.mktemp("shop")
    store = make_store(folder / "store", {**POLICY, "margin": 0.001})
    keep_history(store, "quick")
    RolloutController(store, "quick").start("2")
    keep_history(store, "home")
    tell_story(store, 4, start=datetime.now(UTC) - 4 * EPOCH)
    with run_shop(store, "quick") as pages, run_prometheus(folder / "prometheus", pages) as prometheus:
        wait_for(lambda: bool(prometheus.query("endcap_rollout_effect_upper")), "there is a look", 90)
        wait_for(lambda: bool(prometheus.query("endcap_run_state")), "there is a run", 90)
        yield prometheus, read_names(pages)


def keep_history(store: Store, recommender: str) -> None:
    """A version with a verdict, a run of each pipeline, and lists."""
    with store.publish(f"verdicts/{recommender}", "v3") as draft:
        draft.facts["metrics"] = {"challenger": {"mrr@20": 0.2, "hit@20": 0.5}}
    registry = Registry(get_default_uri(store))
    registry.add_version(recommender, draft.address, "pending", "a test", {"verdict": draft.address})
    for pipeline in ("training", "recommend"):
        run = f"{recommender}-{pipeline}"
        begin_run(store, run, Start(pipeline=pipeline, recommender=recommender, shop="demo"))
        end_run(store, run, "succeeded", ["train"])
    nightly = PartSchedule(cron="0 3 * * *", late_after=timedelta(days=2))
    declare_schedules(store, recommender, {"train": nightly})
    now = datetime.now(UTC)
    succeeded = ScheduleLedger().change(succeeded_at=now).count("succeeded", "")
    update_ledger(store, recommender, "train", lambda _: succeeded)
    late = Check(Counter({LATE_EVENT: 1}), Counter({LATE_EVENT: 1}))
    keep_report(store, ReplayReport(recommender, now - EPOCH, now, 1, {"1": 1}, {"log": late}, now, 0.1), 0.0)
    with store.publish(f"recommendations/{recommender}", "l1") as draft:
        draft.facts |= {"version": "1", "made": time.time_ns() // 1_000_000, "customers": 10, "filled": 0.9}


@pytest.mark.slow
def test_every_query_of_a_dashboard_shows_something(scraped: tuple[Prometheus, set[str]]) -> None:
    prometheus, names = scraped
    for query in list_queries():
        assert set(_NAME.findall(query.expression)) - _NO_METRICS <= names, query
        is_shown = partial(prometheus.query, query.expression)
        # A rate needs two readings, and a rule of Prometheus an evaluation.
        if not is_shown() and not any(name in query.expression for name in _ONLY_IN_TROUBLE):
            wait_for(lambda is_shown=is_shown: bool(is_shown()), str(query), 60)


@pytest.mark.slow
def test_rules_read_metrics_that_exist_and_are_quiet(scraped: tuple[Prometheus, set[str]]) -> None:
    prometheus, names = scraped
    for rule in (*read_rules("alert").values(), *read_rules("record").values()):
        assert set(_NAME.findall(rule["expr"])) - _NO_METRICS <= names, rule
        prometheus.query(rule["expr"])

    def list_rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    wait_for(lambda: "unknown" not in {rule["health"] for rule in list_rules()}, "each rule was evaluated", 60)
    rules = list_rules()
    assert {rule["health"] for rule in rules} == {"ok"}
    # The first look of the rollout met no shopper, and says so.
    assert {rule["name"] for rule in rules if rule.get("alerts")} <= {"EndcapRolloutAttention"}
    versions = {sample["metric"]["version"] for sample in prometheus.query("endcap_model_info")}
    assert versions == {"1", "2"}


@pytest.mark.slow
def test_variables_have_choices(scraped: tuple[Prometheus, set[str]]) -> None:
    prometheus, _ = scraped
    assert list_variables()
    for series, label in list_variables():
        wait_for(lambda series=series: bool(prometheus.query(series)), series, 60)
        samples = prometheus.query(series)
        # There are no namespaces on a laptop.
        assert label == "namespace" or all(label in sample["metric"] for sample in samples), series


@pytest.mark.slow
def test_a_page_that_cannot_be_scraped_alerts(tmp_path: Path) -> None:
    with run_prometheus(tmp_path, {"gateway": "http://127.0.0.1:9/metrics"}) as prometheus:
        wait_for(lambda: bool(prometheus.ask("alerts")["alerts"]), "it alerts", 90)
        alerts = prometheus.ask("alerts")["alerts"]
    assert alerts[0]["labels"]["alertname"] == "EndcapGatewayDown"
    assert "<error" not in alerts[0]["annotations"]["description"]
